"""What compression does to a model's predictions, measured through the cache and told honestly."""

from workbench.quality.figures import LABELS
from workbench.quality.measure import FLOOR, QualityEvent, measure
from workbench.quality.request import QualityConfig, QualityReport, QualityRequest, QualityRow, QualitySide

__all__ = ["FLOOR", "LABELS", "QualityConfig", "QualityEvent", "QualityReport", "QualityRequest", "QualityRow", "QualitySide", "measure"]
