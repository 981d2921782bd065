"""BERT with its masked-token head: every token sees every other, LayerNorm after each branch, learned positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.checkpoints.families.base import HF_FAMILIES, Family, epsilon_of
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.table import Table, Take
from workbench.model import ModelConfig

_LAYER, _BLOCK = "bert.encoder.layer.{n}.", "blocks.{n}."
_NORMS = {
    "bert.embeddings.LayerNorm.": "embedding_norm.",
    _LAYER + "attention.output.LayerNorm.": _BLOCK + "residual.attention_norm.",
    _LAYER + "output.LayerNorm.": _BLOCK + "residual.mlp_norm.",
    "cls.predictions.transform.LayerNorm.": "head_transform.norm.",
}
TABLE: Table = {
    "bert.embeddings.word_embeddings.weight": "embedding.weight",
    "bert.embeddings.position_embeddings.weight": "position.weight",
    "bert.embeddings.token_type_embeddings.weight": "segment_embedding.weight",
    **{theirs + "{p}": ours + "{p}" for theirs, ours in _NORMS.items()},
    _LAYER + "attention.self.query.{p}": _BLOCK + "attention.q_proj.{p}",
    _LAYER + "attention.self.key.{p}": _BLOCK + "attention.k_proj.{p}",
    _LAYER + "attention.self.value.{p}": _BLOCK + "attention.v_proj.{p}",
    _LAYER + "attention.output.dense.{p}": _BLOCK + "attention.o_proj.{p}",
    _LAYER + "intermediate.dense.{p}": _BLOCK + "mlp.up_proj.{p}",
    _LAYER + "output.dense.{p}": _BLOCK + "mlp.down_proj.{p}",
    "cls.predictions.transform.dense.{p}": "head_transform.dense.{p}",
    "cls.predictions.decoder.weight": "lm_head.weight",
    # transformers' class adds the decoder's, and ties the other to it together with the matrix
    "cls.predictions.decoder.bias": Take(("lm_head.bias",), when=lambda config: not config.tie_embeddings),
    "cls.predictions.bias": Take(("lm_head.bias",), spare=True),
    # the first files call a norm's gain and offset as the paper did
    **{theirs + "gamma": Take((ours + "weight",), spare=True) for theirs, ours in _NORMS.items()},
    **{theirs + "beta": Take((ours + "bias",), spare=True) for theirs, ours in _NORMS.items()},
    "bert.embeddings.position_ids": None,  # a buffer saved by old versions
    "bert.pooler.dense.{p}": None,  # these two guess whether one sentence follows the other
    "cls.seq_relationship.{p}": None,
}


def read(settings: Settings) -> Mapping[str, Any]:
    settings.refuse("position_embedding_type", ("absolute",))
    settings.refuse("is_decoder", (False,))
    settings.refuse("add_cross_attention", (False,))
    settings.refuse("hidden_act", ("gelu",))  # the head's transform uses it too
    heads = settings.integer("num_attention_heads")
    return {
        "vocab_size": settings.integer("vocab_size"),
        "n_layers": settings.integer("num_hidden_layers"),
        "d_model": settings.integer("hidden_size"),
        "n_heads": heads,
        "n_kv_heads": None,
        "head_dim": None,
        "d_ff": settings.integer("intermediate_size"),
        "max_positions": settings.integer("max_position_embeddings", default=512),
        "position": "learned",
        "norm": {"kind": "layernorm", "eps": settings.number("layer_norm_eps", default=1e-12)},
        "residual": "post",
        "mlp": "gelu",
        "causal": False,
        "attention_bias": True,
        "attention_out_bias": True,
        "mlp_bias": True,
        "embedding_norm": True,
        "segment_types": settings.integer("type_vocab_size", default=2),
        "head_transform": True,
        "head_bias": True,
        "final_norm": False,
    }


def write(config: ModelConfig) -> Mapping[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "num_hidden_layers": config.n_layers,
        "hidden_size": config.d_model,
        "num_attention_heads": config.n_heads,
        "intermediate_size": config.hidden,
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": config.segment_types,
        "layer_norm_eps": epsilon_of(config),
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "tie_word_embeddings": config.tie_embeddings,
    }


@HF_FAMILIES.register(
    "bert",
    label="BERT",
    source="arXiv:1810.04805",
    help="BERT with its masked-token head (BertForMaskedLM); it fills in, it does not write.",
)
def bert() -> Family:
    return Family(TABLE, read, write, prefix="bert.", architecture="BertForMaskedLM", tied_by_default=True)
