"""GGUF files of the architectures llama (Mistral exports too), qwen2 and qwen3 (llama.cpp's names).

llama.cpp's converter stores q and k of "llama" files for neighbouring-pair rotation; they are put back into half-split order,
the one of Hugging Face's files, so that adapters fit whichever file the base came from. Qwen files are not permuted.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from workbench.checkpoints.families.base import GGUF_FAMILIES, Family, epsilon_of
from workbench.checkpoints.families.gguf_rope import DIVISORS, read_rope, write_divisors, write_rope
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.table import Table, Take, pair_order
from workbench.core.errors import ModelError
from workbench.model import ModelConfig

_ATTENTION, _MLP, _NORMS = "blocks.{n}.attention.", "blocks.{n}.mlp.", "blocks.{n}.residual."
_PLAIN: Table = {
    "token_embd.weight": "embedding.weight",
    "blk.{n}.attn_norm.weight": _NORMS + "attention_norm.weight",
    "blk.{n}.ffn_norm.weight": _NORMS + "mlp_norm.weight",
    "output_norm.weight": "final_norm.weight",
    "output.weight": "lm_head.weight",
}
"""Each table has the tensors that llama.cpp looks for under its architecture; it refuses files with others."""
LLAMA_TABLE: Table = {
    **_PLAIN,
    "blk.{n}.attn_q.{p}": Take((_ATTENTION + "q_proj.{p}",), order=pair_order(lambda config: config.n_heads)),
    "blk.{n}.attn_k.{p}": Take((_ATTENTION + "k_proj.{p}",), order=pair_order(lambda config: config.kv_heads)),
    "blk.{n}.attn_v.{p}": _ATTENTION + "v_proj.{p}",
    "blk.{n}.attn_output.{p}": _ATTENTION + "o_proj.{p}",
    "blk.{n}.ffn_gate.{p}": _MLP + "gate_proj.{p}",
    "blk.{n}.ffn_up.{p}": _MLP + "up_proj.{p}",
    "blk.{n}.ffn_down.{p}": _MLP + "down_proj.{p}",
    DIVISORS: None,  # a setting, see `gguf_rope`
}
_QWEN: Table = {
    **_PLAIN,
    "blk.{n}.attn_output.weight": _ATTENTION + "o_proj.weight",
    "blk.{n}.ffn_gate.weight": _MLP + "gate_proj.weight",
    "blk.{n}.ffn_up.weight": _MLP + "up_proj.weight",
    "blk.{n}.ffn_down.weight": _MLP + "down_proj.weight",
}
QWEN2_TABLE: Table = {**_QWEN, **{f"blk.{{n}}.attn_{x}.{{p}}": f"{_ATTENTION}{x}_proj.{{p}}" for x in "qkv"}}
QWEN3_TABLE: Table = {
    **_QWEN,
    **{f"blk.{{n}}.attn_{x}.weight": f"{_ATTENTION}{x}_proj.weight" for x in "qkv"},
    **{f"blk.{{n}}.attn_{x}_norm.weight": f"{_ATTENTION}{x}_norm.weight" for x in "qk"},
}


def _read(settings: Settings, **specific: Any) -> Mapping[str, Any]:
    """What the three have in common; `specific` fields of `ModelConfig` replace what the tensors say."""
    settings.refuse("expert_count", (0,))
    settings.refuse("attn_logit_softcapping", (0.0,))
    tensors = settings.tensors
    if "token_embd.weight" not in tensors:
        raise ModelError(f"{settings.where} has no token_embd.weight.", hint="It is not a text model, or it is one part of a split file.")
    heads = settings.integer("attention.head_count")
    width = settings.integer("embedding_length")
    head_width = settings.integer("attention.key_length", default=width // heads if heads else 0)
    rotary = settings.integer("rope.dimension_count", default=head_width)
    if settings.integer("attention.value_length", default=head_width) != head_width:
        raise ModelError(f"{settings.where}: keys and values differ in width, which is not supported.", hint="Choose another model.")
    return {
        "vocab_size": settings.integer("vocab_size", default=tensors["token_embd.weight"].shape[0]),
        "n_layers": settings.integer("block_count"),
        "d_model": width,
        "n_heads": heads,
        "n_kv_heads": settings.integer("attention.head_count_kv", default=heads),
        "head_dim": None if head_width * heads == width else head_width,
        "d_ff": settings.integer("feed_forward_length"),
        "max_positions": settings.integer("context_length"),
        "position": read_rope(settings, rotary / head_width if head_width else 1.0, head_width),
        "norm": {"kind": "rmsnorm", "eps": settings.number("attention.layer_norm_rms_epsilon", default=1e-5)},
        "residual": "pre",
        "mlp": "swiglu",
        "final_norm": True,
        "qk_norm": "head" if "blk.0.attn_q_norm.weight" in tensors else "off",
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "attention_out_bias": "blk.0.attn_output.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
        "sliding_window": settings.integer("attention.sliding_window", default=0) or None,
        **specific,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """What llama.cpp reads of such a model. A rotated part of a head or a window is not among it: `dimension_count` must be the
    head's width, and no architecture here looks at `attention.sliding_window`."""
    return {
        "vocab_size": config.vocab_size,
        "context_length": config.max_positions,
        "embedding_length": config.d_model,
        "block_count": config.n_layers,
        "feed_forward_length": config.hidden,
        "attention.head_count": config.n_heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.layer_norm_rms_epsilon": epsilon_of(config),
        **write_rope(config),
    }


def _write_wide(config: ModelConfig) -> dict[str, Any]:
    """`write`, for architectures whose heads may have a width of their own."""
    if config.head_width * config.n_heads == config.d_model:
        return write(config)
    return {**write(config), "attention.key_length": config.head_width, "attention.value_length": config.head_width}


@GGUF_FAMILIES.register("qwen2", label="Qwen2", help="Qwen2 and Qwen2.5 conversions.", source="github.com/ggml-org/llama.cpp")
def qwen2() -> Family:
    return Family(QWEN2_TABLE, partial(_read, attention_bias=True), write)


@GGUF_FAMILIES.register("qwen3", label="Qwen3", help="Conversions of dense Qwen3 models.", source="github.com/ggml-org/llama.cpp")
def qwen3() -> Family:
    return Family(QWEN3_TABLE, partial(_read, qk_norm="head"), _write_wide)


@GGUF_FAMILIES.register("llama", label="LLaMA", help="LLaMA, Mistral and SmolLM conversions.", source="github.com/ggml-org/llama.cpp")
def llama() -> Family:
    return Family(LLAMA_TABLE, _read, _write_wide, extras=write_divisors)
