"""Norms of queries and keys."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch

from workbench.model.config import ModelConfig
from workbench.model.conversion.base import APPROXIMATE, FRESH, State, Step, Weights, changed, option


def qk_norm_off(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if now.qk_norm != "off" and new.qk_norm == "off":
        how = "Queries and keys are scaled to the size that the norm gave them on average; what it evened out per token is lost."
        yield Step("qk_norm", APPROXIMATE, how, changed(now, qk_norm="off"), partial(_without_qk_norm, config=now))


def qk_norm(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if now.qk_norm == new.qk_norm or new.qk_norm == "off":
        return
    after = changed(now, qk_norm=new.qk_norm)
    if now.norm.kind not in ("layernorm", "rmsnorm") or state.lacks("attention.q_norm.weight"):
        fresh = ("attention.q_norm.", "attention.k_norm.")
        yield Step("qk_norm", FRESH, "New norms of queries and keys.", after, lambda w: w.drop_all(*fresh), fresh=fresh)
    elif now.qk_norm == "off":
        how = "The new norms give queries and keys the size that they have on average; what differs from token to token is evened out."
        yield Step("qk_norm", APPROXIMATE, how, after, partial(_with_qk_norm, config=after))
    else:
        how = "The gains stay, but heads are normalised together instead of each by itself."
        if new.qk_norm == "head":
            how = "The gains are averaged over the heads, which are normalised each by itself instead of together."
        yield Step("qk_norm", APPROXIMATE, how, after, partial(_regroup_qk_norm, config=after))


def _average_size(weights: Weights, block: str, projection: str, config: ModelConfig) -> float:
    """Root mean square of a projection's output for inputs as the norm before it gives them: √(mean of Σ_j (W_ij g_j)²)."""
    matrix = weights[f"{block}.attention.{projection}.weight"]
    gain_name = f"{block}.residual.attention_norm.weight"
    gain = torch.ones_like(matrix[0])
    if gain_name in weights:
        gain = weights[gain_name] + (1.0 if option(config.norm, "unit_offset", False) else 0.0)
    energy = (matrix * gain).square().sum(1)
    bias = f"{block}.attention.{projection}.bias"
    if bias in weights:
        energy = energy + weights[bias].square()
    size = float(energy.nanmean().sqrt())  # rows that are still to be drawn do not count
    return size if math.isfinite(size) else 1.0


def _with_qk_norm(weights: Weights, config: ModelConfig) -> None:
    offset = 1.0 if option(config.norm, "unit_offset", False) else 0.0
    for layer in range(weights.n_layers):
        block = f"blocks.{layer}"
        for projection, name in (("q_proj", "q_norm"), ("k_proj", "k_norm")):
            source = f"{block}.attention.{projection}.weight"
            if source not in weights:
                continue
            width = config.head_width if config.qk_norm == "head" else weights[source].shape[0]
            gain = torch.full((width,), _average_size(weights, block, projection, config) - offset)
            weights.put(f"{block}.attention.{name}.weight", gain, like=source)
            if option(config.norm, "bias", False):
                weights.put(f"{block}.attention.{name}.bias", torch.zeros(width), like=source)


def _without_qk_norm(weights: Weights, config: ModelConfig) -> None:
    offset = 1.0 if option(config.norm, "unit_offset", False) else 0.0
    for layer in range(weights.n_layers):
        block = f"blocks.{layer}"
        for projection, name in (("q_proj", "q_norm"), ("k_proj", "k_norm")):
            linear, gain = f"{block}.attention.{projection}", f"{block}.attention.{name}.weight"
            if f"{linear}.weight" in weights and gain in weights:
                rows = weights[f"{linear}.weight"].shape[0]
                per_row = (weights[gain] + offset) / max(_average_size(weights, block, projection, config), 1e-12)
                per_row = per_row.repeat(rows // per_row.shape[0])
                weights.change(f"{linear}.weight", lambda t, s=per_row: t * s[:, None])  # type: ignore[misc]
                weights.change(f"{linear}.bias", lambda t, s=per_row: t * s)  # type: ignore[misc]
    weights.drop_all("attention.q_norm.", "attention.k_norm.")


def _regroup_qk_norm(weights: Weights, config: ModelConfig) -> None:
    for name, heads in (("q_norm", config.n_heads), ("k_norm", config.kv_heads)):
        for part in ("weight", "bias"):
            if config.qk_norm == "full":
                weights.change_each(f"attention.{name}.{part}", lambda g, h=heads: g.repeat(h))  # type: ignore[misc]
            else:
                weights.change_each(f"attention.{name}.{part}", lambda g, h=heads: g.view(h, -1).nanmean(0))  # type: ignore[misc]
