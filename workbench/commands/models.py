"""`models`: what this machine has, what the hub has, fetching and removing."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from workbench.commands.base import Console, common_flags, table, verb
from workbench.core.errors import DownloadError
from workbench.core.format import bytes_text, count_text
from workbench.library import Fit, Library, ModelEntry, fit_of_parameters, fit_of_size


def _arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    common = [common_flags()]
    fetch = actions.add_parser("fetch", help="Download a model (checksums verified, goes on where it ended).", parents=common)
    fetch.add_argument("name", metavar="NAME", help="A name of the catalogue (starter), or owner/repo[:file.gguf] on the hub.")
    search = actions.add_parser("search", help="Find models on the Hugging Face hub.", parents=common)
    search.add_argument("text", metavar="TEXT", nargs="+", help="Part of the name.")
    remove = actions.add_parser("remove", help="Move a model of the library to its trash.", parents=common)
    remove.add_argument("name", metavar="NAME", help="Its name in the list.")
    actions.add_parser("empty-trash", help="Delete removed models for good.", parents=common)


@verb("models", "List the models on this machine; search the hub, fetch or remove one.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    library = Library(args.home)
    more: dict[str, Any] = {}
    if args.action == "search":
        return _search(library, " ".join(args.text), console)
    if args.action == "fetch":
        _refuse_unknown(library, args.name, console)
        path = console.follow(library.fetch(args.name, console.control))
        console.say(f"{args.name} is at {path}")
        more["path"] = path
    if args.action == "remove":
        more["removed"] = library.remove(args.name)
        console.say(f"{args.name} was moved to {more['removed']}")
    if args.action == "empty-trash":
        more["freed_bytes"] = library.empty_trash()
        console.say(f"{bytes_text(more['freed_bytes'])} were freed.")
    rows = [_entry(entry) for entry in library.models()]
    missing = [m for name, m in library.catalogue.items() if not library.is_installed(name)]
    text = table([_shown(row) for row in rows]) or "There is no model on this machine yet."
    for model in missing:
        text += f"\nCan be fetched: {model.name} ({model.label}, {bytes_text(model.bytes)}): python -m workbench models fetch {model.name}"
    unfinished = library.unfinished()
    for one in unfinished:
        text += f"\nUnfinished: {one.spec} ({bytes_text(one.done)} of {bytes_text(one.total)}): python -m workbench models fetch {one.spec}"
    if trash := library.trash_bytes():
        text += f"\nRemoved models take {bytes_text(trash)}: python -m workbench models empty-trash"
    available = [m.name for m in missing]
    console.result({"models": rows, "available": available, "unfinished": [asdict(u) for u in unfinished], **more}, text)
    return 0


def _refuse_unknown(library: Library, name: str, console: Console) -> None:
    """Gigabytes that could not be opened are not fetched."""
    if name in library.catalogue or "/" not in name:
        return
    model = console.follow(library.look(name.partition(":")[0], console.control)).model
    from workbench.appraisal import known_architecture

    if unknown := model.unknown(known_architecture, gguf=":" in name):
        what = f"{name} is of the architecture {unknown!r}, which cannot be opened here."
        raise DownloadError(what, hint="Choose another model: models search.")


def _entry(entry: ModelEntry) -> dict[str, Any]:
    from workbench.appraisal import appraise  # torch, which an empty library need not wait for

    known = appraise(entry.path)
    if known.problem:
        fit = fit_of_size(entry.path.name, entry.bytes)
    else:
        fit = fit_of_parameters(known.parameters, _dtype(), known.kv_values_per_token, known.context)
    return {**asdict(entry), **asdict(known), "fit": _fit(fit)}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    opens = not row["problem"]
    return {
        "name": row["name"],
        "size": bytes_text(row["bytes"]),
        "format": row["format"],
        "architecture": row["architecture"] or "–",
        "parameters": count_text(row["parameters"]) if opens else "–",
        "memory (estimated)": f"{row['fit']['word']}: {bytes_text(row['fit']['need_bytes'])}" if opens else row["problem"],
        "path": row["path"],
    }


def _search(library: Library, text: str, console: Console) -> int:
    found = console.follow(library.search(text, console.control))
    from workbench.appraisal import known_architecture

    rows = []
    for model in found:
        fit = fit_of_parameters(model.parameters, _dtype()) if model.parameters else None
        problem = model.problem
        if not problem and (unknown := model.unknown(known_architecture)):
            problem = f"the architecture {unknown} is not known"
        rows.append({**asdict(model), "problem": problem, "fit": _fit(fit) if fit else None})
    shown = [
        {
            "name": row["id"], "parameters": count_text(row["parameters"]) if row["parameters"] else "?",
            "architecture": row["architecture"] or "?", "formats": ", ".join(row["formats"]) or "–",
            "downloads": row["downloads"], "likes": row["likes"], "updated": row["updated"],
            "memory (estimated)": _memory(row),
        }
        for row in rows
    ]  # fmt: skip
    hint = "\nFetch one with: python -m workbench models fetch OWNER/REPO (or OWNER/REPO:FILE.gguf)"
    console.result({"models": rows, "query": text}, table(shown) + hint if shown else f"The hub has no model with {text!r} in its name.")
    return 0


def _memory(row: dict[str, Any]) -> str:
    if row["problem"]:
        return f"cannot be opened: {row['problem']}"
    words = f"{row['fit']['word']}: {bytes_text(row['fit']['need_bytes'])}" if row["fit"] else "?"
    return f"{words}, gated" if row["gated"] else words


def _dtype() -> str:
    """The precision that models are loaded in unless asked otherwise."""
    from workbench.devices import choose_compute

    return str(choose_compute().dtype).removeprefix("torch.")


def _fit(fit: Fit) -> dict[str, Any]:
    return {"word": fit.word, "need_bytes": round(fit.need), "free_bytes": round(fit.free), "estimated_from": fit.basis}
