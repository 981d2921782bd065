"""`--cache --cache-set --context`: the KV cache that a verb works through."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ConfigError
from workbench.core.fields import require_usable, with_text
from workbench.core.registry import Choice

if TYPE_CHECKING:
    from workbench.caches import CacheConfig

NONE = "none"


def cache_flags(parser: argparse.ArgumentParser, default: str | None = None, *, what: str = "How keys and values are kept") -> None:
    """`default` None: the verb says itself what happens without `--cache`."""
    names = "|".join(_names())
    group = parser.add_argument_group("cache")
    text = f"{what}: a preset or a kind; none computes everything again for each token."
    group.add_argument("--cache", metavar=names, default=default, help=text + (f" Default: {default}." if default else ""))
    text = "A setting of the cache, such as window=64, overflow=sinks or bits=4 (of keys and values, where they have it); repeatable."
    group.add_argument("--cache-set", metavar="FIELD=VALUE", action="append", default=[], dest="cache_changes", help=text)
    group.add_argument("--context", metavar="TOKENS", type=int, help="Tokens the cache holds (default: the model's context).")


def cache_config(args: argparse.Namespace) -> CacheConfig:
    """The cache that the flags ask for; exact where `--cache` is not given. Raises `ConfigError`."""
    config = named_cache(args.cache or "exact")
    for assignment in args.cache_changes:
        config = _assigned(config, assignment)
    if args.context is not None:
        config = replace(config, capacity=args.context)
    require_usable(config)
    return config


def named_cache(name: str) -> CacheConfig:
    """The config of a preset, of a kind for keys and values, or of no cache."""
    from workbench.caches import CACHE_PRESETS, KV_CODECS, CacheConfig

    if name == NONE:
        return CacheConfig(use_cache=False)
    if name in CACHE_PRESETS:
        return CACHE_PRESETS[name].config
    if name not in KV_CODECS:
        near = get_close_matches(name, _names(), n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise ConfigError(f"There is no cache {name!r}.", hint=f"{hint}Choose one of: {', '.join(_names())}.")
    return CacheConfig(codec=KV_CODECS.choose(name), value_codec=KV_CODECS.choose(name))


def _names() -> list[str]:
    """None, the presets, and the kinds, each once."""
    from workbench.caches import CACHE_PRESETS, KV_CODECS

    return list(dict.fromkeys((NONE, *CACHE_PRESETS, *KV_CODECS.names())))


def _assigned(config: CacheConfig, assignment: str) -> CacheConfig:
    """`config` with one `field=value`; an option that only kinds have goes to the keys' kind and the values', where they have it."""
    name = assignment.partition("=")[0].strip()
    if "." in name or name in {f.name for f in fields(config)}:
        return with_text(config, assignment)
    changed: dict[str, Any] = {}
    for part in ("codec", "value_codec"):
        choice: Choice[Any] = getattr(config, part)
        if name in {f.name for f in fields(choice.options)}:
            changed[part] = replace(choice, options=with_text(choice.options, assignment))
    return replace(config, **changed) if changed else with_text(config, assignment)  # which names the fields there are
