"""Byte-level BPE: the checks, the missing bytes, added tokens, and equality with merging by rules."""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.core.errors import ModelError
from workbench.tokenizers import AddedToken, BpeSpec, BpeTokenizer, RustTokenizer, Tokenizer, bpe_tokenizer, tokenizer_from_gguf
from workbench.tokenizers.base import chunks
from workbench.tokenizers.checks import examine
from workbench.tokenizers.rust import rust_from_spec

PIECES = [
    " ",
    "  ",
    "\n",
    "\t",
    "\r\n",
    "1",
    "42",
    "he",
    "hello",
    " world",
    "'s",
    "'ll",
    "é",
    "中",
    "½",
    "٣",
    "😀",
    "👩‍🚀",
    "!",
    "==",
    "\u00a0",
]
MakeSpec = Callable[..., BpeSpec]


def fuzz(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choice(PIECES) for _ in range(rng.randint(1, 14))) for _ in range(count)]


def test_merges_are_applied_in_order(toy: Tokenizer) -> None:
    assert [toy.token_text(i) for i in toy.encode("hello world")] == ["hello", " w", "o", "r", "l", "d"]


@given(text=st.text())
@settings(max_examples=200, deadline=None)
def test_any_text_comes_back_but_for_bytes_the_vocabulary_lacks(toy: Tokenizer, text: str) -> None:
    ids = toy.encode(text)
    assert all(0 <= i < toy.vocab_size for i in ids)
    lost = bytes([0x04, 0xFF])
    assert toy.decode_bytes(ids) == text.encode("utf-8", "replace").translate(None, lost)


@given(text=st.text(alphabet=st.sampled_from("helo wé\n\t 1a'sl中😀"), max_size=40))
@settings(max_examples=300, deadline=None)
def test_ranks_decide_as_merges_do(toy: BpeTokenizer, toy_rust: RustTokenizer, text: str) -> None:
    assert toy.encode(text) == toy_rust.encode(text)


@pytest.fixture(scope="module")
def toy_rust(toy_spec: MakeSpec) -> RustTokenizer:
    return rust_from_spec(toy_spec(), "for comparison")


def test_missing_bytes_are_found_and_dropped(toy_spec: MakeSpec, toy: Tokenizer) -> None:
    assert examine(toy_spec()).missing_bytes == (0x04, 0xFF)
    assert toy.encode("a\x04b") == toy.encode("a") + toy.encode("b")
    assert toy.encode("\x04") == []


def test_special_tokens_are_text_unless_asked_for(toy: Tokenizer) -> None:
    assert 2 not in toy.encode("<|im_end|>")
    assert toy.encode("<|im_end|>", special=True) == [2]
    assert toy.decode(toy.encode("<|im_end|>")) == toy.decode([2]) == "<|im_end|>"
    assert toy.decode([1, *toy.encode("hello"), 2], skip_special=True) == "hello"


def test_special_tokens_are_found_only_where_the_template_wrote(toy: Tokenizer) -> None:
    text = "<|im_start|>hello<|im_end|><|im_end|>"
    content = (len("<|im_start|>"), len("<|im_start|>hello<|im_end|>"))
    (ids,) = toy.encode_pieces(text, [(0, content[0]), (content[1], len(text))])
    assert [i for i in ids if i < 3] == [1, 2]
    assert toy.decode(ids) == text


def test_cuts_part_tokens_and_cost_nothing_where_tokens_end(toy: Tokenizer) -> None:
    assert toy.encode_pieces("hello hello", [], [2]) == [toy.encode("he"), [*toy.encode("llo"), *toy.encode(" hello")]]
    assert toy.encode_pieces("ab", [], [1, 1, 2]) == [toy.encode("a"), [], toy.encode("b"), []]


def test_user_defined_tokens_are_always_found_longest_first_with_their_spaces(toy_spec: MakeSpec) -> None:
    plain = toy_spec()
    size = len(plain.tokens)
    added = (
        *plain.added,
        AddedToken(size, "\n\n", special=False),
        AddedToken(size + 1, "\n\n\n", special=False),
        AddedToken(size + 2, "<mask>", special=False, lstrip=True, rstrip=True),
    )
    tokenizer = bpe_tokenizer(dataclasses.replace(plain, added=added))
    assert tokenizer.vocab_size == size + 3
    assert tokenizer.encode("\n\n\n\n\n") == [size + 1, size]
    assert tokenizer.encode("a  <mask>  b") == [*tokenizer.encode("a"), size + 2, *tokenizer.encode("b")]


def test_out_of_order_merges_run_on_the_rust_library(toy_spec: MakeSpec) -> None:
    plain = toy_spec()
    swapped = [*plain.tokens]
    first, last = swapped.index("he"), swapped.index("hell")
    swapped[first], swapped[last] = swapped[last], swapped[first]
    spec = dataclasses.replace(plain, tokens=tuple(swapped))
    assert examine(spec).out_of_order
    tokenizer = bpe_tokenizer(spec)
    assert isinstance(tokenizer, RustTokenizer)
    assert any("out of order" in note for note in tokenizer.notes)
    text = "<|im_end|> hello\x04 wé 12"
    assert tokenizer.decode(tokenizer.encode(text)) == text.replace("\x04", "")
    assert 2 not in tokenizer.encode(text)
    assert tokenizer.encode(text, special=True)[0] == 2


def test_duplicate_merge_results_run_on_the_rust_library(toy_spec: MakeSpec) -> None:
    plain = toy_spec()
    tokens, merges = (*plain.tokens, "aaa"), (*plain.merges, "aa a", "a aa")
    assert isinstance(bpe_tokenizer(dataclasses.replace(plain, tokens=tokens, merges=merges)), RustTokenizer)


def test_a_token_no_merges_give_is_decoded_but_never_encoded(toy_spec: MakeSpec) -> None:
    plain = toy_spec()
    spec = dataclasses.replace(plain, tokens=(*plain.tokens, "rld"))
    orphan = len(plain.tokens)
    assert examine(spec).unreachable == (orphan,)
    tokenizer = bpe_tokenizer(spec)
    assert isinstance(tokenizer, BpeTokenizer)
    assert orphan not in tokenizer.encode("world")
    assert tokenizer.decode([orphan]) == "rld"
    assert isinstance(bpe_tokenizer(dataclasses.replace(spec, ignore_merges=True)), RustTokenizer)


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"merges": ("h e", "q q")}, "q q"), ({"merges": ()}, "no merges"), ({"tokens": ("", "", "", "h", "e", "he", "—")}, "byte-level")],
)
def test_a_vocabulary_that_contradicts_itself_is_an_error_with_a_fix(toy_spec: MakeSpec, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        bpe_tokenizer(toy_spec(**{"merges": ("h e",), **changes}))
    assert caught.value.hint


def test_a_million_spaces_neither_panic_nor_vanish(toy: Tokenizer) -> None:
    text = " " * 1_000_000 + "a"
    assert len(toy.decode(toy.encode(text))) == len(text)


@given(text=st.text(alphabet="ab \n", max_size=60))
def test_chunks_join_to_the_text_and_change_no_token(toy: Tokenizer, text: str) -> None:
    parts = list(chunks(text, size=7))
    assert "".join(parts) == text
    at = 0
    for part in parts[:-1]:
        at += len(part)
        if len(part) < 14:  # a place was found
            assert text[at] == " "
            assert not text[at - 1].isspace()


def test_lone_surrogates_are_replaced(toy: Tokenizer) -> None:
    assert toy.decode(toy.encode("a\ud800b")) == "a\ufffdb"


# ---- the starter model's vocabulary --------------------------------------------------------------------------------


@pytest.mark.starter
def test_the_starters_vocabulary_passes_the_checks_quickly(starter_fields: Mapping[str, Any]) -> None:
    begin = time.perf_counter()
    tokenizer = tokenizer_from_gguf(starter_fields)
    seconds = time.perf_counter() - begin
    assert isinstance(tokenizer, BpeTokenizer)
    assert not tokenizer.notes
    findings = examine(tokenizer.spec)
    assert findings.rank_order_holds
    assert not findings.unreachable
    assert len(findings.missing_bytes) == 21
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_ids[0], tokenizer.add_bos) == (49152, 1, 2, False)
    assert seconds < 5  # 0.3 s on a quiet machine; the bound is for a busy one


@pytest.mark.starter
def test_known_ids_of_the_starter(starter: Tokenizer) -> None:
    assert starter.encode("Hello world! 123") == [19556, 905, 17, 216, 33, 34, 35]
    assert starter.encode("  multiple   spaces") == [216, 2701, 256, 5600]
    assert starter.encode("Café déjà vu.") == [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30]


@pytest.mark.starter
@pytest.mark.slow
def test_the_starter_agrees_with_merging_by_rules(starter: BpeTokenizer) -> None:
    """The oracle's pre-tokenizer is the two splits of the original, not our one expression for them."""
    from tokenizers import Tokenizer as Engine

    pipeline = rust_from_spec(starter.spec, "").pipeline
    splits = [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ]
    pipeline = pipeline | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": splits}, "added_tokens": []}
    oracle = Engine.from_str(json.dumps(pipeline))
    texts = fuzz(4000)
    tokens = [starter.decode([i]) for i in range(17, starter.vocab_size, 7)]
    rng = random.Random(1)
    texts += ["".join(rng.choices(tokens, k=12)) for _ in range(2000)]
    texts += ["".join(chr(rng.choice((rng.randrange(32, 0x250), rng.randrange(0x400, 0xD7FF)))) for _ in range(9)) for _ in range(2000)]
    expected = [e.ids for e in oracle.encode_batch(texts, add_special_tokens=False)]
    differ = [t for t, ids in zip(texts, expected, strict=True) if starter.encode(t) != ids]
    assert not differ, f"{len(differ)} differ, first {differ[0]!r}"


@pytest.mark.starter
def test_every_token_of_the_starter_survives_decoding_and_encoding(starter: BpeTokenizer) -> None:
    for id in range(17, starter.vocab_size, 5):
        raw = starter.token_bytes(id)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            continue
        assert starter.decode(starter.encode(text)) == text
