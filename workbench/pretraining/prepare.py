"""What a run from scratch begins with: a tokenizer, the text as windows of ids, and the architecture they make whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.checkpoints import FORMATS
from workbench.checkpoints.formats import find_format, foreign
from workbench.core.control import Control
from workbench.core.errors import ConfigError, FileError, ModelError
from workbench.core.events import Event, Notice, Phase
from workbench.core.fields import require_usable
from workbench.data import Corpus, Documents, read_documents, windows
from workbench.model import ModelConfig
from workbench.requests import PretrainRequest
from workbench.tokenizers import CHATML, ByteTokenizer, Tokenizer, chat_template, tokenizer_from_folder
from workbench.tokenizers.config import TokenizerConfig
from workbench.tokenizers.train_bpe import bpe_from_pipeline, trained_bpe
from workbench.training.objectives import Objective, objective_for

TOKENIZER = "tokenizer"
"""Folder, inside a run's, of a tokenizer that was learnt from the data."""
Resolve = Callable[[str], Path]
"""The path of a library name or a path, for tokenizers of other models."""


@dataclass(frozen=True)
class Prepared:
    """`config` with the tokenizer's vocabulary; `pipeline` is the tokenizer.json of a BPE that was learnt just now;
    `template` the chat template of a model that saw conversations."""

    config: ModelConfig
    tokenizer: Tokenizer
    pipeline: dict[str, Any] | None
    objective: Objective
    corpus: Corpus
    template: str | None

    def facts(self) -> dict[str, object]:
        """What the run's manifest says of the data."""
        corpus = self.corpus
        return {
            "fingerprint": corpus.training.fingerprint(), "tokens": corpus.tokens, "windows": len(corpus.training),
            "held_out_windows": len(corpus.validation), "dropped": len(corpus.problems), "tokenizer": self.tokenizer.name,
            "vocabulary": self.tokenizer.vocab_size,
        }  # fmt: skip


def prepared(
    request: PretrainRequest, context: int, saved: Path | None, resolve: Resolve, control: Control
) -> Generator[Event, None, Prepared | None]:
    """Read the data, get the tokenizer (of a resumed run from `saved`), cut windows of at most `context` tokens. None when
    `control` stopped it. Raises `ConfigError`, `DataError`, `FileError` or `ModelError` before anything is written."""
    yield Phase(word="Checking data")
    documents = yield from read_documents(request.data, control)
    if documents.stopped:
        return None
    tokenizer, pipeline = _tokenizer(request.tokenizer, documents, not request.model.causal, saved, resolve)
    objective = objective_for(request.model, tokenizer)
    for message in _about(tokenizer, request):
        yield Notice(message=message)
    length = min(request.train.max_length, context)
    if length < request.train.max_length:
        yield Notice(message=f"The model's context is {length} tokens, so it trains on {length} at once, not {request.train.max_length}.")
    elif length < request.model.max_positions:
        beyond = f"The model is made for {request.model.max_positions} tokens and trains on {length} at once"
        yield Notice(message=f"{beyond}; texts longer than that will be new to it.")
    template = chat_template(CHATML, tokenizer)
    corpus = yield from windows(
        documents, tokenizer, template, length=length, lookahead=objective.lookahead, fraction=request.data.validation_fraction,
        seed=request.train.seed, control=control,
    )  # fmt: skip
    if corpus.stopped:
        return None
    if corpus.problems:
        yield Notice(message=f"{len(corpus.problems)} rows are left out; the first is {corpus.problems[0]}", level="warning")
    if request.data.validation_fraction and not len(corpus.validation):
        yield Notice(message="The data are too short to hold some out, so no validation loss is measured.", level="warning")
    config = replace(request.model, vocab_size=tokenizer.vocab_size)
    require_usable(config)
    return Prepared(config, tokenizer, pipeline, objective, corpus, CHATML if documents.chats else None)


def _about(tokenizer: Tokenizer, request: PretrainRequest) -> list[str]:
    """What a person should know of the vocabulary."""
    size, asked = tokenizer.vocab_size, request.tokenizer
    found = list(tokenizer.notes)
    if asked.kind == "bpe" and size < asked.vocab_size:
        found.append(f"The data give a vocabulary of {size:,} tokens, not {asked.vocab_size:,}: no further pair occurs twice.")
    if size != request.model.vocab_size:
        found.append(vocabulary_words(size, request))
    return found


def vocabulary_words(size: int, request: PretrainRequest) -> str:
    """The sentence about a vocabulary that gives way to the tokenizer's."""
    return f"The model's vocabulary is {size:,} tokens, as the tokenizer has it, instead of {request.model.vocab_size:,}."


def _tokenizer(
    asked: TokenizerConfig, documents: Documents, mask: bool, saved: Path | None, resolve: Resolve
) -> tuple[Tokenizer, dict[str, Any] | None]:
    if asked.kind == "bytes":
        return ByteTokenizer(mask=mask), None
    if asked.kind == "existing":
        return tokenizer_of(resolve(asked.path or "")), None
    if saved is not None:
        return learnt_tokenizer(saved), None
    # Through JSON once, as the folder will hold it: what is trained with is what is read back.
    pipeline = json.loads(json.dumps(trained_bpe(documents.texts(), asked.vocab_size, mask)))
    return bpe_from_pipeline(pipeline, TOKENIZER), pipeline


def learnt_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that a run learnt. Raises `FileError` when it is gone."""
    found = tokenizer_from_folder(folder / TOKENIZER)
    if found is None:
        raise FileError(f"{folder} has lost its tokenizer ({TOKENIZER}/tokenizer.json).", hint="Start the run anew, without resume.")
    return found


def tokenizer_of(path: Path) -> Tokenizer:
    """The tokenizer of a model folder, a GGUF file or a tokenizer.json; no weight is read. Raises `FileError` or `ModelError`."""
    folder = path.parent if path.name == "tokenizer.json" else path
    if (folder / "tokenizer.json").is_file():
        found = tokenizer_from_folder(folder)
    else:
        name, place = find_format(path)
        opened = FORMATS[name].make().open(place)
        try:
            with foreign("tokenizer", place):
                found = opened.read_tokenizer()
        finally:
            opened.file.close()
    if found is None:
        raise ModelError(f"{path.name} has no tokenizer.", hint="Name a model that has one, or learn a tokenizer from the data.")
    return found


def require_request(request: PretrainRequest) -> None:
    """Raise `ConfigError` with every problem at once when the request cannot be started."""
    require_usable(request)
    if request.resume and request.out is None:
        raise ConfigError("There is no run to resume.", hint="Name its folder.")
