"""Writing Hugging Face folders: which family can hold an architecture, and its files."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.checkpoints.families import HF_FAMILIES
from workbench.checkpoints.families.rope import without_ntk
from workbench.checkpoints.fitting import fitting_family
from workbench.checkpoints.formats import Content, Writing, type_name
from workbench.checkpoints.load import parameters_of
from workbench.checkpoints.safetensors_file import stored_as, write_safetensors
from workbench.checkpoints.table import outgoing
from workbench.core.store import atomic_folder, write_text
from workbench.tokenizers import BpeTokenizer, RustTokenizer, Tokenizer, mask_token_id
from workbench.tokenizers.rust import pipeline_of

_NO_TOKENIZER = "The tokenizer has no form that other programs read (it works on bytes), so the folder has none."
_WITH_PIPELINE = (BpeTokenizer, RustTokenizer)
"""Tokenizers that have the form of tokenizer.json; bytes have none."""
_HINT = "Save it as a workbench checkpoint, which keeps every architecture."


def prepare_folder(content: Content, wanted: str | None) -> Writing:
    """config.json, model.safetensors, and the tokenizer's files where there is a tokenizer that has them."""
    model, dtype = content.model, content.dtype
    config = without_ntk(model.config)
    name, family = fitting_family(HF_FAMILIES, config, wanted, who="Hugging Face's", hint=_HINT)
    assert family.write is not None
    settings = {
        "architectures": [family.architecture],
        "model_type": name,
        "dtype": str(dtype).removeprefix("torch."),
        **family.write(config),
        **_ends(content.tokenizer),
    }
    tensors = [stored_as(tensor, dtype) for tensor in outgoing(family.table, config, parameters_of(model))]

    def write(path: Path) -> Generator[int, None, None]:
        with atomic_folder(path) as folder:
            yield from write_safetensors(folder / "model.safetensors", tensors)
            _write_json(folder / "config.json", settings)
            _write_tokenizer(folder, content)

    tokenizer = content.tokenizer
    notices = () if tokenizer is None or isinstance(tokenizer, _WITH_PIPELINE) else (_NO_TOKENIZER,)
    return Writing(name, type_name(dtype), sum(t.nbytes for t in tensors), write, lambda _, rows: rows.to(dtype), notices)


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


def _write_tokenizer(folder: Path, content: Content) -> None:
    tokenizer = content.tokenizer
    if content.chat_template is not None:
        write_text(folder / "chat_template.jinja", content.chat_template)
    if not isinstance(tokenizer, _WITH_PIPELINE):
        return
    _write_json(folder / "tokenizer.json", _pipeline(tokenizer))
    named = {
        "bos_token": tokenizer.bos_id,
        "eos_token": next(iter(tokenizer.eos_ids), None),
        "pad_token": tokenizer.pad_id,
        "mask_token": mask_token_id(tokenizer),
    }
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": content.model.config.max_positions,
        "clean_up_tokenization_spaces": False,
        **{key: tokenizer.token_text(id) for key, id in named.items() if id is not None},
    }
    _write_json(folder / "tokenizer_config.json", about)
    if tokenizer.eos_ids:
        _write_json(folder / "generation_config.json", {"eos_token_id": list(tokenizer.eos_ids), "bos_token_id": tokenizer.bos_id})


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    """JSON as other programs expect it, without our kind and version."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def _pipeline(tokenizer: BpeTokenizer | RustTokenizer) -> Mapping[str, Any]:
    """The tokenizer as tokenizer.json."""
    pipeline = pipeline_of(tokenizer.spec) if isinstance(tokenizer, BpeTokenizer) else tokenizer.pipeline
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
