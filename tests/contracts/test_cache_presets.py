"""Every named cache is what its name says, to the byte."""

from __future__ import annotations

import argparse

import pytest
import torch

from workbench.caches import CACHE_PRESETS, KV_CODECS, CacheConfig, CachePreset, KVCache, cache_nbytes
from workbench.commands.cache_flags import cache_config, cache_flags
from workbench.core.fields import from_dict, to_dict
from workbench.model import PRESETS, ModelConfig, build_model

EACH = pytest.mark.parametrize("preset", CACHE_PRESETS.values(), ids=lambda p: p.name)
STARTER = PRESETS["smollm2-135m"].config


def halves(tokens: int) -> int:
    """Bytes of the exact cache in float16."""
    return 2 * STARTER.n_layers * STARTER.kv_heads * STARTER.head_width * tokens * 2


def ratio(config: CacheConfig, tokens: int = 2048, dtype: torch.dtype = torch.float32) -> float:
    return halves(tokens) / cache_nbytes(config, STARTER, tokens, dtype=dtype)


def bare(bits: int) -> CacheConfig:
    choice = KV_CODECS.choose("turboquant", bits=bits)
    return CacheConfig(codec=choice, value_codec=choice)


@EACH
def test_is_described_and_usable(preset: CachePreset) -> None:
    assert CACHE_PRESETS[preset.name] is preset
    assert preset.label
    assert preset.help.endswith(".")
    assert preset.help.count(". ") == 0, "one sentence says what is kept"
    assert preset.config.problems() == []
    assert from_dict(CacheConfig, to_dict(preset.config)) == preset.config


@EACH
def test_scripts_ask_for_it_by_name(preset: CachePreset) -> None:
    parser = argparse.ArgumentParser()
    cache_flags(parser)
    assert parser.format_usage().count(f"|{preset.name}|") == 1
    assert cache_config(parser.parse_args(["--cache", preset.name])) == preset.config
    assert cache_config(parser.parse_args(["--cache", preset.name, "--cache-set", "window=7"])).window == 7


@EACH
def test_a_cache_holds_as_many_bytes_as_were_promised(preset: CachePreset) -> None:
    config = ModelConfig(vocab_size=61, n_layers=4, d_model=32, n_heads=4, n_kv_heads=2, head_dim=64, max_positions=400)
    cache = KVCache.from_config(build_model(config).requires_grad_(False), preset.config)
    for tokens in (3, 130, 1, 100):
        for layer in cache.layers:
            layer.store(torch.randn(1, 2, tokens, 64), torch.randn(1, 2, tokens, 64), cache.length)
        cache.advance(tokens)
        shared = sum({t.data_ptr(): t.nbytes for layer in cache.layers for t in layer.constants()}.values())
        assert cache.nbytes - shared == cache_nbytes(preset.config, config, cache.length)
        assert shared < 20_000


def test_from_the_most_exact_to_the_smallest() -> None:
    ratios = [ratio(preset.config, 4096) for preset in CACHE_PRESETS.values()]
    assert ratios == sorted(ratios)


@pytest.mark.parametrize(("bits", "least"), [(8, 1.9), (4, 3.7), (3, 4.9), (2, 7.0)])
def test_bare_bits_against_float16(bits: int, least: float) -> None:
    """Scales and means included."""
    assert least < ratio(bare(bits)) < 16 / bits


def test_presets_against_float16() -> None:
    """At 2048 tokens of the starter model, whose exact tokens take float32; a model in half precision saves more."""
    assert ratio(CACHE_PRESETS["exact"].config) == 0.5
    assert ratio(CACHE_PRESETS["safe"].config) > 2.1
    balanced = CACHE_PRESETS["balanced"].config
    assert (balanced.window, balanced.sinks, balanced.edge_layers, balanced.edge_codec.kind) == (64, 4, 1, "int8")
    assert ratio(balanced) > 2.8
    assert ratio(balanced, dtype=torch.bfloat16) > 3.1
    assert ratio(CACHE_PRESETS["small"].config) > 3.6
