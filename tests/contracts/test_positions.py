"""Every registered position encoding keeps the promises of `Position`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.caches import KVCache
from workbench.core.errors import ConfigError
from workbench.model import ModelConfig, Transformer, build_model
from workbench.parts.positions import POSITIONS, Position
from workbench.parts.positions.scaling import ROPE_SCALINGS

KINDS = (*POSITIONS.names(), "ramp")
EACH = pytest.mark.parametrize("kind", KINDS)
Described = Callable[[Any, str], None]
Make = Callable[..., ModelConfig]
ModelWith = Callable[..., Transformer]
Usable = Callable[[ModelConfig], Transformer]


class RampPosition(Position):
    """Written from the protocol alone: uses all three hooks."""

    acts_in_attention = True

    def __init__(self, heads: int, **_sizes: Any) -> None:
        super().__init__()
        self.heads = heads
        self.bias = self._bias

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return (x + 0.01 * positions.clamp(min=0)[..., None]).to(x.dtype)

    def prepare(self, positions: Tensor) -> Tensor:
        return 1 + 0.1 * positions.clamp(min=0)[:, None, :, None].float()

    def rotate(self, heads: Tensor, prepared: Tensor) -> Tensor:
        return (heads * prepared).to(heads.dtype)

    def _bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        distance = (key_positions[:, None, :] - query_positions[:, :, None]).float()
        return 0.2 * distance[:, None].expand(-1, self.heads, -1, -1)


LATE_KIND = (POSITIONS, "ramp", RampPosition, "x ← x + p")


@pytest.fixture
def model_with(small: Make) -> Callable[..., Transformer]:
    """Makes models of a kind whose parameters are all random, biases and gains too."""

    def make(kind: str, **changes: Any) -> Transformer:
        model = build_model(small(position=kind, **changes))
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        return model.requires_grad_(False)

    return make


def make(kind: str, **changes: Any) -> Any:
    sizes: dict[str, Any] = {"width": 32, "head_width": 8, "heads": 4, "max_positions": 24, "device": "cpu", "dtype": torch.float32}
    position = POSITIONS.choose(kind).make(**{**sizes, **changes})
    for parameter in position.parameters():
        torch.nn.init.normal_(parameter)
    return position


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@EACH
def test_is_described(kind: str, described: Described) -> None:
    described(POSITIONS, kind)


@EACH
def test_a_model_is_built_stored_and_counted_with_it(kind: str, small: Make, usable: Usable) -> None:
    usable(small(position=kind))


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hooks_keep_shapes_and_dtypes(kind: str, dtype: torch.dtype) -> None:
    position = make(kind, dtype=dtype)
    at = torch.arange(5)[None].expand(2, -1)
    x, heads = torch.randn(2, 5, 32).to(dtype), torch.randn(2, 6, 5, 8).to(dtype)
    with torch.no_grad():
        assert position.rotate(heads, position.prepare(at)).shape == heads.shape
        assert position.rotate(heads, position.prepare(at)).dtype == dtype
        assert position.embed(x, at).shape == x.shape
        assert position.embed(x, at).dtype == dtype
    if position.bias is not None:
        assert position.bias(at, torch.arange(7)[None]).shape == (2, 4, 5, 7)


@EACH
def test_padding_neither_matters_nor_fails(kind: str) -> None:
    position = make(kind)
    x, heads = torch.randn(1, 4, 32), torch.randn(1, 4, 4, 8)
    padded, real = torch.tensor([[-1, -1, 0, 1]]), torch.tensor([[0, 1]])
    with torch.no_grad():
        assert position.embed(x, padded).isfinite().all()
        close(position.embed(x, padded)[:, 2:], position.embed(x[:, 2:], real))
        close(position.rotate(heads, position.prepare(padded))[:, :, 2:], position.rotate(heads[:, :, 2:], position.prepare(real)))


@EACH
def test_heads_side_by_side_turn_as_each_alone(kind: str) -> None:
    """Queries and keys of one layer are turned in one call."""
    position = make(kind)
    prepared = position.prepare(torch.arange(3, 8)[None])
    q, k = torch.randn(1, 4, 5, 8), torch.randn(1, 2, 5, 8)
    both = position.rotate(torch.cat((q, k), 1), prepared)
    close(both, torch.cat((position.rotate(q, prepared), position.rotate(k, prepared)), 1))


@EACH
@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_cached_equals_uncached(kind: str, ids: Tensor, model_with: ModelWith, chunk: int) -> None:
    model = model_with(kind)
    cache = KVCache.for_model(model, batch=2)
    parts = [model(ids[:, s : s + chunk], cache) for s in range(0, 14, chunk)]
    close(torch.cat(parts, 1), model(ids))


@EACH
def test_left_padded_rows_equal_each_row_alone(kind: str, ids: Tensor, model_with: ModelWith) -> None:
    model = model_with(kind)
    positions = torch.tensor([list(range(8)), [-1] * 5 + [0, 1, 2]])
    batched = model(torch.where(positions < 0, 0, ids[:, :8]), positions=positions)
    close(batched[:1], model(ids[:1, :8]))
    close(batched[1:, 5:], model(ids[1:, 5:8]))


@EACH
def test_explicit_positions_equal_counted_ones(kind: str, ids: Tensor, model_with: ModelWith) -> None:
    model = model_with(kind)
    close(model(ids, positions=torch.arange(14)[None].expand(2, -1)), model(ids))


@EACH
def test_order_matters_unless_there_is_no_position(kind: str, ids: Tensor, model_with: ModelWith) -> None:
    """The last token's logits after its predecessors were swapped; one layer, where causality alone shows no order."""
    model = model_with(kind, n_layers=1)
    swapped = ids[:, [1, 0, *range(2, 14)]]
    same = torch.allclose(model(ids)[:, -1], model(swapped)[:, -1], atol=1e-4)
    assert same == (kind == "none")


@EACH
def test_positions_beyond_the_context(kind: str, model_with: ModelWith) -> None:
    """A table ends with a sentence; everything computed goes on."""
    model = model_with(kind)
    text = torch.zeros(1, 30, dtype=torch.int64)
    if model.position.context_bound:
        with pytest.raises(ConfigError, match="The text has 30 tokens; this model has positions for 24") as caught:
            model(text)
        assert caught.value.hint
        with pytest.raises(ConfigError, match="The text has 25 tokens"):
            model(text[:, :2], positions=torch.tensor([[3, 24]]))
        assert model(text[:, :24]).isfinite().all()
    else:
        assert model(text).isfinite().all()


@EACH
def test_copies_and_moves(kind: str, ids: Tensor, model_with: ModelWith) -> None:
    model = model_with(kind)
    close(copy.deepcopy(model)(ids), model(ids))
    assert model.to(torch.bfloat16)(ids).dtype == torch.bfloat16


@EACH
def test_exact_in_float64(kind: str, ids: Tensor, model_with: ModelWith) -> None:
    """The same weights in float32 and float64 agree as well as float32 can."""
    model = model_with(kind)
    close(build_like(model, torch.float64)(ids).float(), model(ids))


def build_like(model: Transformer, dtype: torch.dtype) -> Transformer:
    twin = build_model(model.config, dtype=dtype, init=False).requires_grad_(False)
    twin.load_state_dict(model.state_dict())
    return twin


@EACH
def test_layers_without_position(kind: str, ids: Tensor, small: Make, model_with: ModelWith) -> None:
    """Every second block leaves queries, keys and scores as they are; a position that acts before them cannot be skipped."""
    if not POSITIONS[kind].make.acts_in_attention:  # type: ignore[attr-defined]
        assert [p.field for p in small(position=kind, nope_every=2).problems()] == ["nope_every"]
        return
    model = model_with(kind, nope_every=2)
    assert [b.attention.positional for b in model.blocks] == [True, False]  # type: ignore[union-attr]
    assert model.blocks[1].attention.scoring.bias is None  # type: ignore[union-attr]
    cache = KVCache.for_model(model, batch=2)
    close(torch.cat([model(ids[:, :5], cache), model(ids[:, 5:], cache)], 1), model(ids))


@EACH
@pytest.mark.parametrize("by", [1, 37, 100_000])
def test_keys_move_where_they_can(kind: str, by: int) -> None:
    """A key moved is the key that would have been made there; kinds that say nothing cannot."""
    styles: list[dict[str, Any]] = [{}] if kind != "rope" else [{}, {"style": "interleaved"}, {"rotary_fraction": 0.5}]
    scaled = [{"scaling": ROPE_SCALINGS.choose(name).make()} for name in ROPE_SCALINGS.names()] if kind == "rope" else []
    for options in [*styles, *scaled]:
        sizes = {"width": 32, "head_width": 8, "heads": 4, "max_positions": 24, "dtype": torch.float64}
        position = POSITIONS[kind].make(**sizes, **options)
        if not position.movable:
            assert kind not in ("none", "rope", "alibi") or ("scaling" in options and options["scaling"].depends_on_length)
            continue
        keys, at = torch.randn(2, 4, 5, 8).double(), torch.arange(3, 8)[None]
        moved = position.moved(position.rotate(keys, position.prepare(at)), by)
        torch.testing.assert_close(moved, position.rotate(keys, position.prepare(at + by)), rtol=1e-9, atol=1e-9)
