"""The registry of norms."""

from __future__ import annotations

from torch import nn

from workbench.core.registry import Registry

NORMS: Registry[nn.Module] = Registry("norm")
"""Each kind is built as `make(width=C, device=…, dtype=…, **options)` and maps x [..., C] to [..., C] in x's dtype.

Parameters are named `weight` (the gain) and `bias`. Statistics are computed in float32 whatever the input.
"""
