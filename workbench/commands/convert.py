"""`convert`: carry a model's weights to another architecture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.commands.base import Console, table, verb
from workbench.commands.common import changed, compute_flags, model_argument, open_model, preset_config
from workbench.core.errors import ConfigError, WorkbenchError
from workbench.core.format import count_text

if TYPE_CHECKING:
    from workbench.converting import ConversionMeasure
    from workbench.model import ModelConfig
    from workbench.model.convert import ConversionPlan

_BUILT_IN = "built-in"


def _arguments(parser: argparse.ArgumentParser) -> None:
    model_argument(parser)
    text = "Change an architecture field, such as n_kv_heads=9 or position.scaling=yarn; repeatable."
    parser.add_argument("--set", metavar="FIELD=VALUE", action="append", default=[], dest="changes", help=text)
    text = "Convert to this named architecture, before what --set changes; the vocabulary stays the model's."
    parser.add_argument("--preset", metavar="NAME", help=text)
    parser.add_argument("--out", metavar="DIR", type=Path, help="Folder to write; must not exist. Not needed with --plan.")
    from workbench.checkpoints.formats import savable

    parser.add_argument("--format", metavar="|".join(savable()), default="workbench", help="Kind of checkpoint. Default: workbench.")
    text = "Measure what it costs in nats per token, on a UTF-8 text of yours or without FILE on a built-in one."
    parser.add_argument("--measure", metavar="FILE", nargs="?", const=_BUILT_IN, help=text)
    parser.add_argument("--plan", action="store_true", help="Only say what would become of the model; its weights are not read.")
    compute_flags(parser)


@verb("convert", "Carry a model to another architecture: what stays exact, what is approximate, what needs training.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    if not args.changes and not args.preset:
        raise ConfigError("Nothing is to be changed.", hint="Give --set FIELD=VALUE or --preset NAME.")
    if args.plan and args.measure is None:
        return _plan_only(args, console)
    if args.out is None and not args.plan:
        raise ConfigError("There is no place to write to.", hint="Give --out DIR, or --plan to see what would happen.")
    session = open_model(args, console)
    new = _wanted(session.loaded.config, args)
    planned = session.plan_conversion(new)
    console.say(_text(planned))
    measure = None
    if args.measure is not None:
        sample = None if args.measure == _BUILT_IN else Path(args.measure).expanduser()
        measure = console.follow(session.measure_conversion(new, sample, console.control))
        if measure is None:
            raise WorkbenchError("Measuring was stopped; nothing was written.")
        console.say(_measured(measure))
    if args.plan:
        console.result({"plan": planned, "measure": measure})
        return 0
    report = console.follow(session.convert(new, console.control))
    if report is None:
        raise WorkbenchError("Converting was stopped; nothing was written.")
    loaded = session.loaded
    from workbench.checkpoints import save_events

    saved = console.follow(
        save_events(loaded.model, loaded.tokenizer, loaded.chat_template, args.out, args.format, control=console.control)
    )
    if saved is None:
        raise WorkbenchError("Saving was stopped; nothing was written.")
    moved = report.max_abs_logit_difference
    result = {
        "event": "done", "path": str(saved.path), "max_abs_logit_difference": moved, "report": report, "measure": measure, "saved": saved,
    }  # fmt: skip
    words = f"Wrote {saved.path} ({saved.format}); max |Δ logit| of the conversion = {moved:.2e}, of reading it back = "
    console.result(result, words + f"{saved.max_abs_logit_difference:.2e}")
    return 0


def _plan_only(args: argparse.Namespace, console: Console) -> int:
    from workbench.checkpoints import read_config
    from workbench.commands.common import base_model
    from workbench.library import Library
    from workbench.model.convert import plan

    config = read_config(Library(args.home).resolve(base_model(args.model)))
    planned = plan(config, _wanted(config, args))
    console.result({"plan": planned, "measure": None}, _text(planned))
    return 0


def _wanted(config: ModelConfig, args: argparse.Namespace) -> ModelConfig:
    from dataclasses import replace

    base = config if args.preset is None else replace(preset_config(args.preset), vocab_size=config.vocab_size)
    return changed(base, args.changes)


def _text(planned: ConversionPlan) -> str:
    if not planned.changes:
        return "Nothing changes."
    rows = []
    for change in planned.changes:
        fresh = count_text(change.fresh_parameters) if change.fresh_parameters else ""
        rows.append({"setting": change.field, "verdict": change.verdict, "fresh": fresh, "how": _how(change.how, change.needs)})
    kept, fresh = count_text(planned.kept_parameters), count_text(planned.fresh_parameters)
    return f"{table(rows)}\n{planned.verdict}: {kept} parameters are kept, {fresh} are fresh"


def _how(how: str, needs: object) -> str:
    """`how`, and the settings with which it would be exact as one types them."""
    if not isinstance(needs, dict) or not needs:
        return how
    typed = " ".join(f"--set {name}={str(value).lower()}" for name, value in needs.items())
    return f"{how} Exact with {typed}."


def _measured(measure: ConversionMeasure) -> str:
    on = f"on {measure.tokens} tokens ({measure.sample})"
    if measure.unseen:
        return f"no difference {on}: what changes acts on longer texts only, and was not measured"
    if measure.nats_before is None or measure.nats_after is None or measure.difference is None:
        largest = f"largest |Δ logit| {measure.max_abs_logit_difference:.3g}"
        return f"{on}: a model that sees the tokens it is to predict cannot be scored; {largest}"
    error = measure.standard_error or 0.0
    before = f"{measure.nats_before:.4f} nats per token {on}"
    return f"before: {before}; after: {measure.nats_after:.4f}; difference {measure.difference:+.4f} ± {error:.4f}"
