"""The workbench's own format: a folder with `workbench.json` (architecture, chat template), `model.safetensors` under the
engine's own names, and `tokenizer.workbench.json`."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from workbench import __version__
from workbench.checkpoints.formats import FORMATS, Content, Format, Opened, Source, Writing, type_name
from workbench.checkpoints.load import parameters_of
from workbench.checkpoints.quantized import form_of, in_full, plane_names, read_form
from workbench.checkpoints.safetensors_file import Outgoing, SafetensorsFile, stored_as, write_safetensors
from workbench.core import layouts
from workbench.core.errors import FileError
from workbench.core.fields import to_dict
from workbench.core.store import Migration, atomic_folder, read_json, write_json
from workbench.tokenizers import Tokenizer, tokenizer_from_json

CONFIG = "workbench.json"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.workbench.json"
KIND, TOKENIZER_KIND = "workbench checkpoint", "workbench tokenizer"
VERSION, TOKENIZER_VERSION = 3, 1


def _name_qk_norm(data: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knew QK-norm per head only, as yes or no."""
    model = data.get("model")
    if isinstance(model, dict) and isinstance(model.get("qk_norm"), bool):
        data = {**data, "model": {**model, "qk_norm": "head" if model["qk_norm"] else "off"}}
    return data


MIGRATIONS: dict[int, Migration] = {1: _name_qk_norm, 2: lambda data: data}  # version 2 knew no quantized weights
"""`MIGRATIONS[v]` turns the data of version v into that of v + 1."""


@FORMATS.register(
    "workbench",
    label="Workbench checkpoint",
    help="a folder with workbench.json, which keeps every architecture this program can build.",
)
class WorkbenchFormat(Format):
    can_save = True

    def recognises(self, path: Path) -> bool:
        return layouts.LAYOUTS["workbench"](path)

    def open(self, path: Path) -> Opened:
        data = read_json(path / CONFIG, kind=KIND, version=VERSION, migrations=MIGRATIONS)
        fields = data.get("model")
        if not isinstance(fields, dict) or not isinstance(fields.get("tie_embeddings"), bool):
            raise FileError(f"{path.name}/{CONFIG} does not say the model's architecture.", hint="The file is damaged; restore it.")
        template = data.get("chat_template")
        file = SafetensorsFile(path / WEIGHTS)
        form = data.get("quantization")
        return Opened(
            source=Source(path, "workbench", "workbench", sum(i.nbytes for i in file.infos.values()), path.resolve().name),
            file=file,
            table={name: name for name in file.infos},
            fields={name: value for name, value in fields.items() if name != "tie_embeddings"},
            tied=fields["tie_embeddings"],
            read_tokenizer=lambda: read_tokenizer(path),
            chat_template=template if isinstance(template, str) else None,
            form=None if form is None else read_form(form, path.name),
        )

    def prepare(self, content: Content, family: str | None) -> Writing:
        model = content.model if content.type is None else in_full(content.model)
        dtype, form, planes = content.dtype, form_of(model), plane_names(model)
        outgoing = {n: Outgoing(n, tuple(p.shape), p.dtype, p.detach) for n, p in parameters_of(model).items()}
        tensors = [tensor if name in planes else stored_as(tensor, dtype) for name, tensor in outgoing.items()]

        def write(path: Path) -> Generator[int, None, None]:
            with atomic_folder(path) as folder:
                yield from write_safetensors(folder / WEIGHTS, tensors)
                if content.tokenizer is not None:
                    write_json(folder / TOKENIZER, content.tokenizer.to_json(), kind=TOKENIZER_KIND, version=TOKENIZER_VERSION)
                about = {"program": __version__, "model": to_dict(model.config), "chat_template": content.chat_template}
                about |= {} if form is None else {"quantization": form.to_json()}
                write_json(folder / CONFIG, about, kind=KIND, version=VERSION)

        kind = type_name(dtype) if form is None or form.scheme is None else form.scheme.kind
        return Writing(
            "workbench", kind, sum(t.nbytes for t in tensors), write, lambda name, rows: rows if name in planes else rows.to(dtype)
        )  # fmt: skip


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The checkpoint's tokenizer; None when it was saved without one."""
    if not (folder / TOKENIZER).is_file():
        return None
    return tokenizer_from_json(read_json(folder / TOKENIZER, kind=TOKENIZER_KIND, version=TOKENIZER_VERSION))
