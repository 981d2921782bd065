"""Tokenizers from GGUF metadata, Hugging Face folders and our own JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from workbench.core.errors import FileError, ModelError
from workbench.tokenizers import (
    BpeSpec,
    BpeTokenizer,
    ByteTokenizer,
    RustTokenizer,
    Tokenizer,
    bpe_tokenizer,
    chat_template_text,
    chat_template_text_from_folder,
    tokenizer_from_folder,
    tokenizer_from_gguf,
    tokenizer_from_json,
)
from workbench.tokenizers.patterns import DIGITS_GPT2, GPT2, LLAMA3, PATTERNS
from workbench.tokenizers.rust import rust_from_spec

TEXT = "hello wé 123 <|im_end|> 中\n"
MakeSpec = Callable[..., BpeSpec]


def gguf_fields(spec: BpeSpec, **changes: Any) -> dict[str, Any]:
    tokens = list(spec.tokens)
    types = [1] * len(tokens)
    for token in spec.added:
        tokens[token.id], types[token.id] = token.text, 3
    fields = {
        "model": "gpt2", "pre": "smollm", "tokens": tokens, "token_type": types, "merges": list(spec.merges), "bos_token_id": 1,
        "eos_token_id": 2, "padding_token_id": 2, "add_bos_token": False, **changes,
    }  # fmt: skip
    return {f"tokenizer.ggml.{key}": value for key, value in fields.items()}


def sentencepiece_fields(**changes: Any) -> dict[str, Any]:
    special = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{b:02X}>" for b in range(256)]
    words = ["▁", "h", "e", "l", "o", "a", "s", "<", "/", ">", "he", "ll", "hell", "hello", "▁hello", "</", "s>"]
    fields = {
        "model": "llama", "tokens": [*special, *byte_tokens, *words], "token_type": [2, 3, 3, *[6] * 256, *[1] * len(words)],
        "scores": [0.0] * 259 + [-float(i) for i in range(len(words))], "bos_token_id": 1, "eos_token_id": 2, **changes,
    }  # fmt: skip
    return {f"tokenizer.ggml.{key}": value for key, value in fields.items()}


# ---- GGUF ----------------------------------------------------------------------------------------------------------


def test_gguf_metadata_make_the_same_tokenizer(toy_spec: MakeSpec, toy: Tokenizer) -> None:
    found = tokenizer_from_gguf(gguf_fields(toy_spec()))
    assert isinstance(found, BpeTokenizer)
    assert found.encode(TEXT) == toy.encode(TEXT)
    assert found.special == toy.special
    assert (found.bos_id, found.eos_ids, found.pad_id) == (1, (2, 0), 2)


def test_other_end_tokens_of_the_file_end_a_reply_too(toy_spec: MakeSpec) -> None:
    found = tokenizer_from_gguf(gguf_fields(toy_spec(), eos_token_id=0, eot_token_id=2, eom_token_id=9999))
    assert found is not None
    assert found.eos_ids == (0, 2)


def test_a_file_without_tokenizer_has_none() -> None:
    assert tokenizer_from_gguf({"general.architecture": "llama"}) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "bert"}, "'bert'"),
        ({"pre": "of-tomorrow"}, "'of-tomorrow'"),
        ({"tokens": []}, "no tokens"),
        ({"token_type": [1, 1]}, "2 token types"),
        ({"merges": ["x"]}, "'x'"),
    ],
)
def test_what_cannot_be_used_is_named_with_a_fix(toy_spec: MakeSpec, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        tokenizer_from_gguf(gguf_fields(toy_spec(), **changes))
    assert caught.value.hint


def test_an_unnamed_pre_tokenizer_is_a_guess_and_says_so(toy_spec: MakeSpec) -> None:
    fields = gguf_fields(toy_spec())
    del fields["tokenizer.ggml.pre"]
    found = tokenizer_from_gguf(fields)
    assert found is not None
    assert "GPT-2's way is assumed" in found.notes[0]


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_every_named_pre_tokenizer_keeps_all_text(toy_spec: MakeSpec, name: str) -> None:
    found = tokenizer_from_gguf(gguf_fields(toy_spec(), pre=name))
    text = "I'm HELLO wé 12345  \n\n\tx!?\r\n 中文 ٣٤ camelCase"
    assert found is not None
    assert found.decode(found.encode(text)) == text


def test_sentencepiece_files_run_on_the_rust_library() -> None:
    found = tokenizer_from_gguf(sentencepiece_fields())
    assert isinstance(found, RustTokenizer)
    assert [found.token_text(i) for i in found.encode("hello")] == [" hello"]
    for text in ("hello hello", "é hello", " a", "a\n</s>"):
        assert found.decode(found.encode(text)) == text
    assert 2 not in found.encode("</s>")  # "</" and "s>" are tokens, and their merge would be the end token
    assert found.encode("</s>", special=True) == [2]
    assert found.add_bos


def test_sentencepiece_text_that_goes_on_gets_no_space_in_front() -> None:
    found = tokenizer_from_gguf(sentencepiece_fields())
    assert found is not None
    first, second = found.encode_pieces("hello", [], [2])
    assert found.decode_bytes([*first, *second]) == b" hello"


def test_damaged_scores_are_named() -> None:
    with pytest.raises(ModelError, match="0 scores"):
        tokenizer_from_gguf(sentencepiece_fields(scores=[]))


def test_the_files_template_is_found() -> None:
    assert chat_template_text({"tokenizer.chat_template": "{{ 1 }}"}) == "{{ 1 }}"
    assert chat_template_text({}) is None


@pytest.mark.starter
def test_the_starters_template_is_found(starter_fields: Mapping[str, Any]) -> None:
    assert "SmolLM" in (chat_template_text(starter_fields) or "")


# ---- Hugging Face folders ------------------------------------------------------------------------------------------


def write(folder: Path, **files: Any) -> Path:
    for name, data in files.items():
        (folder / f"{name}.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


def pipeline_of(spec: BpeSpec, pre_tokenizer: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {**rust_from_spec(spec, "").pipeline, "pre_tokenizer": pre_tokenizer, **changes}


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
NO_REGEX = {**BYTE_LEVEL, "use_regex": False}
SPLIT = {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("pre_tokenizer", "pattern"),
    [
        (BYTE_LEVEL, GPT2),
        ({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]}, DIGITS_GPT2),
        ({"type": "Sequence", "pretokenizers": [SPLIT, NO_REGEX]}, LLAMA3),
    ],
)
def test_tokenizer_json_runs_on_tiktoken_and_agrees_with_its_own_library(
    toy_spec: MakeSpec, tmp_path: Path, pre_tokenizer: Mapping[str, Any], pattern: str
) -> None:
    from tokenizers import Tokenizer as Engine

    pipeline = pipeline_of(toy_spec(), pre_tokenizer)
    found = tokenizer_from_folder(write(tmp_path, tokenizer=pipeline, tokenizer_config={"eos_token": "<|im_end|>", "bos_token": None}))
    assert isinstance(found, BpeTokenizer)
    assert found.spec.pattern == pattern
    assert found.eos_ids[0] == 2
    oracle = Engine.from_str(json.dumps(pipeline))
    for text in ("hello  wé", "I'm 1234\n\n x", "a\r\n\r\nb  \t", "hello!!\n\n<|im_end|>\n"):
        assert found.encode(text, special=True) == oracle.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    "changes",
    [
        {"pre_tokenizer": {**BYTE_LEVEL, "add_prefix_space": True}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Punctuation", "behavior": "Isolated"}, BYTE_LEVEL]}},
        {"normalizer": {"type": "Lowercase"}},
    ],
)
def test_unusual_pipelines_run_on_the_rust_library(toy_spec: MakeSpec, tmp_path: Path, changes: dict[str, Any]) -> None:
    from tokenizers import Tokenizer as Engine

    pipeline = pipeline_of(toy_spec(), BYTE_LEVEL) | changes
    found = tokenizer_from_folder(write(tmp_path, tokenizer=pipeline))
    assert isinstance(found, RustTokenizer)
    text = "Hello wé! 12<|im_end|> x"
    assert found.encode(text, special=True) == Engine.from_str(json.dumps(pipeline)).encode(text, add_special_tokens=False).ids
    assert 2 not in found.encode(text)


def test_unicode_is_normalised_where_the_file_says_so(toy_spec: MakeSpec, tmp_path: Path) -> None:
    found = tokenizer_from_folder(write(tmp_path, tokenizer=pipeline_of(toy_spec(), BYTE_LEVEL, normalizer={"type": "NFC"})))
    assert isinstance(found, BpeTokenizer)
    assert found.encode("e\u0301") == found.encode("é")


def test_end_tokens_come_from_every_small_file(toy_spec: MakeSpec, tmp_path: Path) -> None:
    write(
        tmp_path,
        tokenizer=pipeline_of(toy_spec(), BYTE_LEVEL),
        special_tokens_map={"eos_token": "<|endoftext|>", "pad_token": {"content": "<|endoftext|>"}},
        tokenizer_config={"eos_token": {"content": "<|im_end|>"}, "add_bos_token": True, "bos_token": "<|im_start|>"},
        generation_config={"eos_token_id": [2, 0, 999999]},
    )
    found = tokenizer_from_folder(tmp_path)
    assert found is not None
    assert (found.bos_id, found.eos_ids, found.pad_id, found.add_bos) == (1, (2, 0), 0, True)


def test_vocab_and_merges_make_a_tokenizer_with_its_end_token(toy_spec: MakeSpec, tmp_path: Path) -> None:
    spec = toy_spec(pattern=GPT2)
    vocab = {t: i for i, t in enumerate(spec.tokens) if t} | {"<|endoftext|>": 0}
    write(tmp_path, vocab=vocab, added_tokens={"<|im_end|>": 2}, tokenizer_config={"eos_token": "<|endoftext|>"})
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(spec.merges) + "\n", encoding="utf-8")
    found = tokenizer_from_folder(tmp_path)
    assert isinstance(found, BpeTokenizer)
    assert found.encode(TEXT) == bpe_tokenizer(spec).encode(TEXT)
    assert found.special == {"<|endoftext|>": 0, "<|im_end|>": 2}
    assert found.eos_ids == (0, 2)


def test_folders_without_or_with_another_kind_of_tokenizer(toy_spec: MakeSpec, tmp_path: Path) -> None:
    assert tokenizer_from_folder(tmp_path) is None
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"tokenizer\.model"):
        tokenizer_from_folder(tmp_path)
    write(tmp_path, tokenizer={"model": {"type": "WordLevel", "vocab": {}}})
    with pytest.raises(ModelError, match="WordLevel"):
        tokenizer_from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": ', encoding="utf-8")
    with pytest.raises(FileError, match="not readable JSON"):
        tokenizer_from_folder(tmp_path)


def test_templates_of_folders(tmp_path: Path) -> None:
    assert chat_template_text_from_folder(tmp_path) is None
    write(tmp_path, tokenizer_config={"chat_template": [{"name": "tool", "template": "T"}, {"name": "default", "template": "D"}]})
    assert chat_template_text_from_folder(tmp_path) == "D"
    (tmp_path / "chat_template.jinja").write_text("J", encoding="utf-8")
    assert chat_template_text_from_folder(tmp_path) == "J"


# ---- our own data --------------------------------------------------------------------------------------------------


def makers(toy_spec: MakeSpec) -> dict[str, Callable[[], Tokenizer | None]]:
    return {
        "bpe": lambda: bpe_tokenizer(toy_spec(normalizer="NFC", add_bos=True)),
        "byte-level on rust": lambda: rust_from_spec(toy_spec(), "why"),
        "sentencepiece": lambda: tokenizer_from_gguf(sentencepiece_fields()),
        "bytes": ByteTokenizer,
    }


@pytest.mark.parametrize("kind", ["bpe", "byte-level on rust", "sentencepiece", "bytes"])
def test_json_brings_back_the_same_tokenizer(toy_spec: MakeSpec, kind: str) -> None:
    made = makers(toy_spec)[kind]()
    assert made is not None
    again = tokenizer_from_json(json.loads(json.dumps(made.to_json())))
    assert isinstance(again, Tokenizer)
    for name in ("name", "vocab_size", "bos_id", "eos_ids", "pad_id", "add_bos", "special", "notes"):
        assert getattr(again, name) == getattr(made, name), name
    assert again.encode(TEXT, special=True) == made.encode(TEXT, special=True)
    assert again.to_json() == made.to_json()


@pytest.mark.parametrize("data", [{}, {"type": "of tomorrow"}, {"type": "bpe"}, {"type": "pipeline", "name": "x"}])
def test_damaged_json_is_an_error_with_a_fix(data: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as caught:
        tokenizer_from_json(data)
    assert caught.value.hint


def test_bytes_are_their_own_ids() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.encode("é") == [0xC3, 0xA9]
    assert tokenizer.vocab_size == 259
    assert tokenizer.decode([*tokenizer.encode("a"), 258, 4000]) == "a<|im_end|>"
