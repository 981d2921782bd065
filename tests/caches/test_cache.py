"""The KV cache around its codecs: lengths, positions, limits and what happens when a forward pass fails."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.caches import CacheConfig, KVCache
from workbench.core.errors import ConfigError
from workbench.model import ModelConfig, Transformer, build_model
from workbench.numerics.attention import PADDING


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 3, 7, 13])
def test_chunks_equal_one_full_forward(model: Transformer, ids: Tensor, chunk: int) -> None:
    cache = KVCache.for_model(model, capacity=16, batch=2)
    parts = []
    for start in range(0, ids.shape[1], chunk):
        assert cache.length == start
        parts.append(model(ids[:, start : start + chunk], cache))
    close(torch.cat(parts, 1), model(ids))
    assert cache.length == ids.shape[1]


def test_truncate_and_go_on_equals_a_fresh_cache(model: Transformer, ids: Tensor) -> None:
    cache = KVCache.for_model(model, capacity=16, batch=2)
    model(ids.flip(1), cache)
    cache.truncate(0)
    model(ids[:, :9], cache)
    cache.truncate(4)
    assert cache.length == 4
    close(model(ids[:, 4:], cache), model(ids)[:, 4:])


@pytest.mark.parametrize("length", [-1, 6])
def test_truncate_refuses_what_it_does_not_hold(model: Transformer, ids: Tensor, length: int) -> None:
    cache = KVCache.for_model(model, batch=2)
    model(ids[:, :5], cache)
    with pytest.raises(ConfigError) as caught:
        cache.truncate(length)
    assert str(caught.value) == f"Cannot keep {length} of 5 cached tokens. Choose 0 to 5."
    assert cache.length == 5


def test_a_full_cache_says_how_many_it_holds(model: Transformer, ids: Tensor) -> None:
    cache = KVCache.for_model(model, capacity=8, batch=2)
    model(ids[:, :8], cache)
    with pytest.raises(ConfigError) as caught:
        model(ids[:, 8:9], cache)
    assert str(caught.value) == "The cache holds 8 tokens; 9 were asked for. Use a longer cache or a shorter text."
    assert cache.length == 8
    cache.truncate(6)
    close(model(ids[:, 6:8], cache), model(ids[:, :8])[:, 6:])


def test_a_cache_for_another_batch_is_refused(model: Transformer, ids: Tensor) -> None:
    cache = KVCache.for_model(model, batch=2)
    with pytest.raises(ConfigError, match="The cache is for 2 sequences; 1 were given"):
        model(ids[:1], cache)
    assert cache.length == 0


@pytest.mark.parametrize("given", [{"capacity": 0}, {"batch": 0}, {"capacity": -5}])
def test_a_cache_of_nothing_is_refused(model: Transformer, given: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="holds nothing"):
        KVCache.for_model(model, **given)  # type: ignore[arg-type]


def test_unknown_codecs_and_options_are_named(model: Transformer) -> None:
    with pytest.raises(ConfigError, match="There is no KV codec 'zip'") as caught:
        KVCache.for_model(model, codec="zip")
    assert "exact" in caught.value.hint
    with pytest.raises(ConfigError, match="Exact has no option 'bits'"):
        KVCache.for_model(model, bits=3)


def test_packed_documents_are_refused(model: Transformer, ids: Tensor) -> None:
    with pytest.raises(ConfigError, match="Packed documents cannot be used with a KV cache"):
        model(ids, KVCache.for_model(model, batch=2), segments=torch.zeros_like(ids))


# ---- sizes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_exact_bytes_are_the_formula(model: Transformer, ids: Tensor, dtype: torch.dtype) -> None:
    cache = KVCache.for_model(model, capacity=20, batch=2, dtype=dtype)
    c = model.config
    per_token = 2 * c.n_layers * c.kv_heads * c.head_width * 2 * dtype.itemsize  # K and V; two sequences
    assert cache.nbytes == 0
    assert cache.allocated_nbytes == per_token * 20
    model(ids, cache)
    assert cache.nbytes == per_token * 13
    cache.truncate(3)
    assert cache.nbytes == per_token * 3
    held = sum(t.nbytes for layer in cache.layers for t in vars(layer).values() if isinstance(t, Tensor))
    assert held == cache.allocated_nbytes


def test_bytes_agree_with_the_accounting(models: dict[str, Transformer], ids: Tensor) -> None:
    from workbench.model import account

    for model in models.values():
        cache = KVCache.for_model(model, batch=2)
        model(ids, cache)
        assert cache.nbytes == account(model.config).kv_bytes_per_token(4) * 13 * 2


def test_capacity_and_dtype_default_to_the_models(model: Transformer) -> None:
    cache = KVCache.for_model(model)
    assert cache.capacity == model.config.max_positions
    assert cache.layers[0].shape.dtype == model.dtype
    assert [layer.shape.layer for layer in cache.layers] == [0, 1]


def test_half_precision_storage_stays_near(model: Transformer, ids: Tensor) -> None:
    cache = KVCache.for_model(model, batch=2, dtype=torch.bfloat16)
    out = torch.cat([model(ids[:, t : t + 1], cache) for t in range(13)], 1)
    full = model(ids)
    assert out.dtype == full.dtype
    assert (out - full).norm() / full.norm() < 0.02


# ---- a forward pass that fails -------------------------------------------------------------------------------------


class Broke(Exception):
    pass


@pytest.mark.parametrize("layer", [0, 1])
def test_a_failed_forward_leaves_the_cache_as_it_was(model: Transformer, ids: Tensor, layer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = KVCache.for_model(model, batch=2)
    model(ids[:, :5], cache)

    def broken(_: Any) -> Tensor:
        raise Broke

    with monkeypatch.context() as patch:
        patch.setattr(model.blocks[layer].mlp, "forward", broken)
        with pytest.raises(Broke):
            model(ids[:, :4], cache)
    assert cache.length == 5
    close(model(ids[:, 5:], cache), model(ids)[:, 5:])


def test_a_failed_padded_forward_does_no_harm_either(model: Transformer, ids: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = KVCache.for_model(model, batch=2)
    model(ids[:, :5], cache)

    def broken(_: Any) -> Tensor:
        raise Broke

    with monkeypatch.context() as patch:
        patch.setattr(model.blocks[1].mlp, "forward", broken)
        with pytest.raises(Broke):
            model(ids[:, :4], cache, positions=torch.tensor([[5, 6, 7, 8], [PADDING, 5, 6, 7]]))
    close(model(ids[:, 5:], cache), model(ids)[:, 5:])


def test_a_context_error_of_the_model_does_not_advance(ids: Tensor) -> None:
    model = build_model(ModelConfig(vocab_size=61, n_layers=1, d_model=16, n_heads=2, max_positions=8, position="learned"))
    cache = KVCache.for_model(model, capacity=64, batch=2)
    with torch.no_grad():
        model(ids[:, :8], cache)
        with pytest.raises(ConfigError, match="The text has 9 tokens; this model has positions for 8"):
            model(ids[:, 8:9], cache)
    assert cache.length == 8


# ---- padding -------------------------------------------------------------------------------------------------------


def padded(ids: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Rows cut to their last `lengths` tokens, padded on the left; ids 0 there."""
    width = max(lengths)
    out, positions = torch.zeros(len(lengths), width, dtype=torch.int64), torch.full((len(lengths), width), PADDING)
    for row, n in enumerate(lengths):
        out[row, width - n :], positions[row, width - n :] = ids[row, :n], torch.arange(n)
    return out, positions


@pytest.mark.parametrize("chunk", [9, 4, 1])
def test_left_padding_equals_each_row_alone_and_so_do_later_tokens(model: Transformer, ids: Tensor, chunk: int) -> None:
    lengths = [9, 4]
    rows, positions = padded(ids, lengths)
    cache = KVCache.for_model(model, batch=2)
    parts = [model(rows[:, s : s + chunk], cache, positions=positions[:, s : s + chunk]) for s in range(0, 9, chunk)]
    later = [model(ids[:, 9 + t : 10 + t], cache) for t in range(3)]  # positions go on by themselves, per row
    batched = torch.cat(parts + later, 1)
    for row, n in enumerate(lengths):
        alone = model(torch.cat((ids[row : row + 1, :n], ids[row : row + 1, 9:12]), 1))
        close(batched[row : row + 1, 9 - n :], alone)


def test_padding_may_stand_between_tokens(model: Transformer, ids: Tensor) -> None:
    """Right padding of the first turn: the next token continues after the last real one of its row."""
    cache = KVCache.for_model(model, batch=2)
    positions = torch.tensor([[0, 1, 2, 3], [0, 1, PADDING, PADDING]])
    model(ids[:, :4], cache, positions=positions)
    out = model(ids[:, 4:6], cache)
    close(out[1:], model(torch.cat((ids[1:, :2], ids[1:, 4:6]), 1))[:, 2:])
    close(out[:1], model(ids[:1, :6])[:, 4:])


def test_padding_that_comes_later_keeps_what_was_cached_without(model: Transformer, ids: Tensor) -> None:
    cache = KVCache.for_model(model, batch=2)
    model(ids[:, :4], cache)
    out = model(ids[:, 4:7], cache, positions=torch.tensor([[4, 5, 6], [PADDING, 4, 5]]))
    close(out[:1], model(ids[:1, :7])[:, 4:])
    close(out[1:, 1:], model(torch.cat((ids[1:, :4], ids[1:, 5:7]), 1))[:, 4:])


def test_an_emptied_cache_forgets_that_there_was_padding(model: Transformer, ids: Tensor) -> None:
    rows, positions = padded(ids, [5, 2])
    cache = KVCache.for_model(model, batch=2)
    model(rows, cache, positions=positions)
    cache.truncate(0)
    assert cache.frame(3, None, ids.device).plain
    close(model(ids, cache), model(ids))


def test_truncated_padding_is_forgotten_slot_by_slot(model: Transformer, ids: Tensor) -> None:
    rows, positions = padded(ids, [6, 3])
    cache = KVCache.for_model(model, batch=2)
    model(rows, cache, positions=positions)
    cache.truncate(4)
    out = model(ids[:, 9:11], cache)
    close(out[1:], model(torch.cat((ids[1:, :1], ids[1:, 9:11]), 1))[:, 1:])


# ---- what a person picks -------------------------------------------------------------------------------------------


def test_the_config_names_its_problems() -> None:
    assert CacheConfig().problems() == []
    assert CacheConfig(codec="exact") == CacheConfig()  # type: ignore[arg-type]
    (problem,) = CacheConfig(capacity=3).problems()
    assert str(problem) == "Context length is 3; the least is 16 tokens. Use 16 or more."
