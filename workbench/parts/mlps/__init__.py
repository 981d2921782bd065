"""MLP kinds. A new kind is one file here and one import below."""

from workbench.parts.mlps import gated as _gated  # noqa: F401
from workbench.parts.mlps import plain as _plain  # noqa: F401
from workbench.parts.mlps.base import MLPS

__all__ = ["MLPS"]
