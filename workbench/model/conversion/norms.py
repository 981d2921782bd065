"""The kind of norm and its options."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn

from workbench.core.registry import Choice
from workbench.model.config import ModelConfig
from workbench.model.conversion.base import APPROXIMATE, EXACT, FRESH, State, Step, Weights, changed, is_norm, option, trait, with_options

READERS: dict[str, dict[str, tuple[str, ...]]] = {
    "pre": {
        "residual.attention_norm": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
        "residual.mlp_norm": ("mlp.gate_proj", "mlp.up_proj"),
    },
    "shared": {
        "residual.attention_norm": ("attention.q_proj", "attention.k_proj", "attention.v_proj", "mlp.gate_proj", "mlp.up_proj"),
    },
}
"""Placement -> norm of a block -> the linears that read it, where these are all that the norm's output goes to."""

_SINGLE = 1e-6
_WRITERS = ("attention.o_proj", "mlp.down_proj")


def readers(config: ModelConfig) -> dict[str, tuple[str, ...]] | None:
    """The norms inside a block and who reads them; None in placements where a norm writes to the stream."""
    if config.residual.kind not in ("pre", "parallel"):
        return None
    return READERS["shared" if option(config.residual, "shared_norm", False) else "pre"]


def norm(state: State, new: ModelConfig) -> Iterator[Step]:
    """Kind and options of the norm, ε excepted: one step after another, so that each is exact where it can be."""
    old = state.config.norm
    if old == new.norm or (old.kind == new.norm.kind and _but_for_epsilon(old, new.norm)):
        return
    now = state.config
    if hasattr(old.options, "eps") and _same_epsilon(old.options.eps, option(new.norm, "eps", 0.0)):
        now = changed(now, norm=with_options(old, eps=new.norm.options.eps))
    if not {old.kind, new.norm.kind} <= {"layernorm", "rmsnorm"}:
        yield from _other_kind(now, new)
        return
    for step in (_plain_gain, _without_offset, _to_rmsnorm, _to_layernorm, _with_offset, _gain_around_zero):
        found = step(now, new)
        if found is not None:
            now = found.after
            yield found


def _same_epsilon(old: float, new: float) -> bool:
    """Whether two differ by no more than a file in single precision would round."""
    return math.isclose(old, new, rel_tol=_SINGLE)


def _but_for_epsilon(old: Choice[nn.Module], new: Choice[nn.Module]) -> bool:
    """Whether two of a kind differ in ε alone."""
    return hasattr(old.options, "eps") and with_options(old, eps=new.options.eps) == new


def _other_kind(now: ModelConfig, new: ModelConfig) -> Iterator[Step]:
    after = changed(now, norm=new.norm)
    drop = _drop_norms
    if new.norm.kind == "none":
        yield Step("norm", FRESH, "All norms are left out; every block reads vectors of other sizes.", after, drop)
    else:
        yield Step("norm", FRESH, "Every norm starts anew; no block has seen what such a norm gives.", after, drop, fresh=ALL_NORMS)


ALL_NORMS = (
    "residual.", "final_norm.", "embedding_norm.", "head_transform.norm.", "attention.q_norm.", "attention.k_norm.",
)  # fmt: skip
"""Beginnings of the names of norms."""


def _drop_norms(weights: Weights) -> None:
    weights.drop(*[name for name in weights.tensors if is_norm(name)])


def _each_norm(weights: Weights, part: str, how: Callable[[Tensor], Tensor]) -> None:
    for name in [n for n in weights.tensors if is_norm(n) and n.endswith(part)]:
        weights.change(name, how)


def _plain_gain(now: ModelConfig, new: ModelConfig) -> Step | None:
    if not option(now.norm, "unit_offset", False) or option(new.norm, "unit_offset", False):
        return None
    after = changed(now, norm=with_options(now.norm, unit_offset=False))
    how = "Gains are stored as they are instead of around zero."
    return Step("norm", EXACT, how, after, lambda w: _each_norm(w, "weight", lambda g: g + 1))


def _gain_around_zero(now: ModelConfig, new: ModelConfig) -> Step | None:
    if option(now.norm, "unit_offset", False) or not option(new.norm, "unit_offset", False):
        return None
    after = changed(now, norm=with_options(now.norm, unit_offset=True))
    return Step("norm", EXACT, "Gains are stored around zero.", after, lambda w: _each_norm(w, "weight", lambda g: g - 1))


# ---- the offset of LayerNorm ---------------------------------------------------------------------------------------


def _with_offset(now: ModelConfig, new: ModelConfig) -> Step | None:
    if now.norm.kind != "layernorm" or now.norm.options.bias or not option(new.norm, "bias", False):
        return None
    after = changed(now, norm=with_options(now.norm, bias=True))

    def surgery(weights: Weights) -> None:
        for name in [n for n in weights.tensors if is_norm(n) and n.endswith(".weight")]:
            weights.put(name.removesuffix("weight") + "bias", weights[name] * 0, like=name)

    return Step("norm", EXACT, "The norms' new offsets are zero.", after, surgery)


def _without_offset(now: ModelConfig, new: ModelConfig) -> Step | None:
    """LayerNorm's b becomes W b in the biases of the linears that read it."""
    if now.norm.kind != "layernorm" or not now.norm.options.bias or (new.norm.kind == "layernorm" and new.norm.options.bias):
        return None
    after = changed(now, norm=with_options(now.norm, bias=False))
    lost = _offsets_lost(now)
    surgery = partial(_fold_offsets, config=now)
    if not lost:
        return Step("norm", EXACT, "The norms' offsets go into the biases of the linears behind them.", after, surgery)
    needs: dict[str, Any] = {f: True for f in ("attention_bias", "mlp_bias", "head_bias") if f in lost}
    losers = ", ".join(_WORDS[field] for field in lost)
    how = f"The norms' offsets go into the biases of the linears behind them, where there are some; not so: {losers}."
    return Step("norm", APPROXIMATE, how, after, surgery, needs=needs if set(lost) <= set(needs) else {})


_WORDS = {
    "attention_bias": "queries, keys and values", "mlp_bias": "the MLP", "head_bias": "the head", "residual": "norms on branch outputs",
    "qk_norm": "QK-norms", "embedding_norm": "the norm after the embedding",
}  # fmt: skip


def _offsets_lost(config: ModelConfig) -> list[str]:
    """Why some offsets of norms have nowhere to go: the fields in the way."""
    lost = [field for field in ("attention_bias", "mlp_bias") if not getattr(config, field) and config.residual.kind != "reordered"]
    if ((config.has_final_norm and not config.head_transform) or config.head_transform) and not config.head_bias:
        lost.append("head_bias")
    if readers(config) is None:
        lost.append("residual")
    lost += [field for field, there in (("qk_norm", config.qk_norm != "off"), ("embedding_norm", config.embedding_norm)) if there]
    return lost


def _fold_offsets(weights: Weights, config: ModelConfig) -> None:
    inside = readers(config) or ({} if config.residual.kind != "double" else READERS["pre"])
    for layer in range(weights.n_layers):
        for reading, linears in inside.items():
            for linear in linears:
                fold_offset(weights, f"blocks.{layer}.{reading}.bias", f"blocks.{layer}.{linear}")
    head = "embedding.weight" if config.tie_embeddings else "lm_head.weight"
    fold_offset(weights, "final_norm.bias", "head_transform.dense" if config.head_transform else "lm_head", head)
    fold_offset(weights, "head_transform.norm.bias", "lm_head", head)
    weights.drop(*[name for name in weights.tensors if is_norm(name) and name.endswith(".bias")])


def fold_offset(weights: Weights, offset: str, linear: str, matrix: str | None = None) -> None:
    """b_linear += W b, where all of them are there; `matrix` names the weight of a tied head."""
    weight = f"{linear}.weight" if matrix is None or linear != "lm_head" else matrix
    if offset in weights and weight in weights and f"{linear}.bias" in weights:
        moved = weights[weight] @ weights[offset]
        weights.change(f"{linear}.bias", lambda bias: bias + moved)


# ---- LayerNorm and RMSNorm -----------------------------------------------------------------------------------------


def centring_obstacles(config: ModelConfig) -> tuple[list[str], dict[str, Any]]:
    """(what keeps the residual stream from having mean zero, settings that would mend it). Without obstacles LayerNorm removes
    nothing from it and is RMSNorm, and the stream may be widened."""
    found, needs = [], {}
    if config.tie_embeddings:
        found.append("the embedding is also the output head, whose logits would move")
        needs["tie_embeddings"] = False
    if readers(config) is None:
        found.append("in this placement norms write to the stream")
    if trait(config.position, "reads_width", True):
        found.append("the position waves cannot be centred")
    if config.embedding_norm:
        found.append("a norm writes the embeddings")
    if not config.has_final_norm:
        found.append("the head reads the stream without a norm, and the mean with it")
    return found, needs if len(found) == len(needs) else {}


def centre_stream(weights: Weights, config: ModelConfig) -> None:
    """Take the mean out of everything that writes to the stream, which no LayerNorm notices."""
    tables = ["position.weight", "segment_embedding.weight", *([] if config.tie_embeddings else ["embedding.weight"])]
    for table in tables:
        weights.change(table, lambda t: t - t.mean(1, keepdim=True))
    if readers(config) is None:
        return
    for writer in _WRITERS:
        for part in ("weight", "bias"):
            weights.change_each(f"{writer}.{part}", lambda t: t - t.mean(0, keepdim=True))


def _to_rmsnorm(now: ModelConfig, new: ModelConfig) -> Step | None:
    if now.norm.kind != "layernorm" or new.norm.kind != "rmsnorm":
        return None
    after = changed(now, norm=_kind_like("rmsnorm", now.norm, new.norm))
    obstacles, needs = centring_obstacles(now)
    if now.head_transform:
        obstacles, needs = [*obstacles, "the head's own norm reads an activation"], {}

    def surgery(weights: Weights) -> None:
        centre_stream(weights, now)
        _centre_heads(weights, now)

    if not obstacles:
        how = "Everything that writes to the stream is centred, after which LayerNorm has no mean to remove and is RMSNorm."
        return Step("norm", EXACT, how, after, surgery)
    how = f"What writes to the stream is centred where it can be, but a mean remains: {'; '.join(obstacles)}."
    return Step("norm", APPROXIMATE, how, after, surgery, needs=needs)


def _centre_heads(weights: Weights, config: ModelConfig) -> None:
    """Under QK-norm, take the mean of each head (or of all heads) out of queries and keys."""
    if config.qk_norm == "off":
        return
    group = config.head_width if config.qk_norm == "head" else None
    for projection in ("attention.q_proj", "attention.k_proj"):
        for part in ("weight", "bias"):
            weights.change_each(f"{projection}.{part}", lambda t: _centred_rows(t, group or t.shape[0]))


def _centred_rows(matrix: Tensor, group: int) -> Tensor:
    grouped = matrix.view(-1, group, *matrix.shape[1:])
    return (grouped - grouped.mean(1, keepdim=True)).reshape(matrix.shape)


def _to_layernorm(now: ModelConfig, new: ModelConfig) -> Step | None:
    if now.norm.kind != "rmsnorm" or new.norm.kind != "layernorm":
        return None
    after = changed(now, norm=with_options(_kind_like("layernorm", now.norm, new.norm), bias=False))
    how = "The gains stay; what changes is that the mean of each vector is removed now, which is small in most trained models."
    return Step("norm", APPROXIMATE, how, after)


def _kind_like(kind: str, old: Choice[nn.Module], new: Choice[nn.Module]) -> Choice[nn.Module]:
    """The new kind with the ε of the old and plain gains, on the way to `new`."""
    chosen = Choice(new.registry, kind, new.options)
    options = {"eps": old.options.eps} | ({"unit_offset": False} if hasattr(new.options, "unit_offset") else {})
    return with_options(chosen, **options)


def epsilon(state: State, new: ModelConfig) -> Iterator[Step]:
    """After the width, which ε depends on."""
    now = state.config
    old, wanted = option(now.norm, "eps"), option(new.norm, "eps")
    if old is None or wanted is None or now.norm == new.norm:
        return
    after = changed(now, norm=with_options(now.norm, eps=wanted))
    if _same_epsilon(old, wanted):
        yield Step("norm", EXACT, "ε is the same number, rounded otherwise.", after)
    else:
        yield Step("norm", APPROXIMATE, f"ε changes from {old:g} to {wanted:g}, which moves small vectors a little.", after)
