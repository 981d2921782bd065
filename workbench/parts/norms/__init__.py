"""Norm kinds. A new kind is one file here and one import below."""

from workbench.parts.norms import layernorm as _layernorm  # noqa: F401
from workbench.parts.norms import none as _none  # noqa: F401
from workbench.parts.norms import rmsnorm as _rmsnorm  # noqa: F401
from workbench.parts.norms.base import NORMS

__all__ = ["NORMS"]
