"""Token embedding, output head, and what stands between them and the blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from workbench.model.config import ModelConfig
from workbench.model.conversion.base import APPROXIMATE, EXACT, FRESH, State, Step, Surgery, Weights, blank, changed, option

_HEAD, _EMBEDDING = "lm_head.weight", "embedding.weight"


def untie(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if not now.tie_embeddings or new.tie_embeddings:
        return
    how = "The output head gets a copy of the token embedding; the two go their own ways in training."
    yield Step("tie_embeddings", EXACT, how, changed(now, tie_embeddings=False), lambda w: w.put(_HEAD, w[_EMBEDDING], like=_EMBEDDING))


def tie(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if now.tie_embeddings or not new.tie_embeddings:
        return
    scaled = scalable_head(now)
    how = "One matrix does both: the mean of the embedding and the output head"
    how += ", the head brought to the embedding's size first, which the final norm makes up for." if scaled else "."
    yield Step("tie_embeddings", APPROXIMATE, how, changed(now, tie_embeddings=True), partial(_tie, config=now, scaled=scaled))


def _tie(weights: Weights, config: ModelConfig, scaled: bool) -> None:
    if _EMBEDDING not in weights or _HEAD not in weights:
        weights.drop(_HEAD)
        return
    embedding, head = weights[_EMBEDDING], weights[_HEAD]
    ratio = float(head.norm() / embedding.norm()) if scaled else 1.0
    if not (math.isfinite(ratio) and ratio > 0):
        ratio = 1.0
    weights.put(_EMBEDDING, (embedding + head / ratio) / 2)
    weights.drop(_HEAD)
    if ratio != 1.0:
        scale_norm(weights, config, head_norm(config), ratio)


# ---- sizes of the embedding --------------------------------------------------------------------------------------


def embedding_factor(config: ModelConfig) -> float:
    """What token embeddings are multiplied by before the first block."""
    scaled = config.scale_embeddings or option(config.position, "scale_embedding", False)
    return math.sqrt(config.d_model) if scaled else 1.0


def segment_factor(config: ModelConfig) -> float:
    """What segment embeddings are multiplied by: only sinusoidal positions scale all that was added before them."""
    return math.sqrt(config.d_model) if option(config.position, "scale_embedding", False) else 1.0


def head_norm(config: ModelConfig) -> str | None:
    """The norm right before the output matrix; None when there is none."""
    if config.head_transform:
        return "head_transform.norm"
    return "final_norm" if config.has_final_norm else None


def scalable_head(config: ModelConfig) -> bool:
    """Whether the norm before the head can carry a factor of the head."""
    return head_norm(config) is not None and config.norm.kind in ("layernorm", "rmsnorm")


def scale_norm(weights: Weights, config: ModelConfig, norm: str | None, factor: float) -> None:
    """Multiply what a norm gives by `factor`."""
    offset = 1.0 if option(config.norm, "unit_offset", False) else 0.0
    weights.change(f"{norm}.weight", lambda gain: (gain + offset) * factor - offset)
    weights.change(f"{norm}.bias", lambda bias: bias * factor)


def keep_sums(now: ModelConfig, after: ModelConfig) -> tuple[float, bool, Surgery]:
    """(factor, whether the logits stay the same, surgery) of multiplying the embeddings so that what enters the blocks stays as
    it is under the factors of `after`; a tied head, which grows with them, reads a smaller vector."""
    factor = embedding_factor(now) / embedding_factor(after)
    segments = segment_factor(now) / segment_factor(after)

    def surgery(weights: Weights) -> None:
        if factor != 1.0:
            weights.change(_EMBEDDING, lambda e: e * factor)
            if now.tie_embeddings:
                scale_norm(weights, now, head_norm(now), 1 / factor)
        if segments != 1.0:
            weights.change("segment_embedding.weight", lambda t: t * segments)

    return factor, factor == 1.0 or not now.tie_embeddings or scalable_head(now), surgery


def embedding_scale(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if now.scale_embeddings == new.scale_embeddings:
        return
    after = changed(now, scale_embeddings=new.scale_embeddings)
    factor, same, surgery = keep_sums(now, after)
    how = f"The embedding matrix is multiplied by {factor:.4g}, which undoes the change."
    if now.tie_embeddings and same:
        how = f"The embedding matrix is multiplied by {factor:.4g} and the norm before the tied head divided by it, which undoes it."
    if not same:
        how += " The tied head grows with it, and no norm before it makes up for that."
    needs = {} if same else {"tie_embeddings": False}
    yield Step("scale_embeddings", EXACT if same else APPROXIMATE, how, after, surgery, needs=needs)


def vocabulary(state: State, new: ModelConfig) -> Iterator[Step]:
    """Late, so that every matrix with a row per token is there."""
    now = state.config
    if now.vocab_size == new.vocab_size:
        return
    after = changed(now, vocab_size=new.vocab_size)
    tables = (_EMBEDDING, "lm_head.weight", "lm_head.bias")
    extra = new.vocab_size - now.vocab_size
    if extra < 0:
        how = f"Tokens from {new.vocab_size} on are cut off; the logits of the others stay, but share all probability."
        yield Step("vocab_size", APPROXIMATE, how, after, partial(_cut_rows, names=tables, rows=new.vocab_size))
        return
    rows = [name for name, there in zip(tables, (True, not now.tie_embeddings, now.head_bias), strict=True) if there]
    fresh = {name: extra * (1 if name.endswith("bias") else now.d_model) for name in rows}
    how = f"The logits of the old tokens stay; {extra} new tokens, whose rows are drawn fresh, take some of their probability."
    yield Step("vocab_size", APPROXIMATE, how, after, partial(_add_rows, names=tables, rows=extra), fresh_rows=fresh)


def _cut_rows(weights: Weights, names: tuple[str, ...], rows: int) -> None:
    for name in names:
        weights.change(name, lambda t: t[:rows])


def _add_rows(weights: Weights, names: tuple[str, ...], rows: int) -> None:
    for name in names:
        weights.change(name, lambda t: torch.cat((t, blank(rows, t))))


# ---- around the blocks -------------------------------------------------------------------------------------------


def segments(state: State, new: ModelConfig) -> Iterator[Step]:
    """Every token is of the first segment, so that only one row of the table counts."""
    now = state.config
    if now.segment_types == new.segment_types:
        return
    name, after = "segment_embedding.weight", changed(now, segment_types=new.segment_types)
    if now.segment_types is None:
        rows = new.segment_types or 0
        how = "The new table is zero."
        yield Step("segment_types", EXACT, how, after, lambda w: w.put(name, w[_EMBEDDING].new_zeros(rows, now.d_model), like=_EMBEDDING))
    elif new.segment_types is None:
        yield _without_segments(now, after, name)
    else:
        how = "The row in use stays; only the first type is used here."
        yield Step("segment_types", EXACT, how, after, lambda w: w.change(name, lambda t: _first_row(t, new.segment_types or 1)))


def _first_row(table: Tensor, rows: int) -> Tensor:
    """`table` with that many rows; new ones are copies of the first."""
    return torch.cat((table[:rows], table[:1].expand(max(0, rows - table.shape[0]), -1)))


def _without_segments(now: ModelConfig, after: ModelConfig, name: str) -> Step:
    if now.position.kind == "learned":
        target, factor, how = "position.weight", 1.0, "The row in use is added to every position."
    elif not now.tie_embeddings:
        target, how = _EMBEDDING, "The row in use is added to every token's embedding."
        factor = segment_factor(now) / embedding_factor(now)
    else:
        how = "The row in use is left out: a tied embedding cannot take it."
        return Step("segment_types", APPROXIMATE, how, after, lambda w: w.drop(name), needs={"tie_embeddings": False})

    def surgery(weights: Weights) -> None:
        if name in weights:
            row = weights[name][0] * factor
            weights.change(target, lambda t: t + row)
        weights.drop(name)

    return Step("segment_types", EXACT, how, after, surgery)


def head_transform(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if now.head_transform == new.head_transform:
        return
    after = changed(now, head_transform=new.head_transform)
    if new.head_transform:
        how = "A new layer between the blocks and the head, drawn fresh."
        yield Step("head_transform", FRESH, how, after, fresh=("head_transform.",))
    else:
        how = "The layer before the head is left out, and the head reads what it was not made for."
        yield Step("head_transform", FRESH, how, after, lambda w: w.drop_all("head_transform."))


def embedding_norm(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if now.embedding_norm == new.embedding_norm:
        return
    after, names = changed(now, embedding_norm=new.embedding_norm), ("embedding_norm.",)
    if new.norm.kind == "none" or now.norm.kind == "none":
        yield Step("embedding_norm", EXACT if now.norm.kind == new.norm.kind else FRESH, "There is no norm to place.", after)
    elif new.embedding_norm:
        yield Step("embedding_norm", FRESH, "A new norm in front of the blocks, which they have never seen.", after, fresh=names)
    else:
        how = "The norm in front of the blocks is left out; they read vectors of other sizes."
        yield Step("embedding_norm", FRESH, how, after, lambda w: w.drop_all(*names))


def softcaps(state: State, new: ModelConfig) -> Iterator[Step]:
    for field, what in (("attention_softcap", "scores"), ("logit_softcap", "logits")):
        now = state.config
        old, wanted = getattr(now, field), getattr(new, field)
        if old != wanted:
            how = f"No weight changes; {what} near the cap move."
            step = Step(field, APPROXIMATE, how, changed(now, **{field: wanted}))
            state = state.after(step)
            yield step
