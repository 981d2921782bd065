"""One pass over a text reads what decoding token by token reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from workbench.caches import CACHE_PRESETS, KV_CODECS, CacheConfig, KVCache
from workbench.core.errors import ConfigError
from workbench.model import ModelConfig, build_model
from workbench.quality.strict import strict_cache

TOKENS = 150
SIZES = {"vocab_size": 60, "n_layers": 3, "d_model": 64, "n_heads": 4, "n_kv_heads": 2, "d_ff": 96, "max_positions": 256}
IDS = torch.randint(60, (1, TOKENS), generator=torch.Generator().manual_seed(5))


def kinds(key: str, value: str | None = None, **more: Any) -> CacheConfig:
    return CacheConfig(codec=key, value_codec=value or key, **more)  # type: ignore[arg-type]


def token_by_token(model: Any, config: CacheConfig) -> torch.Tensor:
    cache = KVCache.from_config(model, config, capacity=TOKENS)
    with torch.inference_mode():
        return torch.cat([model(IDS[:, i : i + 1], cache=cache) for i in range(TOKENS)], 1)


def at_once(model: Any, config: CacheConfig) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(IDS, cache=strict_cache(model, config, TOKENS))
    return found


@pytest.mark.parametrize("kind", KV_CODECS.names())
@pytest.mark.parametrize("kept", [{}, {"window": 20, "sinks": 3}, {"edge_layers": 1}], ids=["bare", "kept", "edges"])
def test_it_is_decoding_token_by_token(kind: str, kept: dict[str, int]) -> None:
    model = build_model(ModelConfig(**SIZES), seed=3)
    config = kinds(kind, **kept)
    found, wanted = at_once(model, config), token_by_token(model, config)
    assert (found - wanted).abs().max() < 1e-3 * wanted.abs().max()


@pytest.mark.parametrize("preset", CACHE_PRESETS)
def test_presets_too(preset: str) -> None:
    model = build_model(ModelConfig(**SIZES), seed=3)
    config = CACHE_PRESETS[preset].config
    found, wanted = at_once(model, config), token_by_token(model, config)
    assert (found - wanted).abs().max() < 1e-3 * wanted.abs().max()


@pytest.mark.parametrize(
    "change",
    [
        {"position": "alibi"}, {"sliding_window": 24}, {"position": "learned"}, {"attention_softcap": 20.0},
        {"n_heads": 2, "n_kv_heads": 1, "head_dim": 40},
    ],
    ids=str,
)  # fmt: skip
def test_architectures_that_score_in_other_ways(change: dict[str, Any]) -> None:
    sizes = {**SIZES, **change}
    model = build_model(ModelConfig(**sizes), seed=3)
    config = kinds("int8", "turboquant", window=8, sinks=2)
    found, wanted = at_once(model, config), token_by_token(model, config)
    assert (found - wanted).abs().max() < 1e-3 * wanted.abs().max()


def test_a_plain_pass_would_find_nothing_lost() -> None:
    """The trap that this exists for: a prompt read at once never sees its own codes."""
    model = build_model(ModelConfig(**SIZES), seed=3)
    config = kinds("kivi")
    exact = model(IDS)
    plain = model(IDS, cache=KVCache.from_config(model, config, capacity=TOKENS))
    torch.testing.assert_close(plain, exact, rtol=1e-4, atol=1e-4)
    assert (at_once(model, config) - exact).abs().max() > 1e-3


def test_what_has_no_quality() -> None:
    model = build_model(ModelConfig(**SIZES), seed=3)
    with pytest.raises(ConfigError, match="off"):
        strict_cache(model, CacheConfig(use_cache=False), TOKENS)
    with pytest.raises(ConfigError, match="64 tokens"):
        strict_cache(model, CacheConfig(capacity=64), TOKENS)
