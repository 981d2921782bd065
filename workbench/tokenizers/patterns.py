"""How text is cut into pieces before merging: one regular expression per named pre-tokenizer.

Names are those of `tokenizer.ggml.pre` in GGUF files (llama.cpp's vocabulary source lists the splits; where it applies
two in turn, the single expression here is equivalent: tests compare both).
"""

from __future__ import annotations

from workbench.core.errors import ModelError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_LOWER = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Each digit alone first, then GPT-2's split: so a space never joins a digit, and whitespace before a digit stays whole.
DIGITS_GPT2 = r"\p{N}|'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"
LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"


def _cased(tail: str) -> str:
    """Words cut where case changes from lower to upper, each with `tail` (a contraction, or nothing)."""
    return f"{_BEFORE}[{_UPPER}]*[{_LOWER}]+{tail}|{_BEFORE}[{_UPPER}]+[{_LOWER}]*{tail}"


TEKKEN = _cased("") + rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
GPT4O = _cased(_CONTRACTIONS + "?") + rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"

PATTERNS: dict[str, str] = {
    **dict.fromkeys(("gpt-2", "phi-2", "olmo", "mpt", "jais", "exaone4"), GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), DIGITS_GPT2),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe", "falcon3", "falcon-h1", "pixtral", "lfm2"), LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez"), QWEN2),
    "tekken": TEKKEN,
    **dict.fromkeys(("gpt-4o", "llama4"), GPT4O),
}
WHOLE_PIECES_FIRST = frozenset({"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2", "tekken"})
"""Pre-tokenizers whose vocabularies look a whole piece up before merging (`ignore_merges`), and begin with a begin token."""


def pattern_of(name: str) -> str:
    """The expression of a named pre-tokenizer; `ModelError` naming the known ones when there is none."""
    if name not in PATTERNS:
        raise ModelError(
            f"The tokenizer's pre-tokenizer {name!r} is not known here.",
            hint="Load the model from its Hugging Face folder (tokenizer.json says how to cut text), or update the program.",
            details=f"Known: {', '.join(sorted(PATTERNS))}",
        )
    return PATTERNS[name]
