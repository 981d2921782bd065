"""Families of checkpoints. A new one is one file here and one import below."""

from workbench.checkpoints.families import bert as _bert  # noqa: F401
from workbench.checkpoints.families import bloom as _bloom  # noqa: F401
from workbench.checkpoints.families import falcon as _falcon  # noqa: F401
from workbench.checkpoints.families import gemma2 as _gemma2  # noqa: F401
from workbench.checkpoints.families import gguf_gpt2 as _gguf_gpt2  # noqa: F401
from workbench.checkpoints.families import gguf_llama as _gguf_llama  # noqa: F401
from workbench.checkpoints.families import gpt1 as _gpt1  # noqa: F401
from workbench.checkpoints.families import gpt2 as _gpt2  # noqa: F401
from workbench.checkpoints.families import gpt_neox as _gpt_neox  # noqa: F401
from workbench.checkpoints.families import llama as _llama  # noqa: F401
from workbench.checkpoints.families import olmo2 as _olmo2  # noqa: F401
from workbench.checkpoints.families import phi as _phi  # noqa: F401
from workbench.checkpoints.families import smollm3 as _smollm3  # noqa: F401
from workbench.checkpoints.families.base import GGUF_FAMILIES, HF_ALIASES, HF_FAMILIES, Family

__all__ = ["GGUF_FAMILIES", "HF_ALIASES", "HF_FAMILIES", "Family"]
