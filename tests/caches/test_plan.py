"""Which layer stores its keys and values how, and what that takes, before anything is allocated."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from workbench.caches import KV_CODECS, CacheConfig, KVCache, cache_nbytes, layer_plans
from workbench.caches.coded import CodedLayerCache
from workbench.caches.exact import ExactLayerCache
from workbench.caches.overrides import parse_override
from workbench.core.errors import ConfigError
from workbench.core.registry import Choice
from workbench.model import ModelConfig, build_model

STARTER = ModelConfig(vocab_size=49_152, n_layers=30, d_model=576, n_heads=9, n_kv_heads=3, max_positions=8192)
"""The sizes of SmolLM2-135M: 30 layers, 3 key/value heads of width 64."""
MIB = 2**20


def bare(keys: str, values: str | None = None, key_options: dict[str, Any] | None = None, **value_options: Any) -> CacheConfig:
    """Nothing stays exact, nothing is centred: the bits of the kinds alone."""
    more = key_options if values is None else value_options
    return CacheConfig(codec=KV_CODECS.choose(keys, key_options or {}), value_codec=KV_CODECS.choose(values or keys, more or {}))


def turbo(key_bits: int, value_bits: int, **key_options: Any) -> CacheConfig:
    keys = {"bits": key_bits, "centred": False, **key_options}
    return bare("turboquant", "turboquant", keys, bits=value_bits, centred=False)


def kinds(config: CacheConfig, n_layers: int = 6) -> list[tuple[str, str]]:
    return [(plan.keys.kind, plan.values.kind) for plan in layer_plans(config, n_layers)]


# ---- who stores how ------------------------------------------------------------------------------------------------


def test_keys_and_values_are_stored_as_each_is_told() -> None:
    config = CacheConfig(codec="int8", value_codec="turboquant")  # type: ignore[arg-type]
    assert kinds(config) == [("int8", "turboquant")] * 6


@pytest.mark.parametrize(("edge", "inner"), [(0, range(6)), (1, range(1, 5)), (2, range(2, 4)), (3, ()), (9, ())])
def test_edge_layers_are_those_at_either_end(edge: int, inner: range) -> None:
    config = CacheConfig(codec="turboquant", value_codec="turboquant", edge_layers=edge, edge_codec="int8")  # type: ignore[arg-type]
    assert kinds(config) == [("turboquant",) * 2 if i in inner else ("int8",) * 2 for i in range(6)]


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        (("0-3=int8",), "iiiixx"), (("-1=int8",), "xxxxxi"), (("-2--1=int8",), "xxxxii"), (("0,2,-1=int8",), "ixixxi"),
        (("4-99=int8",), "xxxxii"), (("17=int8",), "xxxxxx"), (("0-3=int8", "1=exact"), "ixiixx"), ((" 1 - 1 = int8",), None),
        (("3-1=int8",), "xxxxxx"), (("0--1=int8",), "iiiiii"),
    ],
)  # fmt: skip
def test_rules_name_layers(rules: tuple[str, ...], wanted: str | None) -> None:
    config = CacheConfig(layer_overrides=rules)
    if wanted is None:
        assert config.problems()[0].field == "layer_overrides"
        return
    assert config.problems() == []
    assert "".join("i" if keys == "int8" else "x" for keys, _ in kinds(config)) == wanted
    assert all(keys == values for keys, values in kinds(config))


def test_a_rule_may_be_for_keys_or_values_alone_and_set_options() -> None:
    rules = ("-1/keys=turboquant:bits=6", "0/values=kivi:bits=2", "1=int4:rotated=yes,range=min-max")
    config = CacheConfig(codec="int8", value_codec="int4", layer_overrides=rules)  # type: ignore[arg-type]
    assert config.problems() == []
    plans = layer_plans(config, 3)
    assert [(p.keys.kind, p.values.kind) for p in plans] == [("int8", "kivi"), ("int4", "int4"), ("turboquant", "int4")]
    assert (plans[0].values.options.bits, plans[2].keys.options.bits) == (2, 6)
    assert (plans[1].keys.options.rotated, plans[1].keys.options.range) == (True, "min-max")


def test_rules_come_after_edge_layers() -> None:
    config = CacheConfig(codec="int4", value_codec="int4", edge_layers=1, layer_overrides=("0/values=exact",))  # type: ignore[arg-type]
    assert kinds(config, 3) == [("int8", "exact"), ("int4", "int4"), ("int8", "int8")]


@pytest.mark.parametrize(
    "rule", ["", "int8", "=int8", "a=int8", "1=", "1=int9", "1/queries=int8", "1=turboquant:bits=9", "1=turboquant:bits", "1=int8:bits=4"]
)
def test_rules_that_cannot_be_read_say_so(rule: str) -> None:
    problems = CacheConfig(layer_overrides=(rule,)).problems()
    assert [p.field for p in problems] == ["layer_overrides"]
    assert problems[0].message
    with pytest.raises(ConfigError):
        parse_override(rule)


def test_the_layers_of_a_cache_are_as_planned() -> None:
    model = build_model(ModelConfig(vocab_size=61, n_layers=4, d_model=32, n_heads=2, head_dim=64, max_positions=256)).requires_grad_(False)
    config = CacheConfig(codec="int4", value_codec="kivi", edge_layers=1, edge_codec="exact", layer_overrides=("1/keys=turboquant:bits=6",))  # type: ignore[arg-type]
    cache = KVCache.from_config(model, config)
    made = [type(layer) for layer in cache.layers]
    assert made == [ExactLayerCache, CodedLayerCache, CodedLayerCache, ExactLayerCache]
    ids = torch.randint(61, (1, 200))
    model(ids, cache)
    constants = sum({t.data_ptr(): t.nbytes for layer in cache.layers for t in layer.constants()}.values())
    assert constants > 0
    assert cache.nbytes - constants == cache_nbytes(config, model.config, 200)
    slots = cache.slots()
    assert [bool(layer.exact.all()) for layer in slots] == [True, False, False, True]


# ---- what it takes -------------------------------------------------------------------------------------------------


EXACT_16 = bare("exact", None, {"dtype": "float16"})


@pytest.mark.parametrize(
    ("config", "per_token", "mib"),
    [
        (CacheConfig(), 46_080, (90.0, 360.0, 1440.0)),
        (EXACT_16, 23_040, (45.0, 180.0, 720.0)),
        (bare("int8"), 11_880, (23.2, 92.8, 371.0)),
        (turbo(8, 4), 9_000, (17.6, 70.3, 281.0)),
        (turbo(6, 4), 7_560, (14.8, 59.1, 236.0)),
        (turbo(5, 4), 6_840, (13.4, 53.4, 214.0)),
        (bare("kivi"), 7_200, (14.1, 56.2, 225.0)),
        (bare("int4", None, {"group_size": None, "range": "min-max"}), 6_480, (12.7, 50.6, 202.0)),
        (bare("int4"), 6_480, (12.7, 50.6, 202.0)),
        (turbo(4, 4), 6_120, (12.0, 47.8, 191.0)),
        (turbo(4, 4, variant="prod"), 6_300, (12.3, 49.2, 197.0)),
        (turbo(3, 3), 4_680, (9.1, 36.6, 146.0)),
        (turbo(2, 2), 3_240, (6.3, 25.3, 101.0)),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else None,
)  # fmt: skip
def test_bytes_are_those_worked_out_for_the_starter_model(config: CacheConfig, per_token: int, mib: tuple[float, ...]) -> None:
    for tokens, wanted in zip((2048, 8192, 32_768), mib, strict=True):
        counted = cache_nbytes(config, STARTER, tokens)
        assert counted == per_token * tokens
        assert counted / MIB == pytest.approx(wanted, abs=0.5 if wanted > 100 else 0.06)
        assert cache_nbytes(config, STARTER, tokens, batch=3) == 3 * counted


@pytest.mark.parametrize(
    ("bits", "window", "tokens", "ratio"),
    [
        (4, 128, 2048, 3.21),
        (4, 128, 8192, 3.61),
        (4, 128, 32_768, 3.72),
        (3, 128, 2048, 3.95),
        (3, 128, 8192, 4.64),
        (3, 128, 32_768, 4.85),
    ],
)
def test_ratios_with_a_recent_window_in_half_precision(bits: int, window: int, tokens: int, ratio: float) -> None:
    options = {"bits": bits, "centred": False}
    codec: Choice[Any] = KV_CODECS.choose("turboquant", options)
    config = CacheConfig(codec=codec, value_codec=codec, window=window)
    assert cache_nbytes(EXACT_16, STARTER, tokens) / cache_nbytes(config, STARTER, tokens, dtype=torch.float16) == pytest.approx(
        ratio, abs=0.01
    )


@pytest.mark.parametrize(("bits", "least"), [(4, 3.7), (3, 4.9), (2, 7.0)])
def test_ratios_against_half_precision_at_2048_tokens(bits: int, least: float) -> None:
    assert cache_nbytes(EXACT_16, STARTER, 2048) / cache_nbytes(turbo(bits, bits), STARTER, 2048) >= least
