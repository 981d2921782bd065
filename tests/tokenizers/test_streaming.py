"""Text that arrives token by token."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workbench.tokenizers import ByteTokenizer, StreamDecoder, Tokenizer


@given(text=st.text())
def test_streamed_pieces_join_to_the_decoded_text(text: str) -> None:
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(text)
    decoder = StreamDecoder(tokenizer)
    assert "".join(decoder.push(i) for i in ids) + decoder.flush() == tokenizer.decode(ids)


def test_half_a_character_is_held_back_and_flushed_as_a_replacement(toy: Tokenizer) -> None:
    decoder = StreamDecoder(toy)
    first, second, third = toy.encode("中")
    assert [decoder.push(first), decoder.push(second)] == ["", ""]
    assert decoder.flush() == "\ufffd"
    assert [decoder.push(first), decoder.push(second), decoder.push(third)] == ["", "", "中"]
    assert decoder.flush() == ""


def test_special_tokens_can_be_left_out(toy: Tokenizer) -> None:
    assert StreamDecoder(toy).push(2) == "<|im_end|>"
    assert StreamDecoder(toy, skip_special=True).push(2) == ""
