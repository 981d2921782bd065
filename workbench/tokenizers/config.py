"""Which tokenizer a model that is trained from scratch gets."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.core.fields import Option, Problem, field_problems, pick, setting

TOKENIZERS = (
    Option("bpe", "BPE, learnt from the data", "Merges the most frequent pairs of the data into tokens: shorter sequences, whole words."),
    Option("bytes", "Bytes", "One token per byte: the smallest vocabulary, the longest sequences, nothing to learn."),
    Option("existing", "Of another model", "Takes the tokenizer of a model folder, a GGUF file or a model of the library as it is."),
)


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """How text becomes ids. `problems()` lists every broken rule; files are looked at when they are read."""

    kind: str = pick(
        TOKENIZERS, "bpe", label="Tokenizer", group="Tokenizer", source="arXiv:1508.07909",
        help="How text becomes tokens; the model's vocabulary follows from it.",
    )  # fmt: skip
    vocab_size: int = setting(
        2048, label="BPE vocabulary", unit="tokens", group="Tokenizer", minimum=300, maximum=500_000, log=True,
        help="Tokens of a BPE that is learnt from the data; more make shorter sequences and larger embeddings.",
    )  # fmt: skip
    path: str | None = setting(
        None, label="Tokenizer of", group="Tokenizer", none_label="none",
        help="A model folder, GGUF file, tokenizer.json or library name whose tokenizer is used.",
    )  # fmt: skip

    def problems(self) -> list[Problem]:
        """Every broken bound or rule, all at once; empty when usable."""
        found = field_problems(self)
        if self.kind == "existing" and not self.path:
            found.append(Problem("path", "No model is named whose tokenizer to take.", "Name a model, or learn a tokenizer from the data."))
        return found
