"""What each change of an architecture does to the weights. One file per part; a rule gives verdict and surgery together."""

from workbench.model.conversion.base import APPROXIMATE, EXACT, FRESH, VERDICTS, Rule, State, Step, Weights, resolved, tensor_suffix, worst
from workbench.model.conversion.biases import biases_off, biases_on
from workbench.model.conversion.embeddings import (
    embedding_norm,
    embedding_scale,
    head_transform,
    segments,
    softcaps,
    tie,
    untie,
    vocabulary,
)
from workbench.model.conversion.heads import head_width, heads, score_scale
from workbench.model.conversion.layers import fewer_layers, more_layers
from workbench.model.conversion.masks import causal, windows
from workbench.model.conversion.mlps import mlp_kind, narrower_mlp, wider_mlp
from workbench.model.conversion.norms import epsilon, norm
from workbench.model.conversion.placement import final_norm, placement
from workbench.model.conversion.positions import context, nope, other_kind, other_options, to_table
from workbench.model.conversion.qk_norms import qk_norm, qk_norm_off
from workbench.model.conversion.rotary import rotary_options
from workbench.model.conversion.width import width

RULES: tuple[Rule, ...] = (
    fewer_layers, untie, biases_on, to_table, qk_norm_off, norm, embedding_norm, head_transform, width, epsilon,
    placement, final_norm, heads, head_width, qk_norm, score_scale, nope, context, rotary_options, other_kind, other_options,
    windows, causal, softcaps, narrower_mlp, mlp_kind, wider_mlp, embedding_scale, segments, biases_off, tie, vocabulary, more_layers,
)  # fmt: skip
"""In this order: what makes room comes first (heads of their own, biases), what takes it away last, and new rows and blocks at
the very end, in the shapes they keep."""

__all__ = [
    "APPROXIMATE", "EXACT", "FRESH", "RULES", "VERDICTS", "Rule", "State", "Step", "Weights", "resolved", "tensor_suffix", "worst",
]  # fmt: skip
