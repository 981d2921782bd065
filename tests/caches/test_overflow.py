"""A cache that goes on when it is full, against a twin that recomputes attention over exactly what is left, re-numbered."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from workbench.caches import KV_CODECS, CacheConfig, KVCache, LayerCache, LayerShape, SlotMap
from workbench.caches.layout import drop_block
from workbench.core.errors import ConfigError
from workbench.core.events import Notice, Progress
from workbench.generation import CacheState, GenerationConfig, Room, generate, score
from workbench.model import ModelConfig, Transformer, build_model
from workbench.numerics.attention import Frame, Scoring, attend

R = TypeVar("R")
CAPACITY, SINKS, BLOCK = 24, 4, 3
TEXT = torch.randint(61, (1, 150), generator=torch.Generator().manual_seed(7))
WAYS = pytest.mark.parametrize("way", ["rolling", "sinks"])

MOVABLE: dict[str, dict[str, Any]] = {
    "rope": {"position": "rope"},
    "neighbours": {"position": {"kind": "rope", "style": "interleaved"}},
    "partial": {"position": {"kind": "rope", "rotary_fraction": 0.5}},
    "yarn": {"position": {"kind": "rope", "scaling": {"kind": "yarn", "factor": 4.0, "original": 32}}},
    "llama3": {"position": {"kind": "rope", "scaling": {"kind": "llama3", "original": 32}}},
    "some layers without": {"position": "rope", "nope_every": 2},
    "windows": {"position": "rope", "sliding_window": 9, "full_attention_every": 2},
    "soft-capped": {"position": "rope", "attention_softcap": 3.0},
    "alibi": {"position": "alibi"},
    "none": {"position": "none"},
}
UNMOVABLE: dict[str, dict[str, Any]] = {
    "learned": {"position": "learned"},
    "sinusoidal": {"position": "sinusoidal"},
    "dynamic": {"position": {"kind": "rope", "scaling": {"kind": "dynamic", "factor": 2.0, "original": 16}}},
    "rounded": {"position": {"kind": "alibi", "rounded": True}},
}


def model_of(changes: dict[str, Any]) -> Transformer:
    sizes = {"vocab_size": 61, "n_layers": 3, "d_model": 32, "n_heads": 4, "n_kv_heads": 2, "max_positions": 64}
    model = build_model(ModelConfig(**{**sizes, **changes}))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.requires_grad_(False)


def cache_of(model: Transformer, way: str, codec: str = "exact", capacity: int = CAPACITY, **more: Any) -> KVCache:
    config = CacheConfig(codec=codec, value_codec=codec, capacity=capacity, overflow=way, sinks=SINKS if way == "sinks" else 0, **more)  # type: ignore[arg-type]
    return KVCache.from_config(model, config)


def run(steps: Generator[Any, None, R]) -> tuple[list[Any], R]:
    events = []
    while True:
        try:
            events.append(next(steps))
        except StopIteration as end:
            return events, end.value


# ---- the twin ------------------------------------------------------------------------------------------------------


class Unturned:
    """Stands in for a model's position encoding: leaves queries and keys as they came from the projections."""

    def __init__(self, position: Any) -> None:
        self.context_bound, self.bias, self.embed = False, position.bias, lambda x, _: x

    def prepare(self, _: Tensor) -> None:
        return None

    def rotate(self, heads: Tensor, _: None) -> Tensor:
        return heads


class TwinLayer(LayerCache):
    """Keeps keys without any position; each query gives them, and itself, the numbers 0 … n−1 anew."""

    def __init__(self, shape: LayerShape, position: Any, positional: bool) -> None:
        super().__init__(shape)
        self.position, self.positional = position, positional
        self.k = self.v = torch.empty(shape.batch, shape.heads, 0, shape.width)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, frame: Frame) -> Tensor:
        self.k, self.v = torch.cat((self.k, k), 2), torch.cat((self.v, v), 2)
        n = self.k.shape[2]
        keys = self.k
        if self.positional:
            keys = self.position.rotate(keys, self.position.prepare(torch.arange(n)[None]))
            q = self.position.rotate(q, self.position.prepare(torch.tensor([[n - 1]])))
        return attend(q, keys, self.v, scoring, Frame(torch.tensor([[n - 1]]), start=n - 1))

    def drop(self, start: int, count: int, length: int) -> None:
        self.k, self.v = (torch.cat((x[:, :, :start], x[:, :, start + count :]), 2) for x in (self.k, self.v))

    def store(self, k: Tensor, v: Tensor, start: int) -> None:
        raise NotImplementedError

    def read(self, end: int) -> tuple[Tensor, Tensor]:
        return self.k[:, :, :end], self.v[:, :, :end]

    def nbytes(self, length: int) -> int:
        return 0

    @property
    def allocated_nbytes(self) -> int:
        return 0

    def resize(self, capacity: int, length: int) -> None:
        raise NotImplementedError

    def turn(self, stop: int, rotate: Any) -> None:
        raise NotImplementedError

    def slots(self, length: int) -> SlotMap:
        raise NotImplementedError


def twin_logits(model: Transformer, text: Tensor, first: int, drops: dict[int, int]) -> Tensor:
    """Token by token; before token t, `drops[t]` of the oldest kept ones after the first `first` are forgotten."""
    shapes = [LayerShape(i, 3, 1, 2, 8, CAPACITY, torch.float32, torch.device("cpu")) for i in range(3)]
    layers = [TwinLayer(s, model.position, b.attention.positional) for s, b in zip(shapes, model.blocks, strict=True)]  # type: ignore[union-attr]
    cache, real, out = KVCache(list(layers), capacity=CAPACITY, batch=1), model.position, []
    model._modules["position"] = Unturned(real)  # type: ignore[assignment]
    try:
        for t in range(text.shape[1]):
            if t in drops:
                cache.drop(first, drops[t])
            out.append(model(text[:, t : t + 1], cache))
    finally:
        model._modules["position"] = real
    return torch.cat(out, 1)


def through(model: Transformer, cache: KVCache, text: Tensor) -> tuple[Tensor, dict[int, int]]:
    """Logits token by token with the engine's own way of making room, and what it dropped when."""
    room, out, drops = Room(model, cache), [], {}
    for t in range(text.shape[1]):
        if cache.length == room.limit:
            before = cache.length
            room.drop(cache)
            drops[t] = before - cache.length
        assert cache.offset == room.dropped(t + 1)
        out.append(model(text[:, t : t + 1], cache))
    return torch.cat(out, 1), drops


@pytest.mark.parametrize("kind", MOVABLE)
@WAYS
def test_going_on_equals_attention_over_what_is_left_renumbered(kind: str, way: str) -> None:
    model = model_of(MOVABLE[kind])
    found, drops = through(model, cache_of(model, way), TEXT)
    assert set(drops.values()) == {BLOCK}
    assert len(drops) == 42
    wanted = twin_logits(model, TEXT, SINKS if way == "sinks" else 0, drops)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[:, 40:], model(TEXT)[:, 40:], atol=1e-2), "nothing was lost; the comparison proves little"


def test_turning_many_times_adds_up_no_rounding() -> None:
    """Sinks are turned from what they were, also where a narrow type is stored."""
    model = model_of(MOVABLE["rope"]).to(torch.bfloat16)
    cache = cache_of(model, "sinks")
    room = Room(model, cache)
    model(TEXT[:, :CAPACITY], cache)
    first = cache.layers[0].read(SINKS)[0].float()
    for _ in range(250):
        room.drop(cache)
        model(TEXT[:, :BLOCK], cache)
    wanted = model.position.moved(first, 250 * BLOCK)
    torch.testing.assert_close(cache.layers[0].read(SINKS)[0].float(), wanted, rtol=2**-7, atol=2**-7)


# ---- codecs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", KV_CODECS.names())
@pytest.mark.parametrize(("way", "sinks"), [("rolling", 0), ("rolling", 4), ("sinks", 4)])
def test_every_codec_goes_on(codec: str, way: str, sinks: int) -> None:
    """What was stored stays as it lies when older tokens go, first ones that are kept exact included."""
    model = build_model(
        ModelConfig(vocab_size=61, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, head_dim=64, max_positions=512)
    ).requires_grad_(False)
    config = CacheConfig(codec=codec, value_codec=codec, capacity=256, window=40, sinks=sinks, overflow=way)  # type: ignore[arg-type]
    cache = KVCache.from_config(model, config)
    room = Room(model, cache)
    text = torch.randint(61, (1, 600), generator=torch.Generator().manual_seed(2))
    kept: list[Tensor] = []
    for t in range(0, 600, 8):
        if cache.length + 8 > room.limit:
            kept = [x.clone().float() for x in cache.layers[0].read(cache.length)]
            before, length = cache.nbytes, cache.length
            room.drop(cache)
            gone = length - cache.length
            for side, (old, new) in enumerate(zip(kept, cache.layers[0].read(cache.length), strict=True)):
                turned = room.first if side == 0 else 0
                joined = torch.cat((old[:, :, : room.first], old[:, :, room.first + gone :]), 2)
                assert torch.equal(joined[:, :, turned:], new.float()[:, :, turned:])
            assert cache.nbytes < before
        out = model(text[:, t : t + 8], cache)
        assert bool(out.isfinite().all())
    assert kept
    assert cache.nbytes <= cache.allocated_nbytes
    cache.truncate(0)
    fresh = KVCache.from_config(model, config)
    torch.testing.assert_close(model(text[:, :100], cache), model(text[:, :100], fresh))
    assert cache.nbytes == fresh.nbytes


@pytest.mark.parametrize("codec", KV_CODECS.names())
def test_resizing_keeps_what_is_stored_as_it_lies(codec: str) -> None:
    model = build_model(
        ModelConfig(vocab_size=61, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, head_dim=64, max_positions=512)
    ).requires_grad_(False)
    text = torch.randint(61, (1, 300), generator=torch.Generator().manual_seed(2))
    config = CacheConfig(codec=codec, value_codec=codec, window=20, sinks=4, track_error=True)  # type: ignore[arg-type]
    cache, other = (KVCache.from_config(model, config, capacity=n) for n in (200, 320))
    for each in (cache, other):
        model(text[:, :150], each)
    cache.resize(320)
    for old, new in zip(other.layers, cache.layers, strict=True):
        for a, b in zip(old.read(150), new.read(150), strict=True):
            assert torch.equal(a, b)
        for a, b in zip(vars(old.slots(150)).values(), vars(new.slots(150)).values(), strict=True):
            assert (a == b).all()
    assert (cache.nbytes, cache.allocated_nbytes, cache.capacity) == (other.nbytes, other.allocated_nbytes, 320)
    torch.testing.assert_close(model(text[:, 150:], cache), model(text[:, 150:], other))
    with pytest.raises(ConfigError, match="does not hold 300"):
        cache.resize(299)


def test_a_failure_while_dropping_empties_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(MOVABLE["rope"])
    cache = cache_of(model, "sinks")
    model(TEXT[:, :CAPACITY], cache)

    def refuse(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(cache.layers[1], "drop", refuse)
        with pytest.raises(MemoryError):
            Room(model, cache).drop(cache)
    assert (cache.length, cache.offset) == (0, 0)
    torch.testing.assert_close(model(TEXT[:, :20], cache), model(TEXT[:, :20]), rtol=1e-4, atol=1e-4)


# ---- texts ---------------------------------------------------------------------------------------------------------

GREEDY = GenerationConfig(do_sample=False, max_new_tokens=60)
PROMPT = TEXT[0, :11].tolist()


@pytest.mark.parametrize("kind", MOVABLE)
@WAYS
def test_a_reply_goes_on_past_the_capacity(kind: str, way: str) -> None:
    model = model_of(MOVABLE[kind])
    _, result = run(generate(model, None, PROMPT, GREEDY, cache=cache_of(model, way)))
    assert (result.stop_reason, result.new_tokens) == ("length", 60)
    text = torch.tensor([[*PROMPT, *result.ids]])
    logits, drops = through(model, cache_of(model, way), text[:, :-1])
    assert result.dropped_tokens == sum(drops.values()) > 40
    chosen = logits[0, len(PROMPT) - 1 :]
    reached = chosen.gather(-1, torch.tensor(result.ids)[:, None])[:, 0]
    torch.testing.assert_close(reached, chosen.amax(-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [*MOVABLE, *UNMOVABLE])
@WAYS
@pytest.mark.parametrize("chunk", [5, 512])
def test_a_prompt_longer_than_the_capacity_is_read(kind: str, way: str, chunk: int) -> None:
    """In pieces of any size; what is left then is the same, and the reply too."""
    model = model_of({**MOVABLE, **UNMOVABLE}[kind])
    prompt = TEXT[0, :101].tolist()
    one, other = cache_of(model, way), cache_of(model, way)
    _, result = run(generate(model, None, prompt, GREEDY, cache=one, chunk=chunk))
    _, stepwise = run(generate(model, None, prompt, GREEDY, cache=other, chunk=1))
    assert result.ids == stepwise.ids
    assert (result.prompt_tokens, result.dropped_tokens) == (101, Room(model, one).dropped(101 + 59))
    assert one.length <= CAPACITY


def test_under_stop_a_prompt_that_does_not_fit_is_refused() -> None:
    model = model_of(MOVABLE["rope"])
    with pytest.raises(Exception, match="The prompt is 101 tokens long; the context holds 24"):
        run(generate(model, None, TEXT[0, :101].tolist(), GREEDY, cache=cache_of(model, "stop")))
    _, result = run(generate(model, None, PROMPT, GREEDY, cache=cache_of(model, "stop")))
    assert (result.stop_reason, result.dropped_tokens) == ("context", 0)


@pytest.mark.parametrize("kind", UNMOVABLE)
@WAYS
def test_positions_that_cannot_be_moved_are_read_again(kind: str, way: str) -> None:
    """Each token is what a fresh pass over the tokens that are left says."""
    model = model_of(UNMOVABLE[kind])
    events, result = run(generate(model, None, PROMPT, GREEDY, cache=cache_of(model, way), chunk=8))
    assert [e.message.startswith("This model's positions cannot be moved") for e in events if isinstance(e, Notice)] == [True]
    assert any(isinstance(e, Progress) and e.message.startswith("Reading again") for e in events)
    room, text = Room(model, cache_of(model, way)), [*PROMPT, *result.ids]
    for t in range(len(PROMPT), len(text)):
        left = room.rest(text[:t])
        assert len(left) <= CAPACITY
        logits = model(torch.tensor([left]))[0, -1]
        assert float(logits.max() - logits[text[t]]) < 1e-4
    assert result.dropped_tokens == room.dropped(len(text) - 1)


@WAYS
def test_without_a_cache_what_is_left_is_computed_again(way: str) -> None:
    model = model_of(MOVABLE["rope"])
    limits = CacheConfig(use_cache=False, capacity=CAPACITY, overflow=way, sinks=SINKS if way == "sinks" else 0)
    _, result = run(generate(model, None, PROMPT, GREEDY, limits=limits))
    room, text = Room(model, None, limits), [*PROMPT, *result.ids]
    assert result.stop_reason == "length"
    for t in range(len(PROMPT), len(text)):
        logits = model(torch.tensor([room.rest(text[:t])]))[0, -1]
        assert float(logits.max() - logits[text[t]]) < 1e-4


@pytest.mark.parametrize("kind", ["rope", "alibi", "learned", "windows"])
@WAYS
@pytest.mark.parametrize("cut", [0, 12, 70, 108, 111, 112])
def test_what_is_reused_after_drops_changes_no_reply(kind: str, way: str, cut: int) -> None:
    """The next text shares `cut` tokens with the last one: whatever is re-used, the reply is that of a fresh cache."""
    model = model_of({**MOVABLE, **UNMOVABLE}[kind])
    cache, state = cache_of(model, way), CacheState()
    first = TEXT[0, :52].tolist()
    _, before = run(generate(model, None, first, GREEDY, cache=cache, state=state))
    state.settle(cache)
    whole = [*first, *before.ids]
    assert state.ids == (whole[:-1] if kind != "learned" else Room(model, cache).rest(whole[:-1]))
    prompt = [*whole[:cut], *TEXT[0, 120:150].tolist()]
    room = Room(model, cache)
    reuse = state.reusable(prompt, cache, None, room)
    _, again = run(generate(model, None, prompt, GREEDY, cache=cache, reuse=reuse, state=state))
    _, fresh = run(generate(model, None, prompt, GREEDY, cache=cache_of(model, way)))
    assert again.ids == fresh.ids
    assert again.reused_tokens == reuse
    if kind != "learned" and cut >= 111:
        assert reuse > 10, "everything that follows the drops can be re-used"


@pytest.mark.parametrize("kind", ["rope", "learned"])
@WAYS
def test_scoring_goes_on_past_the_capacity(kind: str, way: str) -> None:
    model = model_of({**MOVABLE, **UNMOVABLE}[kind])
    ids = TEXT[0].tolist()
    _, found = run(score(model, None, ids, cache=cache_of(model, way)))
    assert (found.tokens, found.windows) == (149, 1)
    if kind == "rope":
        logits, _ = through(model, cache_of(model, way), TEXT[:, :-1])
        logprobs = logits[0].log_softmax(-1)
    else:
        room = Room(model, cache_of(model, way))
        logprobs = torch.stack([model(torch.tensor([room.rest(ids[:t])]))[0, -1].log_softmax(-1) for t in range(1, 150)])
    wanted = -float(logprobs.gather(-1, TEXT[0, 1:, None]).sum())
    assert found.nll == pytest.approx(wanted, rel=1e-5)


# ---- sizes ---------------------------------------------------------------------------------------------------------


def test_a_context_too_short_to_go_on_names_the_length_that_would_do() -> None:
    model = model_of({"position": "rope", "max_positions": 20})
    config = CacheConfig(overflow="sinks", sinks=40)
    with pytest.raises(ConfigError, match="A context of 20 tokens is too short to drop blocks of 2 and 40 that stay") as caught:
        Room(model, KVCache.from_config(model, config))
    assert "43 or more" in caught.value.hint


@pytest.mark.parametrize("changes", [{"window": 100}, {"sinks": 112}, {"sinks": 50, "window": 50}])
@WAYS
def test_a_context_without_room_beside_what_stays_exact_is_refused(changes: dict[str, int], way: str) -> None:
    config = CacheConfig(**{"capacity": 112, "overflow": way, "sinks": 4, **changes})  # type: ignore[arg-type]
    (problem,) = config.problems()
    assert problem.field == "capacity"
    least = config.least_capacity(112)
    assert f"Use {least} or more" in problem.fix
    assert CacheConfig(**{"overflow": way, "sinks": 4, **changes, "capacity": least + 32}).problems() == []  # type: ignore[arg-type]


@pytest.mark.parametrize(("capacity", "group", "block"), [(16, 1, 2), (24, 1, 3), (255, 1, 31), (256, 1, 32), (2048, 1, 256), (99, 32, 32)])
def test_blocks_are_an_eighth_in_whole_groups(capacity: int, group: int, block: int) -> None:
    assert drop_block(capacity, group) == block
