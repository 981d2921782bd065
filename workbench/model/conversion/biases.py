"""Biases of the linears, on and off."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from workbench.model.config import ModelConfig
from workbench.model.conversion.base import APPROXIMATE, EXACT, State, Step, Weights, changed

_LINEARS = {
    "attention_bias": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    "attention_out_bias": ("attention.o_proj",),
    "mlp_bias": ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
}


def biases_on(state: State, new: ModelConfig) -> Iterator[Step]:
    """Before anything else, so that other steps can put offsets into them."""
    now = state.config
    for field, linears in _LINEARS.items():
        if getattr(new, field) and not getattr(now, field):
            now = changed(now, **{field: True})
            yield Step(field, EXACT, "The new biases are zero.", now, partial(add_biases, linears=linears))
    if new.head_bias and not now.head_bias:
        now = changed(now, head_bias=True)
        yield Step("head_bias", EXACT, "The new bias is zero.", now, _add_head_bias)


def add_biases(weights: Weights, linears: tuple[str, ...]) -> None:
    for name in list(weights.each(*(f"{linear}.weight" for linear in linears))):
        weights.zeros(name.removesuffix("weight") + "bias", weights.tensors[name].shape[0], like=name)


def _add_head_bias(weights: Weights) -> None:
    weights.zeros("lm_head.bias", weights.tensors["embedding.weight"].shape[0], like="embedding.weight")


def biases_off(state: State, new: ModelConfig) -> Iterator[Step]:
    """Last: what other steps put into biases that do not stay is lost here, and said to be."""
    now = state.config
    for field, linears in _LINEARS.items():
        if getattr(now, field) and not getattr(new, field):
            now = changed(now, **{field: False})
            how = "The biases are left out."
            if field == "attention_bias" and now.attention_out_bias and new.attention_out_bias:
                how = "The biases are left out; that of the values goes into the output bias, which is the same."
                move = partial(_move_value_bias, repeats=now.n_heads // now.kv_heads, width=now.head_width)
                yield Step(field, APPROXIMATE, how, now, move)
                continue
            yield Step(field, APPROXIMATE, how, now, partial(_remove, linears=linears))
    if now.head_bias and not new.head_bias:
        now = changed(now, head_bias=False)
        yield Step("head_bias", APPROXIMATE, "The head's bias is left out.", now, lambda w: w.drop("lm_head.bias"))


def _remove(weights: Weights, linears: tuple[str, ...]) -> None:
    weights.drop(*weights.each(*(f"{linear}.bias" for linear in linears)))


def _move_value_bias(weights: Weights, repeats: int, width: int) -> None:
    """Attention weights add up to one, so the values' bias passes through them unchanged: b_o += W_o b_v."""
    for name in list(weights.each("attention.v_proj.bias")):
        out = name.replace("v_proj.bias", "o_proj")
        if f"{out}.weight" in weights and f"{out}.bias" in weights:
            per_head = weights[name].nan_to_num(0.0).view(-1, 1, width).expand(-1, repeats, -1).flatten()
            weights.put(f"{out}.bias", weights[f"{out}.bias"] + weights[f"{out}.weight"] @ per_head)
    _remove(weights, _LINEARS["attention_bias"])
