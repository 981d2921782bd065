"""Learned positions to sinusoidal ones, by least squares.

A stream behind norms that only look at lengths may be turned and scaled as a whole: what writes to it is turned, what reads it
is turned back, and the model computes the same. Sinusoidal positions cannot be chosen, but the turn and the scale can: the best
orthogonal map from the learned table to the waves (Schönemann 1966) leaves as small a difference as there is, and a constant
difference goes into the token embeddings. LayerNorm also takes the mean out, so the turn must leave that direction alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from workbench.model.config import ModelConfig
from workbench.model.conversion.base import Weights, option
from workbench.model.conversion.embeddings import embedding_factor, segment_factor
from workbench.model.conversion.norms import centre_stream, readers
from workbench.parts.positions.sinusoidal import sinusoids

_FAINTEST = 1e4
"""How many times larger than its waves a stream is made at most."""
_WRITERS = ("attention.o_proj", "mlp.down_proj")


def fitting_obstacles(config: ModelConfig) -> tuple[list[str], dict[str, Any]]:
    """(why the stream cannot be turned, settings that would mend it)."""
    found, needs = [], {}
    if config.tie_embeddings:
        found.append("a tied head cannot read a turned stream")
        needs["tie_embeddings"] = False
    if readers(config) is None:
        found.append("in this placement norms write to the stream")
    if config.norm.kind not in ("layernorm", "rmsnorm"):
        found.append("this kind of norm does not allow the stream to be turned")
    if config.embedding_norm or not config.has_final_norm:
        found.append("the stream is not read through norms alone")
    return found, needs if len(found) == len(needs) else {}


def fit_waves(weights: Weights, now: ModelConfig, after: ModelConfig) -> None:
    layernorm = now.norm.kind == "layernorm"
    if layernorm:
        centre_stream(weights, now)
    table = weights["position.weight"].double()
    where = torch.arange(table.shape[0], device=table.device)
    read = ~table.isnan().any(1)  # rows that are still to be drawn are left out
    table, where = table[read], where[read]
    waves = sinusoids(where, now.d_model, after.position.options.base).double()
    if layernorm:
        waves = waves - waves.mean(1, keepdim=True)
    turn, scale = procrustes(table - table.mean(0), waves - waves.mean(0), keep_mean=layernorm)
    shift = scale * (table.mean(0) @ turn.t()) - waves.mean(0)
    _turn_stream(weights, now, turn.to(weights["embedding.weight"].dtype), scale, shift, after)
    weights.drop("position.weight")


def procrustes(source: Tensor, target: Tensor, keep_mean: bool) -> tuple[Tensor, float]:
    """(orthogonal Q [C, C], scale s) with target · Q / s nearest to source, both [N, C] and centred; Q keeps the direction of
    the mean where asked.

    The error is that of the source, which the model knows: waves that fit badly are made faint (a large s) and never disturb
    more than no positions at all would.
    """
    product = target.t() @ source
    if not bool(product.any()):
        return torch.eye(source.shape[1], dtype=source.dtype, device=source.device), _FAINTEST
    mean = float(product.norm()) if keep_mean else 0.0  # centred rows have nothing there: whatever is added stays apart
    left, strengths, right = torch.linalg.svd(product + mean / product.shape[0])
    fit = float(strengths.sum()) - mean
    return left @ right, min(float(target.square().sum()) / max(fit, 1e-12), _FAINTEST)


def _turn_stream(weights: Weights, now: ModelConfig, turn: Tensor, scale: float, shift: Tensor, after: ModelConfig) -> None:
    embedding = weights["embedding.weight"] * embedding_factor(now)
    weights.put("embedding.weight", (scale * (embedding @ turn.t()) + shift.to(embedding)) / embedding_factor(after))
    segments = scale * segment_factor(now) / segment_factor(after)
    weights.change("segment_embedding.weight", lambda t: segments * (t @ turn.t()))
    for writer in _WRITERS:
        weights.change_each(f"{writer}.weight", lambda t: scale * (turn @ t))
        weights.change_each(f"{writer}.bias", lambda t: scale * (turn @ t))
    for layer in range(weights.n_layers):
        for norm, linears in (readers(now) or {}).items():
            _turn_reader(weights, now, f"blocks.{layer}.{norm}", [f"blocks.{layer}.{linear}.weight" for linear in linears], turn)
    head = "head_transform.dense.weight" if now.head_transform else "lm_head.weight"
    _turn_reader(weights, now, "final_norm", [head], turn)


def _turn_reader(weights: Weights, config: ModelConfig, norm: str, linears: list[str], turn: Tensor) -> None:
    """W (g ⊙ x̂ + b) is W g Qᵀ (x̂' + Q (b / g)) for x̂' = Q x̂: gains go into the matrices, offsets are turned."""
    offset = 1.0 if option(config.norm, "unit_offset", False) else 0.0
    if f"{norm}.weight" not in weights:
        return
    gain = weights[f"{norm}.weight"] + offset
    gain = torch.where(gain.abs() < 1e-6, torch.full_like(gain, 1e-6), gain)  # an offset must be divided by it
    for linear in linears:
        weights.change(linear, lambda t: (t * gain) @ turn.t())
    weights.change(f"{norm}.weight", lambda g: torch.ones_like(g) - offset)
    weights.change(f"{norm}.bias", lambda b: turn @ (b / gain))
