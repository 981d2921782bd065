"""Families of checkpoints. A new one is one file here and one import below."""

from workbench.checkpoints.families import gguf_llama as _gguf_llama  # noqa: F401
from workbench.checkpoints.families import gpt2 as _gpt2  # noqa: F401
from workbench.checkpoints.families import llama as _llama  # noqa: F401
from workbench.checkpoints.families.base import GGUF_FAMILIES, HF_FAMILIES, Family

__all__ = ["GGUF_FAMILIES", "HF_FAMILIES", "Family"]
