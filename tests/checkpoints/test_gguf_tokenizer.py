"""Writing GGUF: which tokenizers come back, and what is refused or told."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints.test_gguf_export import metadata_of, tiny, toy_spec
from workbench.checkpoints import load_checkpoint, save_checkpoint, save_events
from workbench.core.errors import ModelError
from workbench.core.events import Notice
from workbench.tokenizers import AddedToken, BpeTokenizer, ByteTokenizer, Tokenizer, bpe_tokenizer
from workbench.tokenizers.patterns import DIGITS_GPT2, GPT2, LLAMA3, PATTERNS, QWEN2
from workbench.tokenizers.rust import RustTokenizer, rust_from_spec, sentencepiece_pipeline
from workbench.tokenizers.to_gguf import gguf_tokenizer

TEXT = "the heat <|im_end|> é 日本 12\n"


def saved_tokenizer(tokenizer: Tokenizer | None, folder: Path, vocabulary: int = 272) -> Tokenizer | None:
    save_checkpoint(tiny(vocab_size=vocabulary), tokenizer, None, folder / "out.gguf", format="gguf")
    return load_checkpoint(folder / "out.gguf").tokenizer


@pytest.mark.parametrize("pattern", [GPT2, DIGITS_GPT2, QWEN2, LLAMA3], ids=["gpt-2", "smollm", "qwen2", "llama"])
def test_a_byte_level_bpe_comes_back(pattern: str, tmp_path: Path) -> None:
    tokenizer = bpe_tokenizer(toy_spec(pattern=pattern, add_bos=True))
    again = saved_tokenizer(tokenizer, tmp_path)
    assert isinstance(again, BpeTokenizer)
    assert again.encode(TEXT, special=True) == tokenizer.encode(TEXT, special=True)
    assert (again.bos_id, again.eos_ids, again.pad_id, again.add_bos) == (0, (1, 0), 1, True)
    assert again.spec.pattern == pattern
    assert again.vocab_size == 272
    assert metadata_of(tmp_path / "out.gguf")["tokenizer.ggml.tokens"][259:261] == ["[PAD259]", "[PAD260]"]


def test_the_pre_tokenizers_name_is_the_sources_or_that_of_its_pattern() -> None:
    def pre(**changes: Any) -> Any:
        return gguf_tokenizer(bpe_tokenizer(toy_spec(**changes)), 272).fields["tokenizer.ggml.pre"]

    assert pre() == "gpt-2"
    assert pre(name="bpe/olmo") == "olmo"
    assert pre(name="bpe/olmo", pattern=DIGITS_GPT2) == "smollm"
    assert pre(pattern=LLAMA3, ignore_merges=True) == "llama-bpe"
    assert pre(pattern=LLAMA3) == "dbrx"  # cuts as Llama 3 does, and merges what can be merged
    assert pre(pattern=PATTERNS["tekken"]) == "tekken"  # nothing is out of merges' reach, so whole pieces first changes nothing
    assert pre(pattern=r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+") == "gpt-2"


def test_a_pattern_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no name for the way this model's tokenizer cuts text") as caught:
        saved_tokenizer(bpe_tokenizer(toy_spec(pattern=r"\S+|\s+")), tmp_path)
    assert "Hugging Face folder" in caught.value.hint
    assert r"\S+|\s+" in caught.value.details


def test_a_bpe_run_by_the_other_library_comes_back(tmp_path: Path) -> None:
    tokenizer = rust_from_spec(toy_spec(pattern=QWEN2), "")
    again = saved_tokenizer(tokenizer, tmp_path)
    assert again is not None
    assert again.encode(TEXT, special=True) == tokenizer.encode(TEXT, special=True)
    assert metadata_of(tmp_path / "out.gguf")["tokenizer.ggml.pre"] == "qwen2"


def test_the_byte_tokenizer_comes_back(tmp_path: Path) -> None:
    assert isinstance(saved_tokenizer(ByteTokenizer(), tmp_path), ByteTokenizer)
    padded = metadata_of(tmp_path / "out.gguf")
    assert padded["tokenizer.ggml.tokens"][258:260] == ["<|im_end|>", "[PAD259]"]
    assert padded["tokenizer.ggml.merges"] == ["ÿ ÿ"]


def test_a_sentencepiece_vocabulary_comes_back(tmp_path: Path) -> None:
    plain = ["", "", "", *(f"<0x{b:02X}>" for b in range(256)), "▁", "h", "e", "t", "he", "▁t", "▁the", "a"]
    added = (AddedToken(0, "<unk>"), AddedToken(1, "<s>"), AddedToken(2, "</s>"))
    scores = [0.0] * 259 + [-1e6] * 4 + [-1.0, -0.0, -2.0, -1e6]
    pipeline = sentencepiece_pipeline(plain, scores, added, True)
    tokenizer = RustTokenizer(pipeline, name="sentencepiece", add_bos=True, bos_id=1, eos_ids=(2,))
    again = saved_tokenizer(tokenizer, tmp_path)
    assert again is not None
    for text in ("the heat he", "a é\n", "</s>the"):
        assert again.encode(text, special=True) == tokenizer.encode(text, special=True)
    assert (again.add_bos, again.bos_id, again.eos_ids) == (True, 1, (2,))
    said = metadata_of(tmp_path / "out.gguf")
    assert (said["tokenizer.ggml.model"], said["tokenizer.ggml.unknown_token_id"], said["tokenizer.ggml.add_space_prefix"]) == (
        "llama",
        0,
        True,
    )
    assert said["tokenizer.ggml.token_type"][:4] == [2, 3, 3, 6]


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    pipeline = {"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["a", -1.0]], "unk_id": 0}, "added_tokens": []}
    with pytest.raises(ModelError, match=r"GGUF cannot hold this model's tokenizer \(odd\)"):
        saved_tokenizer(RustTokenizer(pipeline, name="odd"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_more_tokens_than_the_model_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="The tokenizer has 259 tokens, the model 258"):
        saved_tokenizer(ByteTokenizer(), tmp_path, 258)


def test_a_token_twice_is_refused_and_a_twin_that_is_never_used_is_not() -> None:
    clash = toy_spec(added=(AddedToken(0, "<|endoftext|>"), AddedToken(1, "he")))
    with pytest.raises(ModelError, match="has the token 'he' twice"):
        gguf_tokenizer(bpe_tokenizer(clash), 272)
    twin = bpe_tokenizer(toy_spec(tokens=(*toy_spec().tokens, "he")))
    assert gguf_tokenizer(twin, 272).fields["tokenizer.ggml.tokens"][258:260] == ["he", "[PAD259]"]


def test_an_end_is_always_named_because_llama_cpp_would_take_one_of_its_own() -> None:
    ends = gguf_tokenizer(bpe_tokenizer(toy_spec(added=(), eos_ids=(), bos_id=None, pad_id=None)), 272)
    assert ends.fields["tokenizer.ggml.eos_token_id"] == 0  # an id without a token
    full = toy_spec(tokens=("Ā", *toy_spec().tokens[3:]), added=(), eos_ids=(), bos_id=None, pad_id=None)
    none_left = gguf_tokenizer(bpe_tokenizer(full), len(full.tokens))
    assert "tokenizer.ggml.eos_token_id" not in none_left.fields
    assert "no end token" in none_left.notices[0]


def test_further_ends_are_named_too() -> None:
    spec = toy_spec(added=(AddedToken(0, "<stop>"), AddedToken(1, "<halt>"), AddedToken(259, "<done>"), AddedToken(260, "<over>")))
    found = gguf_tokenizer(bpe_tokenizer(dataclasses.replace(spec, eos_ids=(0, 1, 259, 260))), 272)
    named = {key: found.fields[f"tokenizer.ggml.{key}_token_id"] for key in ("eos", "eot", "eom")}
    assert named == {"eos": 0, "eot": 1, "eom": 259}
    assert "1 more are left out" in found.notices[0]


def test_what_gguf_cannot_say_about_a_tokenizer_is_told() -> None:
    spec = toy_spec(normalizer="NFC", added=(AddedToken(0, "<mask>", lstrip=True), AddedToken(1, "<|im_end|>")))
    normal, space = gguf_tokenizer(bpe_tokenizer(spec), 272).notices
    assert "Unicode normalisation (NFC)" in normal
    assert "swallow the space" in space


def test_a_model_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    events = list(save_events(tiny(), None, "{{ x }}", tmp_path / "out.gguf", "gguf"))
    assert any(isinstance(e, Notice) and "has no tokenizer" in e.message for e in events)
    assert "tokenizer.chat_template" not in metadata_of(tmp_path / "out.gguf")
    assert load_checkpoint(tmp_path / "out.gguf").tokenizer is None


def test_the_chat_template_is_kept(tmp_path: Path) -> None:
    save_checkpoint(tiny(), bpe_tokenizer(toy_spec()), "{{ x }}", tmp_path / "out.gguf", format="gguf")
    assert load_checkpoint(tmp_path / "out.gguf").chat_template == "{{ x }}"
