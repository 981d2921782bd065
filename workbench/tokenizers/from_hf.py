"""Tokenizers from Hugging Face folders: `tokenizer.json`, or the older `vocab.json` with `merges.txt`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.core.errors import FileError, ModelError
from workbench.tokenizers.base import END_OF_TEXT, END_OF_TURN, AddedToken, Tokenizer
from workbench.tokenizers.bpe import bpe_tokenizer
from workbench.tokenizers.patterns import DIGITS_GPT2, GPT2, QWEN2
from workbench.tokenizers.rust import RustTokenizer
from workbench.tokenizers.spec import BpeSpec

KINDS = ("BPE", "Unigram", "WordPiece")


def tokenizer_from_folder(folder: Path) -> Tokenizer | None:
    """The tokenizer of a Hugging Face folder; None when the folder holds none.

    Raises `FileError` for unreadable JSON, `ModelError` for a kind that is not supported.
    """
    if (folder / "tokenizer.json").exists():
        return tokenizer_from_pipeline(_read(folder / "tokenizer.json"), _facts(folder), folder.name)
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        return _from_vocab(folder, _facts(folder))
    if (folder / "tokenizer.model").exists():
        raise ModelError(
            f"{folder.name} has only a SentencePiece file (tokenizer.model), which is not read here.",
            hint="Save the tokenizer once with transformers, which writes tokenizer.json; or use the model's GGUF file.",
        )
    return None


def chat_template_text_from_folder(folder: Path) -> str | None:
    """The folder's chat template: `chat_template.jinja`, else the one in tokenizer_config.json (its default when named)."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    found = _facts(folder).get("chat_template")
    if isinstance(found, list):
        named = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
        found = named.get("default") or next(iter(named.values()), None)
    return found if isinstance(found, str) and found.strip() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FileError(f"{path.name} is not readable JSON ({error}).", hint="The file is damaged; download it again.") from error
    if not isinstance(data, dict):
        raise FileError(f"{path.name} is not a JSON object.", hint="The file is damaged; download it again.")
    return data


def _facts(folder: Path) -> dict[str, Any]:
    """What the folder's small files say, later ones first: tokenizer_config.json over special_tokens_map.json; the end ids
    of generation_config.json under "end_ids"; added_tokens.json under "added"."""
    facts: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).exists():
            facts.update(_read(folder / name))
    if (folder / "generation_config.json").exists():
        ends = _read(folder / "generation_config.json").get("eos_token_id")
        facts["end_ids"] = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if (folder / "added_tokens.json").exists():
        facts["added"] = _read(folder / "added_tokens.json")
    return facts


def _name(token: Any) -> str | None:
    """A special token's text, given as text or as an object with "content"."""
    return token.get("content") if isinstance(token, dict) else token


def _ends(facts: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, Any]:
    """Begin, end and padding ids as arguments."""
    bos, eos, pad = (ids.get(_name(facts.get(f"{kind}_token")) or "") for kind in ("bos", "eos", "pad"))
    known = set(ids.values())
    ends = dict.fromkeys([*([eos] if eos is not None else []), *(i for i in facts.get("end_ids", ()) if i in known)])
    return {"bos_id": bos, "eos_ids": tuple(ends), "pad_id": pad}


def _adds_bos(data: Mapping[str, Any], facts: Mapping[str, Any], bos: str | None) -> bool:
    if "add_bos_token" in facts:
        return bool(facts["add_bos_token"])
    return bos is not None and json.dumps(bos) in json.dumps((data.get("post_processor") or {}).get("single") or data.get("post_processor"))


# ---- tokenizer.json -----------------------------------------------------------------------------------------------


def tokenizer_from_pipeline(data: dict[str, Any], facts: Mapping[str, Any], name: str) -> Tokenizer:
    """The tokenizer of a parsed tokenizer.json; `facts` are those of tokenizer_config.json beside it. Raises `ModelError`."""
    model = data.get("model") or {}
    kind = model.get("type") or ("BPE" if "merges" in model else "")
    if kind not in KINDS:
        raise ModelError(
            f"The tokenizer of {name} is of the kind {kind or 'unknown'!r}, which is not supported.", hint=f"Supported: {', '.join(KINDS)}."
        )
    entries = data.get("added_tokens") or []
    vocab: Any = model.get("vocab") or {}
    listed = vocab if isinstance(vocab, dict) else {piece[0]: id for id, piece in enumerate(vocab)}
    ids = {**listed, **{t["content"]: t["id"] for t in entries}}
    arguments = {**_ends(facts, ids), "add_bos": _adds_bos(data, facts, _name(facts.get("bos_token")))}
    spec = spec_of_pipeline(data, name, **arguments)
    return RustTokenizer(data, name=name, **arguments) if spec is None else bpe_tokenizer(spec)


def spec_of_pipeline(data: Mapping[str, Any], name: str, **arguments: Any) -> BpeSpec | None:
    """A tokenizer.json as a byte-level BPE by merges alone; None when it is something else."""
    model = data.get("model") or {}
    kind = model.get("type") or ("BPE" if "merges" in model else "")
    entries = data.get("added_tokens") or []
    pattern, normalizer = _pattern_of(data), _normalizer_of(data)
    if kind != "BPE" or pattern is None or normalizer is None or not _plain_bpe(model) or any(t.get("single_word") for t in entries):
        return None
    return _spec(model, entries, name=name, pattern=pattern, normalizer=normalizer, **arguments)


def _spec(
    model: Mapping[str, Any], entries: list[dict[str, Any]], *, name: str, pattern: str, normalizer: str, **arguments: Any
) -> BpeSpec:
    added = tuple(AddedToken(t["id"], t["content"], bool(t.get("special")), bool(t.get("lstrip")), bool(t.get("rstrip"))) for t in entries)
    merges = tuple(m if isinstance(m, str) else " ".join(m) for m in model["merges"])
    own = {t.text for t in added} - {m.replace(" ", "") for m in merges}
    size = 1 + max([-1, *model["vocab"].values()])
    tokens = [""] * size
    for token, id in model["vocab"].items():
        if token not in own:
            tokens[id] = token
    return BpeSpec(
        name=name, tokens=tuple(tokens), merges=merges, pattern=pattern, added=added, normalizer=normalizer,
        ignore_merges=bool(model.get("ignore_merges")), **arguments,
    )  # fmt: skip


def _plain_bpe(model: Mapping[str, Any]) -> bool:
    """No option that a byte-level BPE by merges alone would get wrong."""
    odd = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "unk_token")
    return not any(model.get(option) for option in odd)


def _normalizer_of(data: Mapping[str, Any]) -> str | None:
    """ "" for none, a Unicode form, or None for one that is not known here."""
    normalizer = data.get("normalizer")
    if not normalizer:
        return ""
    if normalizer.get("type") == "Sequence" and len(normalizer.get("normalizers", ())) <= 1:
        return _normalizer_of({"normalizer": next(iter(normalizer["normalizers"]), None)})
    return normalizer["type"] if normalizer.get("type") in ("NFC", "NFKC", "NFD", "NFKD") else None


def _pattern_of(data: Mapping[str, Any]) -> str | None:
    """The one expression equal to the file's pre-tokenizer; None when it is of another shape."""
    steps = data.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", []) if steps.get("type") == "Sequence" else [steps]
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return None
    *before, last = steps
    uses_gpt2 = last.get("use_regex", True)
    if not before:
        return GPT2 if uses_gpt2 else None
    if len(before) > 1:
        return None
    step = before[0]
    if step.get("type") == "Digits" and step.get("individual_digits") and uses_gpt2:
        return DIGITS_GPT2
    expression = (step.get("pattern") or {}).get("Regex")
    if step.get("type") == "Split" and expression and step.get("behavior") == "Isolated" and not step.get("invert") and not uses_gpt2:
        return str(expression)
    return None


# ---- vocab.json + merges.txt --------------------------------------------------------------------------------------


def _from_vocab(folder: Path, facts: Mapping[str, Any]) -> Tokenizer:
    vocab: dict[str, int] = _read(folder / "vocab.json")
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [line for line in lines if line.strip() and not line.startswith("#version")]
    named = {_name(facts.get(f"{kind}_token")) for kind in ("bos", "eos", "unk", "pad")}
    special = {n for n in (*named, *END_OF_TURN, *END_OF_TEXT) if n and n in vocab}
    decoder: dict[int, dict[str, Any]] = {int(id): t for id, t in (facts.get("added_tokens_decoder") or {}).items()}
    added: dict[int, AddedToken] = {vocab[n]: AddedToken(vocab[n], n) for n in special}
    added |= {id: AddedToken(id, n) for n, id in (facts.get("added") or {}).items()}
    added |= {
        id: AddedToken(id, t["content"], bool(t.get("special", True)), bool(t.get("lstrip")), bool(t.get("rstrip")))
        for id, t in decoder.items()
    }
    entries = [
        {"id": t.id, "content": t.text, "special": t.special, "lstrip": t.lstrip, "rstrip": t.rstrip} for _, t in sorted(added.items())
    ]
    qwen = str(facts.get("tokenizer_class", "")).startswith("Qwen2")
    ids: dict[str, int] = {**vocab, **{t.text: t.id for t in added.values()}}
    arguments = {**_ends(facts, ids), "add_bos": bool(facts.get("add_bos_token", False))}
    pattern, normalizer = (QWEN2, "NFC") if qwen else (GPT2, "")
    model = {"vocab": vocab, "merges": merges}
    return bpe_tokenizer(_spec(model, entries, name=folder.name, pattern=pattern, normalizer=normalizer, **arguments))
