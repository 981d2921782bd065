"""The width of the residual stream."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from workbench.model.config import ModelConfig
from workbench.model.conversion.base import APPROXIMATE, EXACT, FRESH, State, Step, Weights, changed, option, trait, with_options
from workbench.model.conversion.embeddings import keep_sums
from workbench.model.conversion.norms import centre_stream, centring_obstacles

_READERS = ("attention.q_proj", "attention.k_proj", "attention.v_proj", "mlp.gate_proj", "mlp.up_proj")
_WRITERS = ("attention.o_proj", "mlp.down_proj")
_TABLES = ("embedding.weight", "position.weight", "segment_embedding.weight", "lm_head.weight")
_DENSE = "head_transform.dense"
_OF_HEADS = "QK-norms divide by the width of the heads, which stays, so that one ε cannot suit them and the stream's norms."


def width(state: State, new: ModelConfig) -> Iterator[Step]:
    """A wider stream carries zeros in its new dimensions: nothing writes to them, and norms make up for the larger divisor."""
    now = state.config
    if now.d_model == new.d_model:
        return
    after = changed(now, d_model=new.d_model)
    obstacles, needs = _obstacles(now, new)
    if obstacles:
        how = f"Every matrix is drawn fresh: {'; '.join(obstacles)}."
        yield Step("d_model", FRESH, how, after, lambda w: w.tensors.clear(), fresh=("",), needs=needs)
        return
    eps, shrunk = option(now.norm, "eps"), now.d_model / new.d_model
    if eps is not None:
        wanted = eps * shrunk
        if math.isclose(wanted, option(new.norm, "eps", 0.0), rel_tol=1e-6):
            wanted = new.norm.options.eps
        after = changed(after, norm=with_options(now.norm, eps=wanted))
    how = "The stream's new dimensions carry zeros until they are trained."
    _, exact, scaling = keep_sums(now, after)
    if not exact:
        how += " The tied head grows with the embedding, and no norm makes up for it."
    of_heads = now.qk_norm != "off" and eps is not None
    if of_heads:
        exact, how = False, f"{how} {_OF_HEADS}"

    def surgery(weights: Weights) -> None:
        if now.norm.kind == "layernorm":
            centre_stream(weights, now)
        scaling(weights)
        _widen(weights, now, new.d_model)

    yield Step("d_model", EXACT if exact else APPROXIMATE, how, after, surgery)
    if eps is not None and option(new.norm, "eps") == eps:
        how = "ε counts for less among more dimensions, which moves small vectors a little."
        needs = {} if of_heads else {"norm.eps": eps * shrunk}
        yield Step("d_model", APPROXIMATE, how, changed(after, norm=with_options(now.norm, eps=eps)), needs=needs)


def _obstacles(now: ModelConfig, new: ModelConfig) -> tuple[list[str], dict[str, object]]:
    if new.d_model < now.d_model:
        return ["a narrower stream has no room for what the model knows"], {}
    if now.norm.kind == "layernorm":
        obstacles, needs = centring_obstacles(now)
        return ([*obstacles, "the head's own norm reads an activation"], {}) if now.head_transform else (obstacles, needs)
    if now.norm.kind not in ("rmsnorm", "none"):
        return ["what the width means to this kind of norm is not known here"], {}
    if trait(now.position, "reads_width", True):
        return ["position waves of another width are other waves"], {}
    return [], {}


def _widen(weights: Weights, now: ModelConfig, wide: int) -> None:
    extra = wide - now.d_model
    for linear in _READERS:
        weights.change_each(f"{linear}.weight", partial(_columns, extra=extra))
    for table in _TABLES:
        weights.change(table, partial(_columns, extra=extra))
    for writer in _WRITERS:
        weights.change_each(f"{writer}.weight", partial(_rows, extra=extra))
        weights.change_each(f"{writer}.bias", partial(_rows, extra=extra))
    weights.change(f"{_DENSE}.weight", lambda t: _rows(_columns(t, extra), extra))
    weights.change(f"{_DENSE}.bias", partial(_rows, extra=extra))
    offset = 1.0 if option(now.norm, "unit_offset", False) else 0.0
    gain = math.sqrt(now.d_model / wide)
    for name in [n for n in weights.tensors if _is_stream_norm(n)]:
        if name.endswith("weight"):
            weights.change(name, lambda g: torch.cat(((g + offset) * gain, g.new_ones(extra))) - offset)
        else:
            weights.change(name, partial(_rows, extra=extra))


def _is_stream_norm(name: str) -> bool:
    owner = name.rpartition(".")[0]
    return owner.endswith("norm") and not owner.endswith((".q_norm", ".k_norm"))


def _columns(matrix: Tensor, extra: int) -> Tensor:
    return torch.cat((matrix, matrix.new_zeros(matrix.shape[0], extra)), 1)


def _rows(tensor: Tensor, extra: int) -> Tensor:
    return torch.cat((tensor, tensor.new_zeros(extra, *tensor.shape[1:])))
