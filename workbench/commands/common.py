"""Flags and steps that several verbs share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.commands.base import Console
from workbench.commands.quantize_flags import quantization_config
from workbench.core.errors import ConfigError, FileError, WorkbenchError
from workbench.core.fields import describe, with_text
from workbench.core.flags import add_flags, from_flags
from workbench.library import CATALOGUE

if TYPE_CHECKING:
    from workbench.model import ModelConfig
    from workbench.session import Session


def compute_flags(parser: argparse.ArgumentParser) -> None:
    """`--device --dtype --threads`."""
    from workbench.requests import ComputeConfig

    add_flags(parser, ComputeConfig)


def model_argument(parser: argparse.ArgumentParser) -> None:
    text = "A library name (starter), a Hugging Face folder, a GGUF file, our own checkpoint, or a run folder."
    parser.add_argument("model", metavar="MODEL", help=text)


def adapter_flag(parser: argparse.ArgumentParser) -> None:
    text = "An adapter folder in PEFT's format, and how strongly it acts (1 as trained)."
    parser.add_argument("--adapter", metavar="DIR[:STRENGTH]", help=text)


def open_session(args: argparse.Namespace) -> Session:
    """A session with the flags of `compute_flags`."""
    from workbench.requests import ComputeConfig
    from workbench.session import Session

    compute = from_flags(ComputeConfig, args)
    return Session(args.home, compute.device, compute.dtype, compute.threads)


def open_model(args: argparse.Namespace, console: Console) -> Session:
    """A session with `args.model` loaded, quantized as `args` say, and `args.adapter`, if any, in force; of a run folder, its base model
    and its adapter."""
    quantization = quantization_config(args)
    session, base = open_session(args), base_model(args.model)
    if console.follow(session.load(base, console.control)) is None:
        raise WorkbenchError("Loading was stopped.")
    if quantization is not None and console.follow(session.quantize(quantization, console.control)) is None:
        raise WorkbenchError("Quantizing was stopped.")
    if getattr(args, "adapter", None):
        path, strength = split_strength(args.adapter)
        session.use_adapter(path, strength)
    elif base != args.model:
        session.use_adapter(_adapter_of(Path(args.model).expanduser()))
    return session


def base_model(model: str) -> str:
    """`model` itself, or the base model that a run folder names; a run from scratch stands for the model it made. Raises
    `FileError` when the run names none, or has not made it yet."""
    folder = Path(model).expanduser()
    if model in CATALOGUE or not (folder / "run.json").is_file():
        return model
    from workbench.runs import model_of, open_run

    if model_of(folder) is not None:
        return model
    kept = open_run(folder).manifest.get("model")
    path = kept.get("path") if isinstance(kept, dict) else None
    if not isinstance(path, str):
        raise FileError(f"The run {model} does not say which model it trained.", hint="Name the model, and the adapter with --adapter.")
    if Path(path) == folder.absolute() / "model":
        raise FileError(f"The run {model} has no finished model.", hint="Finish it: pretrain --resume --out with its folder.")
    return path


def _adapter_of(folder: Path) -> Path:
    from workbench.runs import open_run

    found = open_run(folder).adapter
    if found is None:
        raise FileError(f"The run {folder} has no finished adapter.", hint="Finish it with --resume, or name a checkpoint with --adapter.")
    return found.absolute()


def split_strength(text: str) -> tuple[Path, float]:
    """ "DIR:0.5" -> (DIR, 0.5); without a number, or when the whole is a path, the strength is 1. `ConfigError` unless finite."""
    if Path(text).expanduser().exists():
        return Path(text).expanduser(), 1.0
    folder, colon, number = text.rpartition(":")
    if colon and folder:
        try:
            strength = float(number)
        except ValueError:
            return Path(text).expanduser(), 1.0  # a colon in the path, not a strength
        if not math.isfinite(strength):
            raise ConfigError(f"The adapter's strength is {number}.", hint="Give a finite number; 1 is as trained.")
        return Path(folder).expanduser(), strength
    return Path(text).expanduser(), 1.0


def preset_flags(parser: argparse.ArgumentParser, *, fields: bool = False) -> None:
    """`--preset` and `--set`. `fields`: the help ends with every architecture field and the kinds it takes."""
    parser.add_argument("--preset", metavar="NAME", help="A named architecture instead of a model on disk; inspect --list names them.")
    text = "Override an architecture field, such as position=alibi or norm.eps=1e-6; repeatable."
    parser.add_argument("--set", metavar="FIELD=VALUE", action="append", default=[], dest="changes", help=text)
    if fields:
        from workbench.model import ModelConfig

        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = "\n".join(("architecture fields for --set:", *_field_lines(ModelConfig)))


def _field_lines(config_type: type, path: str = "", indent: str = "  ") -> Iterator[str]:
    """A line per field: its name, its kinds or type, its label; below it, the options that single kinds have of their own."""
    for info in describe(config_type):
        names = [option.name for option in info.pick_options()]
        yield f"{indent}{path}{info.name}={'|'.join(names) or info.type.__name__.upper()}    {info.label}"
        for entry in info.registry or ():
            if describe(entry.options):
                yield f"{indent}  with {path}{info.name}={entry.name}:"
                yield from _field_lines(entry.options, f"{path}{info.name}.", f"{indent}    ")


def preset_config(name: str) -> ModelConfig:
    """The config of a preset; `ConfigError` with the nearest names when there is none."""
    from workbench.model import PRESETS

    if name not in PRESETS:
        near = get_close_matches(name, PRESETS, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(f"There is no preset {name!r}.", hint=f"{hint}`inspect --list` names all {len(PRESETS)}.")
    return PRESETS[name].config


def changed(config: ModelConfig, changes: list[str]) -> ModelConfig:
    """`config` with every `--set` applied in order."""
    for assignment in changes:
        config = with_text(config, assignment)
    return config
