"""Writing Hugging Face folders: which family can hold an architecture, and its files."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.checkpoints.families import HF_FAMILIES
from workbench.checkpoints.fitting import fitting_family
from workbench.checkpoints.formats import Content
from workbench.checkpoints.load import parameters_of
from workbench.checkpoints.safetensors_file import write_safetensors
from workbench.checkpoints.table import outgoing
from workbench.core.store import atomic_folder, write_text
from workbench.tokenizers import BpeTokenizer, RustTokenizer, Tokenizer
from workbench.tokenizers.rust import rust_from_spec

_HINT = "Save it as a workbench checkpoint, which keeps every architecture."


def save_folder(content: Content, path: Path, wanted: str | None) -> Generator[int, None, None]:
    """config.json, model.safetensors, and the tokenizer's files where there is a tokenizer that has them."""
    model = content.model
    name, family = fitting_family(HF_FAMILIES, model.config, wanted, who="Hugging Face's", hint=_HINT)
    assert family.write is not None
    settings = {
        "architectures": [family.architecture],
        "model_type": name,
        "dtype": str(model.dtype).removeprefix("torch."),
        **family.write(model.config),
        **_ends(content.tokenizer),
    }
    with atomic_folder(path) as folder:
        yield from write_safetensors(folder / "model.safetensors", outgoing(family.table, model.config, parameters_of(model)))
        _write_json(folder / "config.json", settings)
        _write_tokenizer(folder, content.tokenizer, content.chat_template, model.config.max_positions)


def _ends(tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Begin, end and padding ids; nulls keep transformers from assuming those of the family's first model."""
    if tokenizer is None:
        return {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    ends = list(tokenizer.eos_ids)
    return {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
        "pad_token_id": tokenizer.pad_id,
    }


def _write_tokenizer(folder: Path, tokenizer: Tokenizer | None, template: str | None, context: int) -> None:
    if template is not None:
        write_text(folder / "chat_template.jinja", template)
    pipeline = _pipeline(tokenizer)
    if tokenizer is None or pipeline is None:
        return
    _write_json(folder / "tokenizer.json", pipeline)
    named = {"bos_token": tokenizer.bos_id, "eos_token": next(iter(tokenizer.eos_ids), None), "pad_token": tokenizer.pad_id}
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        **{key: tokenizer.token_text(id) for key, id in named.items() if id is not None},
    }
    _write_json(folder / "tokenizer_config.json", about)
    if tokenizer.eos_ids:
        _write_json(folder / "generation_config.json", {"eos_token_id": list(tokenizer.eos_ids), "bos_token_id": tokenizer.bos_id})


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    """JSON as other programs expect it, without our kind and version."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def _pipeline(tokenizer: Tokenizer | None) -> Mapping[str, Any] | None:
    """The tokenizer as tokenizer.json; None for one that has no such form (bytes)."""
    if isinstance(tokenizer, BpeTokenizer):
        pipeline = rust_from_spec(tokenizer.spec, "").pipeline
    elif isinstance(tokenizer, RustTokenizer):
        pipeline = tokenizer.pipeline
    else:
        return None
    pipeline = {**pipeline, "model": _with_added(pipeline["model"], pipeline.get("added_tokens") or [])}
    if tokenizer.add_bos and tokenizer.bos_id is not None and not pipeline.get("post_processor"):
        pipeline["post_processor"] = _begin(tokenizer.token_text(tokenizer.bos_id), tokenizer.bos_id)
    return pipeline


def _with_added(model: Mapping[str, Any], added: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The pipeline's model with the added tokens in its vocabulary: those that are missing there would be given new ids."""
    vocab = model["vocab"]
    if not isinstance(vocab, dict):
        return dict(model)
    return {**model, "vocab": {**{token["content"]: token["id"] for token in added}, **vocab}}


def _begin(token: str, id: int) -> dict[str, Any]:
    """A post-processor that puts the begin token in front."""
    begin, text = {"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    other = {"Sequence": {"id": "B", "type_id": 1}}
    return {
        "type": "TemplateProcessing",
        "single": [begin, text],
        "pair": [begin, text, other],
        "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}},
    }
