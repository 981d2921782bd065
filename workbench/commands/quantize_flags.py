"""`--quantize --quantize-skip --quantize-set`: the weights that a verb works with."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from workbench.core.errors import ConfigError
from workbench.core.fields import require_usable, with_text

if TYPE_CHECKING:
    from workbench.quantization import QuantizationConfig


def quantize_flags(parser: argparse.ArgumentParser) -> None:
    from workbench.quantization import SCHEMES, SKIPPED

    group = parser.add_argument_group("weights in few bits")
    text = "Keep weights in few bits, as the Quantize page does."
    group.add_argument("--quantize", metavar="|".join(SCHEMES.names()), dest="quantize", help=text)
    usual = ", ".join(SKIPPED)
    text = f"Modules to leave as they are, such as blocks.0.*; repeatable, in place of {usual}. An empty one skips none."
    group.add_argument("--quantize-skip", metavar="PATTERN", action="append", dest="quantize_skip", help=text)
    text = "A setting of the scheme or of the choice, such as group_size=64 or modules=*mlp*; repeatable."
    group.add_argument("--quantize-set", metavar="FIELD=VALUE", action="append", default=[], dest="quantize_changes", help=text)


def quantization_config(args: argparse.Namespace) -> QuantizationConfig | None:
    """What the flags ask for; None for full precision, or for a verb without the flags. Raises `ConfigError`."""
    from workbench.quantization import SCHEMES, QuantizationConfig

    if getattr(args, "quantize", None) is None:
        if getattr(args, "quantize_skip", None) or getattr(args, "quantize_changes", None):
            raise ConfigError("How to quantize was said, but not with which scheme.", hint=f"Add --quantize {SCHEMES.names()[0]}.")
        return None
    if args.quantize not in SCHEMES:
        near = get_close_matches(args.quantize, SCHEMES.names(), n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise ConfigError(f"There is no scheme {args.quantize!r}.", hint=f"{hint}Choose one of: {', '.join(SCHEMES.names())}.")
    config = QuantizationConfig(scheme=SCHEMES.choose(args.quantize))
    if args.quantize_skip is not None:
        config = replace(config, skip=tuple(filter(None, args.quantize_skip)))
    for assignment in args.quantize_changes:
        config = _assigned(config, assignment)
    require_usable(config)
    return config


def _assigned(config: QuantizationConfig, assignment: str) -> QuantizationConfig:
    """`config` with one `field=value`; a name that it does not have itself is an option of its scheme."""
    name = assignment.partition("=")[0].strip()
    own, options = [f.name for f in fields(config)], [f.name for f in fields(config.scheme.options)]
    if name in options and name not in own:
        return replace(config, scheme=replace(config.scheme, options=with_text(config.scheme.options, assignment)))
    if name not in own and "." not in name:
        near = get_close_matches(name, (*options, *own), n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise ConfigError(f"There is no setting {name!r}.", hint=f"{hint}Choose one of: {', '.join((*options, *own))}.")
    return with_text(config, assignment)
