"""One decoder-only transformer, built from a config and nothing else."""

from workbench.model.accounting import Accounting, Comparison, account, compare
from workbench.model.build import build_model
from workbench.model.config import ModelConfig
from workbench.model.presets import PRESETS, Preset
from workbench.model.transformer import Transformer

__all__ = ["PRESETS", "Accounting", "Comparison", "ModelConfig", "Preset", "Transformer", "account", "build_model", "compare"]
