"""GGUF files of the architectures llama (Mistral exports too), qwen2 and qwen3 (llama.cpp's names).

llama.cpp's converter stores q and k of "llama" files for neighbouring-pair rotation; they are put back into half-split order,
the one of Hugging Face's files, so that adapters fit whichever file the base came from. Qwen files are not permuted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.checkpoints.families.base import GGUF_FAMILIES, Family
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.table import Table, Take, pair_order
from workbench.core.errors import ModelError

QWEN_TABLE: Table = {
    "token_embd.weight": "embedding.weight",
    "blk.{n}.attn_norm.weight": "blocks.{n}.residual.attention_norm.weight",
    "blk.{n}.attn_q.{p}": "blocks.{n}.attention.q_proj.{p}",
    "blk.{n}.attn_k.{p}": "blocks.{n}.attention.k_proj.{p}",
    "blk.{n}.attn_v.{p}": "blocks.{n}.attention.v_proj.{p}",
    "blk.{n}.attn_output.{p}": "blocks.{n}.attention.o_proj.{p}",
    "blk.{n}.attn_q_norm.weight": "blocks.{n}.attention.q_norm.weight",
    "blk.{n}.attn_k_norm.weight": "blocks.{n}.attention.k_norm.weight",
    "blk.{n}.ffn_norm.weight": "blocks.{n}.residual.mlp_norm.weight",
    "blk.{n}.ffn_gate.{p}": "blocks.{n}.mlp.gate_proj.{p}",
    "blk.{n}.ffn_up.{p}": "blocks.{n}.mlp.up_proj.{p}",
    "blk.{n}.ffn_down.{p}": "blocks.{n}.mlp.down_proj.{p}",
    "output_norm.weight": "final_norm.weight",
    "output.weight": "lm_head.weight",
    "rope_freqs.weight": None,  # all ones, or the file is refused (see `_read`)
}
LLAMA_TABLE: Table = {
    **QWEN_TABLE,
    "blk.{n}.attn_q.{p}": Take(("blocks.{n}.attention.q_proj.{p}",), order=pair_order(lambda config: config.n_heads)),
    "blk.{n}.attn_k.{p}": Take(("blocks.{n}.attention.k_proj.{p}",), order=pair_order(lambda config: config.kv_heads)),
}


def _read(settings: Settings) -> Mapping[str, Any]:
    settings.refuse("expert_count", (0,))
    settings.refuse("rope.scaling.type", ("none",))
    settings.refuse("rope.scale_linear", (1.0,))
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
        "position": {
            "kind": "rope",
            "base": settings.number("rope.freq_base", default=10000.0),
            "style": "half",
            "rotary_fraction": rotary / head_width if head_width else 1.0,
        },
        "norm": {"kind": "rmsnorm", "eps": settings.number("attention.layer_norm_rms_epsilon", default=1e-5)},
        "residual": "pre",
        "mlp": "swiglu",
        "final_norm": True,
        "qk_norm": "head" if "blk.0.attn_q_norm.weight" in tensors else "off",
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "attention_out_bias": "blk.0.attn_output.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
        "sliding_window": settings.integer("attention.sliding_window", default=0) or None,
    }


@GGUF_FAMILIES.register(
    "llama", label="LLaMA", help="LLaMA, Mistral and SmolLM conversions without RoPE scaling.", source="github.com/ggml-org/llama.cpp"
)
def llama() -> Family:
    return Family(LLAMA_TABLE, _read)


@GGUF_FAMILIES.register("qwen2", label="Qwen2", help="Qwen2 and Qwen2.5 conversions.", source="github.com/ggml-org/llama.cpp")
def qwen2() -> Family:
    return Family(QWEN_TABLE, _read)


@GGUF_FAMILIES.register("qwen3", label="Qwen3", help="Conversions of dense Qwen3 models.", source="github.com/ggml-org/llama.cpp")
def qwen3() -> Family:
    return Family(QWEN_TABLE, _read)
