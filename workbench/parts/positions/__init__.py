"""Position encodings. A new kind is one file here and one import below."""

from workbench.parts.positions import alibi as _alibi  # noqa: F401
from workbench.parts.positions import learned as _learned  # noqa: F401
from workbench.parts.positions import none as _none  # noqa: F401
from workbench.parts.positions import rope as _rope  # noqa: F401
from workbench.parts.positions import sinusoidal as _sinusoidal  # noqa: F401
from workbench.parts.positions.base import POSITIONS, Position

__all__ = ["POSITIONS", "Position"]
