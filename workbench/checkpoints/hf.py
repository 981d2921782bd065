"""Hugging Face model folders: config.json, safetensors (one file or shards), tokenizer files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workbench.checkpoints.families import HF_ALIASES, HF_FAMILIES
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.formats import FORMATS, Content, Format, Opened, Source, Writing, foreign, pickle_error
from workbench.checkpoints.hf_export import prepare_folder
from workbench.checkpoints.safetensors_file import SafetensorsFile, Shards
from workbench.core import layouts
from workbench.core.errors import FileError, ModelError
from workbench.core.layouts import INDEX, PICKLES, WEIGHTS
from workbench.tokenizers import chat_template_text_from_folder, tokenizer_from_folder


@FORMATS.register(
    "hf",
    label="Hugging Face folder",
    source="huggingface.co/docs/transformers",
    help="a folder with config.json and model.safetensors, whole or in shards.",
)
class HFFormat(Format):
    can_save = True

    def recognises(self, path: Path) -> bool:
        return layouts.LAYOUTS["hf"](path)

    def open(self, path: Path) -> Opened:
        config = read_table(path / "config.json")
        kind = config.get("model_type")
        kind = HF_ALIASES.get(kind, kind) if isinstance(kind, str) else kind
        if not isinstance(kind, str) or kind not in HF_FAMILIES:
            raise ModelError(
                f"{path.name} is of the model type {kind!r}, which is not known.",
                hint=f"Known model types: {', '.join(HF_FAMILIES.names())}.",
            )
        quantized = config.get("quantization_config")
        if quantized:
            method = quantized.get("quant_method", "?") if isinstance(quantized, dict) else "?"
            raise ModelError(
                f"{path.name} is quantized (method {method}), which cannot be decoded.", hint="Get the unquantized model, or a GGUF of it."
            )
        family = HF_FAMILIES[kind].make()
        file = _weights(path)
        try:
            settings = Settings(config, f"{path.name}/config.json", tensors=file.infos)
            with foreign("configuration", path):
                fields = family.read(settings)
                tied = settings.flag("tie_word_embeddings", default=family.tied_by_default)
            with foreign("chat template", path):
                template = chat_template_text_from_folder(path)
        except BaseException:
            file.close()
            raise
        if config.get("auto_map"):
            settings.notice("The folder comes with Python code of its own (auto_map), which was not run.")
        nbytes = sum(info.nbytes for info in file.infos.values())
        return Opened(
            source=Source(path, "hf", kind, nbytes, path.resolve().name),
            file=file,
            table=family.table,
            fields=fields,
            tied=tied,
            prefix=family.prefix,
            read_tokenizer=lambda: tokenizer_from_folder(path),
            chat_template=template,
            notices=settings.notices,
        )

    def prepare(self, content: Content, family: str | None) -> Writing:
        return prepare_folder(content, family)


def read_table(path: Path) -> dict[str, Any]:
    """A JSON file that must hold an object. Raises `FileError` otherwise."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}.", hint="Check that it exists and its permissions.") from error
    except (ValueError, RecursionError) as error:  # broken UTF-8 or JSON, numbers or nesting beyond Python's limits
        raise FileError(f"{path.parent.name}/{path.name} is not readable JSON ({error}).", hint="Download or copy it again.") from None
    if not isinstance(data, dict):
        raise FileError(f"{path.parent.name}/{path.name} holds no table of settings.", hint="Download or copy it again.")
    return data


def _weights(folder: Path) -> SafetensorsFile | Shards:
    if (folder / WEIGHTS).is_file():
        return SafetensorsFile(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        index = read_table(folder / INDEX).get("weight_map")
        if not isinstance(index, dict) or not index or not all(isinstance(v, str) for v in index.values()):
            raise FileError(f"{folder.name}/{INDEX} does not say which file holds which tensor.", hint="Download or copy it again.")
        return Shards(folder, index)
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:
        return SafetensorsFile(others[0])
    if others:
        raise FileError(f"{folder.name} has {len(others)} safetensors files but no {INDEX}.", hint="Download that file too.")
    for found in sorted(folder.iterdir()):
        if found.suffix in PICKLES:
            raise pickle_error(folder, found.name)
    raise FileError(f"{folder.name} has a config.json but no weights.", hint=f"Download {WEIGHTS} into it.")
