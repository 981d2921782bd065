"""The position encoding: its kind, its options, and the context."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from workbench.model.config import ModelConfig
from workbench.model.conversion.base import APPROXIMATE, EXACT, FRESH, State, Step, Surgery, Weights, blank, changed, option, trait
from workbench.model.conversion.embeddings import keep_sums
from workbench.model.conversion.rotary import same_rotation
from workbench.model.conversion.waves import fit_waves, fitting_obstacles
from workbench.parts.positions.sinusoidal import sinusoids

TABLE = "position.weight"


def to_table(state: State, new: ModelConfig) -> Iterator[Step]:
    """To learned positions; early, because a table can be centred and widened."""
    now = state.config
    if now.position.kind == new.position.kind or new.position.kind != "learned":
        return
    after = changed(now, position=new.position)
    _, exact, scaling = keep_sums(now, after)
    if now.position.kind == "none":
        how = "The table starts at zero."
        yield Step("position", EXACT, how, after, lambda w: w.put(TABLE, _zeros(w, now), like="embedding.weight"))
    elif now.position.kind == "sinusoidal":
        base = now.position.options.base

        def surgery(weights: Weights) -> None:
            where = torch.arange(now.max_positions, device=weights.tensors["embedding.weight"].device)
            weights.put(TABLE, sinusoids(where, now.d_model, base), like="embedding.weight")
            scaling(weights)

        how = "The waves become the table, which is free to change in training from now on."
        how += "" if exact else " The tied head grows with the embedding, and no norm makes up for it."
        yield Step("position", EXACT if exact else APPROXIMATE, how, after, surgery)
    else:
        how = f"The table is drawn fresh; without {now.position.entry.label} no block knows where a token stands."
        yield Step("position", FRESH, how, after, lambda w: w.drop_all("position."), fresh=("position.",))


def _zeros(weights: Weights, config: ModelConfig) -> torch.Tensor:
    return weights["embedding.weight"].new_zeros(config.max_positions, config.d_model)


def other_kind(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if now.position.kind == new.position.kind:
        return
    after = changed(now, position=new.position)
    _, _, scaling = keep_sums(now, after)
    if now.position.kind == "learned" and new.position.kind == "sinusoidal":
        yield from _to_waves(state, after)
        return
    fresh = ("position.",) if trait(new.position, "has_weights", True) else ()

    def surgery(weights: Weights) -> None:
        weights.drop_all("position.")
        scaling(weights)

    how = f"All matrices stay, but they were trained with {now.position.entry.label} and must learn to read {new.position.entry.label}."
    yield Step("position", FRESH, how, after, surgery, fresh=fresh)


def _to_waves(state: State, after: ModelConfig) -> Iterator[Step]:
    now = state.config
    obstacles, needs = fitting_obstacles(now)
    if state.lacks(TABLE):
        obstacles, needs = ["the table is fresh itself"], {}
    if obstacles:
        how = f"The table is left out for waves that no block has seen; they cannot be fitted because {'; '.join(obstacles)}."
        yield Step("position", FRESH, how, after, lambda w: w.drop(TABLE), needs=needs)
        return
    how = "The stream is turned and scaled so that the learned table lies as near to the waves as least squares can bring it."
    yield Step("position", APPROXIMATE, how, after, lambda w: fit_waves(w, now, after))


def other_options(state: State, new: ModelConfig) -> Iterator[Step]:
    """Options of a kind that stays; RoPE's have a rule of their own."""
    now = state.config
    if now.position == new.position or now.position.kind != new.position.kind or now.position.kind == "rope":
        return
    after = changed(now, position=new.position)
    if _unknown(now):
        how = "What these options mean to the weights is not known here; those of the position encoding are drawn fresh."
        yield Step("position", FRESH, how, after, lambda w: w.drop_all("position."), fresh=("position.",))
        return
    ratio, same, surgery = keep_sums(now, after)
    only_scale = ratio != 1.0 and option(now.position, "base") == option(new.position, "base")
    if only_scale:
        how = f"The embedding matrix is multiplied by {ratio:.4g}, which undoes the change."
        how += "" if same else " The tied head grows with it, and no norm before it makes up for that."
        needs = {} if same else {"tie_embeddings": False}
        yield Step("position", EXACT if same else APPROXIMATE, how, after, surgery, needs=needs)
        return
    how = "No weight changes; positions look different from what the model learnt."
    yield Step("position", APPROXIMATE, how, after, surgery)


def _unknown(config: ModelConfig) -> bool:
    """Whether the position encoding has weights whose meaning is not known here."""
    return bool(trait(config.position, "has_weights", True)) and config.position.kind != "learned"


def context(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if now.max_positions == new.max_positions:
        return
    after = changed(now, max_positions=new.max_positions)
    if now.position.kind == "learned":
        yield _table_length(state, after)
        return
    if now.position.kind == "rope" and not same_rotation(now, after, state.context):
        yield Step("max_positions", APPROXIMATE, "The scaling's angles follow the context, so that pairs turn at other rates.", after)
        return
    if _unknown(now):
        how = "What the context means to the weights of this position encoding is not known here; they are drawn fresh."
        yield Step("max_positions", FRESH, how, after, lambda w: w.drop_all("position."), fresh=("position.",))
        return
    how = "No weight depends on it"
    how += "; how well texts beyond the old context go is another question." if new.max_positions > now.max_positions else "."
    yield Step("max_positions", EXACT, how, after)


def _table_length(state: State, after: ModelConfig) -> Step:
    now, rows = state.config, after.max_positions
    if rows < now.max_positions:
        return Step("max_positions", EXACT, f"The table keeps its first {rows} rows.", after, lambda w: w.change(TABLE, lambda t: t[:rows]))
    extra = rows - now.max_positions
    surgery: Surgery = lambda w: w.change(TABLE, lambda t: torch.cat((t, blank(extra, t))))  # noqa: E731
    how = f"Texts up to {now.max_positions} tokens are read as before; the {extra} rows beyond are drawn fresh."
    return Step("max_positions", APPROXIMATE, how, after, surgery, fresh_rows={TABLE: extra * now.d_model})


def nope(state: State, new: ModelConfig) -> Iterator[Step]:
    """Blocks that go without position."""
    now = state.config
    if now.nope_every == new.nope_every:
        return
    after = changed(now, nope_every=new.nope_every)
    acts = trait(now.position, "acts_in_attention", False)
    moved = [layer for layer in range(now.n_layers) if acts and now.positional(layer) != after.positional(layer)]
    if not moved:
        yield Step("nope_every", EXACT, "No block is concerned.", after)
    else:
        how = f"{len(moved)} of {now.n_layers} blocks lose or gain a sense of position; their weights stay and must learn anew."
        yield Step("nope_every", FRESH, how, after)
