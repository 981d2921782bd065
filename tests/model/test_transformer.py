"""The model as a whole: tied embeddings, positions and contexts, hidden states and the head."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.caches import KVCache
from workbench.core.errors import ConfigError
from workbench.model import ModelConfig, Transformer, build_model

Tiny = Callable[..., Transformer]
Make = Callable[..., ModelConfig]


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


# ---- tied embeddings -----------------------------------------------------------------------------------------------

MOVES: dict[str, Callable[[Transformer], Transformer]] = {
    "as built": lambda m: m,
    "to bfloat16": lambda m: m.to(torch.bfloat16),
    "float": lambda m: m.to(torch.bfloat16).float(),
    "double": lambda m: m.double(),
    "cpu": lambda m: m.to("cpu"),
    "deepcopy": copy.deepcopy,
    "deepcopy of double": lambda m: copy.deepcopy(m.double()),
    "train": lambda m: m.train(),
}


@pytest.mark.parametrize("move", MOVES)
def test_a_tie_survives(tiny: Tiny, move: str, ids: Tensor) -> None:
    model = MOVES[move](tiny())
    assert model.lm_head.weight is model.embedding.weight
    assert sum(n in ("embedding.weight", "lm_head.weight") for n, _ in model.named_parameters()) == 1
    with torch.no_grad():
        before = model(ids)
        model.embedding.weight.mul_(2)
        assert not torch.equal(model(ids), before)
        close(model.head(torch.ones(1, 1, 16, dtype=model.dtype)).flatten().float(), model.embedding.weight.sum(1).float())


def test_a_tie_survives_loading(tiny: Tiny, config: Make, ids: Tensor) -> None:
    source, target = tiny(), build_model(config())
    target.load_state_dict(source.state_dict())
    assert target.lm_head.weight is target.embedding.weight
    torch.testing.assert_close(target(ids), source(ids), rtol=1e-5, atol=1e-5)
    assigned = build_model(config(), device="meta", init=False)
    assigned.load_state_dict({n: t.clone() for n, t in source.state_dict().items()}, assign=True)
    assigned.tie()
    assert assigned.lm_head.weight is assigned.embedding.weight
    torch.testing.assert_close(assigned(ids), source(ids), rtol=1e-5, atol=1e-5)


def test_untied_models_stay_untied(tiny: Tiny) -> None:
    model = tiny(tie_embeddings=False)
    model.tie()
    for moved in (model, copy.deepcopy(model), model.double()):
        assert moved.lm_head.weight is not moved.embedding.weight
        assert moved.lm_head.weight.data_ptr() != moved.embedding.weight.data_ptr()


def loss(model: Transformer, ids: Tensor) -> Tensor:
    return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


def test_the_gradient_of_a_tied_matrix_is_the_sum_of_both_uses(tiny: Tiny, ids: Tensor) -> None:
    tied, untied = tiny(), tiny(tie_embeddings=False)
    with torch.no_grad():
        untied.load_state_dict(tied.state_dict())
    assert torch.equal(tied(ids), untied(ids)), "equal values give equal logits at step 0"
    for model in (tied, untied):
        loss(model, ids).backward()
    both = untied.embedding.weight.grad + untied.lm_head.weight.grad  # type: ignore[operator]
    torch.testing.assert_close(tied.embedding.weight.grad, both)
    assert untied.embedding.weight.grad.abs().max() > 0  # type: ignore[union-attr]
    assert untied.lm_head.weight.grad.abs().max() > 0  # type: ignore[union-attr]
    for model in (tied, untied):
        torch.optim.SGD(model.parameters(), lr=0.5).step()
    assert not torch.allclose(tied(ids), untied(ids), atol=1e-3), "and they part after one step"


# ---- positions and context -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", ["learned", "rope", "alibi", "sinusoidal", "none"])
def test_only_a_table_of_positions_ends(tiny: Tiny, position: str) -> None:
    model = tiny(position=position).requires_grad_(False)
    text = torch.zeros(1, 30, dtype=torch.int64)
    cache = KVCache.for_model(model, capacity=40)
    if position == "learned":
        with pytest.raises(ConfigError, match="The text has 30 tokens; this model has positions for 24"):
            model(text)
        model(text[:, :20], cache)
        with pytest.raises(ConfigError, match="The text has 25 tokens"):
            model(text[:, 20:25], cache)
        assert cache.length == 20
        model(text[:, 20:24], cache)
    else:
        assert model(text).isfinite().all()
        model(text[:, :20], cache)
        assert model(text[:, 20:30], cache).isfinite().all()


@pytest.mark.parametrize("position", ["rope", "alibi", "none"])
def test_relative_positions_do_not_care_where_the_text_starts(tiny: Tiny, ids: Tensor, position: str) -> None:
    """Facts §2.4: the same logits when all positions are offset; RoPE in float64, where the angles are exact."""
    model = tiny(torch.float64, position=position).requires_grad_(False)
    for offset in (1, 100, 100_000):
        shifted = model(ids, positions=torch.arange(13)[None].expand(2, -1) + offset)
        torch.testing.assert_close(shifted, model(ids), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
def test_absolute_positions_do(tiny: Tiny, ids: Tensor, position: str) -> None:
    model = tiny(position=position)
    assert not torch.allclose(model(ids, positions=torch.arange(13)[None].expand(2, -1) + 5), model(ids), atol=1e-2)


def test_a_window_forgets_and_depth_reaches_further(tiny: Tiny, ids: Tensor) -> None:
    """With window W and L layers the last token reads L·(W−1) tokens back, not one more."""
    for layers in (1, 2):
        model = tiny(sliding_window=3, n_layers=layers, position="none").requires_grad_(False)
        reach = layers * 2
        for back in range(1, 7):
            changed = ids.clone()
            changed[:, -1 - back] = (changed[:, -1 - back] + 1) % 61
            same = torch.equal(model(changed)[:, -1], model(ids)[:, -1])
            assert same == (back > reach), f"{layers} layers, {back} tokens back"


def test_softcap_and_qk_norm_are_really_there(tiny: Tiny, ids: Tensor) -> None:
    plain = tiny()
    assert not torch.allclose(tiny(attention_softcap=0.1)(ids), plain(ids), atol=1e-3)
    capped = tiny(attention_softcap=1000.0)
    close(capped(ids), plain(ids))
    normed = tiny(qk_norm="head")
    assert not torch.allclose(normed(ids), plain(ids), atol=1e-3)


# ---- hidden, head, cache -------------------------------------------------------------------------------------------


def test_the_head_can_be_asked_for_single_rows(tiny: Tiny, ids: Tensor) -> None:
    model = tiny().requires_grad_(False)
    hidden = model.hidden(ids)
    assert hidden.shape == (2, 13, 16)
    close(model.head(hidden[:, -1]), model(ids)[:, -1])


def test_grad_mode_and_training_mode_are_left_as_they_are(tiny: Tiny, ids: Tensor) -> None:
    model = tiny().train()
    model.hidden(ids, recompute=True).sum().backward()
    assert model.training
    assert torch.is_grad_enabled()


def test_recompute_keeps_less(tiny: Tiny, ids: Tensor) -> None:
    """The point of it: fewer bytes are saved for the backward pass."""
    model, sizes = tiny(n_layers=4).train(), []
    for recompute in (False, True):
        saved: dict[int, int] = {}

        def pack(t: Tensor, saved: dict[int, int] = saved) -> Tensor:
            saved[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            kept = model.hidden(ids, recompute=recompute)
        sizes.append(sum(saved.values()))
        del kept
    assert sizes[1] < sizes[0] / 2


def test_two_conversations_share_one_model(tiny: Tiny, ids: Tensor) -> None:
    model = tiny().requires_grad_(False)
    first, second = KVCache.for_model(model), KVCache.for_model(model)
    outs = [[model(ids[r : r + 1, t : t + 1], c) for r, c in enumerate((first, second))] for t in range(13)]
    close(torch.cat([torch.cat(o, 0) for o in outs], 1), model(ids))


def test_a_copy_does_not_share(tiny: Tiny, ids: Tensor) -> None:
    model = tiny().requires_grad_(False)
    wanted, twin = model(ids), copy.deepcopy(model)
    assert torch.equal(twin(ids), wanted)
    for parameter in twin.parameters():
        parameter.zero_()
    assert torch.equal(model(ids), wanted)
    assert twin.config == model.config


@pytest.mark.parametrize("changes", [{}, {"position": "learned", "norm": "layernorm"}, {"position": "alibi"}, {"attention_softcap": 5.0}])
def test_half_precision_stays_near(tiny: Tiny, ids: Tensor, changes: dict[str, Any]) -> None:
    model = tiny(**changes).requires_grad_(False)
    exact = model(ids)
    half = model.to(torch.bfloat16)(ids)
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).norm() / exact.norm() < 0.05


def test_tokens_do_not_see_what_comes_later(tiny: Tiny, ids: Tensor) -> None:
    model = tiny().requires_grad_(False)
    changed = torch.cat((ids[:, :7], ids[:, 7:].flip(1)), 1)
    close(model(changed)[:, :7], model(ids)[:, :7])
