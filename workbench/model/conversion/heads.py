"""Attention heads: how many, how many share keys and values, how wide they are, how their scores are scaled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from workbench.model.config import ModelConfig
from workbench.model.conversion.base import APPROXIMATE, EXACT, FRESH, State, Step, Weights, blank, changed, option, trait, with_options
from workbench.model.conversion.embeddings import scale_norm
from workbench.model.conversion.rotary import fitted_dims
from workbench.parts.positions.alibi import slopes

Q, K, V, O = (f"attention.{name}_proj" for name in "qkvo")  # noqa: E741
_PARTS = ("weight", "bias")
Source = int | None
"""Which old head a new one is; None for one that is drawn fresh."""


def heads(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    old, wanted = (now.n_heads, now.kv_heads), (new.n_heads, new.kv_heads)
    if old == wanted:
        return
    after = changed(now, n_heads=new.n_heads, n_kv_heads=new.kv_heads)
    sources = more_heads(*old, *wanted) if new.n_heads >= now.n_heads else None
    verdict, how = _verdict(now, new, sources)
    fresh = _fresh_rows(now, new, sources) if sources is not None else {}
    surgery = partial(_rearrange, config=now, wanted=wanted, sources=sources)
    field = "n_heads" if old[0] != wanted[0] else "n_kv_heads"
    yield Step(field, verdict, how, after, surgery, fresh_rows=fresh)
    if field == "n_heads" and old[1] != wanted[1]:
        yield Step("n_kv_heads", verdict, "Follows the number of heads.", after)


def more_heads(heads: int, groups: int, more: int, more_groups: int) -> list[Source]:
    """Where each of at least as many query heads comes from: groups that stay are filled up, else new heads come at the end."""
    if groups == more_groups:
        old, new = heads // groups, more // groups
        return [group * old + i if i < old else None for group in range(groups) for i in range(new)]
    return [*range(heads), *[None] * (more - heads)]


def shared_sources(sources: Sequence[Source], per_group: int, new_groups: int) -> list[list[int]]:
    """For each new key/value head, the old ones that its query heads used, one entry per query head."""
    size = len(sources) // new_groups
    return [[h // per_group for h in sources[g * size : (g + 1) * size] if h is not None] for g in range(new_groups)]


def _verdict(now: ModelConfig, new: ModelConfig, sources: Sequence[Source] | None) -> tuple[str, str]:
    if sources is None:
        gone = now.n_heads - new.n_heads
        return APPROXIMATE, f"Of {now.n_heads} heads the {gone} that write the least are left out in each block."
    pooled = any(len(set(olds)) > 1 for olds in shared_sources(sources, now.n_heads // now.kv_heads, new.kv_heads))
    added = new.n_heads > now.n_heads
    if pooled:
        how = "Key/value heads that become one are averaged"
    elif added:
        how = "New heads end in zeros, so they change nothing until they are trained"
    else:
        how = "Each key/value head is repeated for the query heads that shared it"
    exact = not pooled and not (added and _slopes_move(now, new, sources))
    if exact is False and not pooled:
        how += "; ALiBi's slopes depend on the number of heads and move"
    if now.qk_norm == "full" and (added or pooled):
        exact, how = False, f"{how}; the norm over all heads sees other values"
    return (EXACT if exact else APPROXIMATE), how + "."


def _slopes_move(now: ModelConfig, new: ModelConfig, sources: Sequence[Source]) -> bool:
    if now.position.kind != "alibi":
        return bool(trait(now.position, "reads_heads", True))
    before, after = slopes(now.n_heads), slopes(new.n_heads)
    return any(h is not None and after[place] != before[h] for place, h in enumerate(sources))


def _fresh_rows(now: ModelConfig, new: ModelConfig, sources: Sequence[Source]) -> dict[str, int]:
    queries = sources.count(None)
    shared = sum(not olds for olds in shared_sources(sources, now.n_heads // now.kv_heads, new.kv_heads))
    found = {}
    for name, count in ((Q, queries), (K, shared), (V, shared)):
        found[f"{name}.weight"] = count * now.head_width * now.d_model
        found[f"{name}.bias"] = count * now.head_width
    if now.qk_norm == new.qk_norm == "full":
        for name, count in (("q_norm", queries), ("k_norm", shared)):
            found |= {f"attention.{name}.{part}": count * now.head_width for part in _PARTS}
    return {name: count * now.n_layers for name, count in found.items()}


def _rearrange(weights: Weights, config: ModelConfig, wanted: tuple[int, int], sources: list[Source] | None) -> None:
    width, per_group = config.head_width, config.n_heads // config.kv_heads
    for layer in range(weights.n_layers):
        block = f"blocks.{layer}."
        if f"{block}{O}.weight" not in weights:
            continue
        chosen = sources if sources is not None else _largest(weights, block, config, wanted)
        shared = shared_sources(chosen, per_group, wanted[1])
        for part in _PARTS:
            for name in (f"{Q}.{part}", f"attention.q_norm.{part}"):
                _each_head(weights, block + name, width, config, partial(_picked, sources=chosen))
            for name in (f"{K}.{part}", f"{V}.{part}", f"attention.k_norm.{part}"):
                _each_head(weights, block + name, width, config, partial(_pooled, shared=shared))
        weights.change(f"{block}{O}.weight", partial(_columns, sources=chosen, width=width))


def _each_head(weights: Weights, name: str, width: int, config: ModelConfig, how: Callable[[Tensor], Tensor]) -> None:
    """Apply `how` to a tensor seen as [heads, width, …]; norms that all heads share have no heads to rearrange."""
    if "_norm." in name and config.qk_norm != "full":
        return
    weights.change(name, lambda t: how(t.reshape(-1, width, *t.shape[1:])).flatten(0, 1))


def _picked(blocks: Tensor, sources: Sequence[Source]) -> Tensor:
    return torch.cat([blank(1, blocks) if h is None else blocks[h : h + 1] for h in sources])


def _pooled(blocks: Tensor, shared: Sequence[Sequence[int]]) -> Tensor:
    return torch.cat([blank(1, blocks) if not olds else _mean(blocks, olds) for olds in shared])


def _mean(blocks: Tensor, olds: Sequence[int]) -> Tensor:
    if len(set(olds)) == 1:
        return blocks[olds[0] : olds[0] + 1]
    return blocks[list(olds)].mean(0, keepdim=True)


def _columns(matrix: Tensor, sources: Sequence[Source], width: int) -> Tensor:
    blocks = matrix.view(matrix.shape[0], -1, width)
    empty = torch.zeros_like(blocks[:, :1])
    return torch.cat([empty if h is None else blocks[:, h : h + 1] for h in sources], 1).flatten(1)


def _largest(weights: Weights, block: str, config: ModelConfig, wanted: tuple[int, int]) -> list[Source]:
    """The heads that write the most into the stream: the size of W_o W_v of each, groups kept together where they can be."""
    width, per_group = config.head_width, config.n_heads // config.kv_heads
    out = weights[f"{block}{O}.weight"].view(-1, config.n_heads, width).permute(1, 0, 2)
    value = weights[f"{block}{V}.weight"].view(config.kv_heads, width, -1).repeat_interleave(per_group, 0)
    size = torch.stack([(a @ b).norm() for a, b in zip(out, value, strict=True)])
    groups = size.view(config.kv_heads, per_group)
    if wanted[1] == config.kv_heads:
        best = groups.topk(wanted[0] // wanted[1], 1).indices.sort(1).values.tolist()
        return [group * per_group + i for group, members in enumerate(best) for i in members]
    if wanted[0] // wanted[1] == per_group:
        largest = groups.sum(1).topk(wanted[1]).indices.sort().values.tolist()
        return [group * per_group + i for group in largest for i in range(per_group)]
    return list(size.topk(wanted[0]).indices.sort().values.tolist())


# ---- width of a head -----------------------------------------------------------------------------------------------


def head_width(state: State, new: ModelConfig) -> Iterator[Step]:
    """Wider heads carry zeros. The rotated part is settled here too: which pairs turn how fast depends on both."""
    now = state.config
    rotary = now.position.kind == new.position.kind == "rope"
    fraction = option(new.position, "rotary_fraction") if rotary else option(now.position, "rotary_fraction")
    if now.head_width == new.head_width and fraction == option(now.position, "rotary_fraction"):
        return
    position = with_options(now.position, rotary_fraction=fraction) if fraction is not None else now.position
    after = changed(now, head_dim=new.head_width, position=position)
    field = "head_dim" if now.head_width != new.head_width else "position"
    if new.head_width < now.head_width:
        fresh = ("attention.",)
        yield Step(field, FRESH, "Narrower heads are drawn fresh.", after, lambda w: w.drop_all(*fresh), fresh=fresh)
        return
    dims, same = fitted_dims(now, after, state.context)
    reasons = []
    if not same:
        reasons.append("the rotation has no pair of the same rate for each old one, so the nearest are taken")
    if now.qk_norm != "off" and now.head_width != new.head_width:
        reasons.append("QK-norm divides by the width, where ε now counts for less")
    if option(now.position, "divided", False) and now.head_width != new.head_width:
        reasons.append("the ALiBi bias is divided by the root of the width")
    how = "The new dimensions of a head carry zeros" if now.head_width != new.head_width else "Dimensions are put in other pairs"
    how += f", but {'; '.join(reasons)}." if reasons else "; each pair still turns at its own rate." if now.position.kind == "rope" else "."
    yield Step(field, APPROXIMATE if reasons else EXACT, how, after, partial(_spread, config=now, width=new.head_width, dims=dims))


def _spread(weights: Weights, config: ModelConfig, width: int, dims: list[int]) -> None:
    """Old dimension i of queries and keys goes to `dims[i]`, those of values stay in front; the rest is zero."""
    plain = list(range(config.head_width))
    for part in _PARTS:
        for linear, places in ((Q, dims), (K, dims), (V, plain)):
            weights.change_each(f"{linear}.{part}", lambda t, p=places: _placed(t, p, config.head_width, width))  # type: ignore[misc]
    weights.change_each(f"{O}.weight", lambda t: _placed(t.t(), plain, config.head_width, width).t())
    if config.qk_norm != "off":
        offset = 1.0 if option(config.norm, "unit_offset", False) else 0.0
        shrunk = math.sqrt(config.head_width / width)
        for name in ("attention.q_norm", "attention.k_norm"):
            weights.change_each(f"{name}.weight", lambda g: _placed((g + offset) * shrunk, dims, config.head_width, width, 1.0) - offset)
            weights.change_each(f"{name}.bias", lambda b: _placed(b, dims, config.head_width, width))


def _placed(tensor: Tensor, places: list[int], old: int, new: int, fill: float = 0.0) -> Tensor:
    """[heads · old, …] -> [heads · new, …]."""
    blocks = tensor.reshape(-1, old, *tensor.shape[1:])
    spread = blocks.new_full((blocks.shape[0], new, *blocks.shape[2:]), fill)
    spread[:, places] = blocks
    return spread.flatten(0, 1)


def score_scale(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if now.score_scale == new.score_scale:
        return
    factor = now.score_scale / new.score_scale
    after = changed(now, attention_scale=new.score_scale)
    if now.qk_norm == "off":

        def scale(weights: Weights) -> None:
            for part in _PARTS:
                weights.change_each(f"{Q}.{part}", lambda t: t * factor)

        yield Step("attention_scale", EXACT, f"Queries are multiplied by {factor:.4g}, which undoes the change.", after, scale)
        return

    def surgery(weights: Weights) -> None:
        for name in list(weights.each("attention.q_norm.weight")):
            scale_norm(weights, now, name.removesuffix(".weight"), factor)

    known = now.norm.kind in ("layernorm", "rmsnorm") and not state.lacks("attention.q_norm.")
    how = f"The norm of the queries is multiplied by {factor:.4g}, which undoes the change."
    yield Step("attention_scale", EXACT if known else APPROXIMATE, how if known else "Scores are scaled anew.", after, surgery)
