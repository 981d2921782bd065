"""Text for training from scratch: documents in one long stream, cut into windows of equal length; nothing is padded.

documents = yield from read_documents(config, control)
corpus = yield from windows(documents, tokenizer, template, length=128, lookahead=1, fraction=0.05, seed=0, control=control)
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.core.control import Control
from workbench.core.errors import DataError
from workbench.core.events import Event, Progress
from workbench.data.config import DataConfig
from workbench.data.dataset import Dataset
from workbench.data.examples import ChatExample, Example, RowProblem
from workbench.data.read import read_examples
from workbench.tokenizers import ChatTemplate, ConversationError, Tokenizer, end_of_text_id

_EVERY_SECONDS = 0.1
Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Documents:
    """What was read: examples, and the rows that were left out. `stopped` before the end."""

    examples: tuple[Example, ...]
    problems: tuple[RowProblem, ...] = ()
    stopped: bool = False

    @property
    def chats(self) -> bool:
        """Whether there are conversations among them."""
        return any(isinstance(e, ChatExample) for e in self.examples)

    def texts(self) -> Iterator[str]:
        """Every text a person wrote, for a tokenizer to learn from."""
        for example in self.examples:
            if isinstance(example, ChatExample):
                yield from (m.content for m in example.messages)
            else:
                yield example.text


@dataclass(frozen=True)
class Corpus:
    """Windows to train on and windows to measure with (none for a fraction of 0 or very little text). `tokens` were encoded;
    those at the end that fill no window are left out."""

    training: Dataset
    validation: Dataset
    tokens: int
    problems: tuple[RowProblem, ...]
    stopped: bool = False


def read_documents(config: DataConfig, control: Control) -> Generator[Event, None, Documents]:
    """Read what `config` names into memory. Raises `DataError` and `FileError` for sources that cannot be opened or that
    hold nothing to learn."""
    examples: list[Example] = []
    problems: list[RowProblem] = []
    told, stopped = time.perf_counter(), False
    for found in read_examples(config.sources, config.format, config.roles):
        control.wait_while_paused()
        if control.stopping:
            stopped = True
            break
        if isinstance(found, RowProblem):
            problems.append(found)
        elif isinstance(found, ChatExample) or found.text.strip():
            examples.append(found)
        if time.perf_counter() - told > _EVERY_SECONDS:
            told = time.perf_counter()
            yield Progress(message="Reading data", done=len(examples), unit="rows")
        if config.max_rows is not None and len(examples) >= config.max_rows:
            break
    if not examples and not stopped:
        why = str(problems[0]) if problems else "No text was found."
        raise DataError(f"The data are empty. {why}", hint="Choose files with text in them.", details="\n".join(map(str, problems)))
    return Documents(tuple(examples), tuple(problems), stopped)


def windows(
    documents: Documents, tokenizer: Tokenizer, template: ChatTemplate, *, length: int, lookahead: int, fraction: float, seed: int,
    control: Control,
) -> Generator[Event, None, Corpus]:  # fmt: skip
    """Encode the documents, each closed by the end-of-text token, and cut the stream into windows of `length` inputs.

    A window holds `length + lookahead` tokens and the next begins `length` after it, so that with a lookahead of 1 every
    token is a target once. About `fraction` of the tokens is held out: whole documents chosen by `seed`, or the end of a
    single one. Raises `DataError` when the text does not fill one window.
    """
    encoded: list[Ids] = []
    problems = list(documents.problems)
    told, stopped = time.perf_counter(), False
    for number, example in enumerate(documents.examples):
        if control.stopping:
            stopped = True
            break
        found = _encoded(example, tokenizer, template)
        if isinstance(found, RowProblem):
            problems.append(found)
        else:
            encoded.append(found)
        if time.perf_counter() - told > _EVERY_SECONDS:
            told = time.perf_counter()
            yield Progress(message="Encoding", done=number, total=len(documents.examples), unit="rows")
    tokens = sum(map(len, encoded))
    if stopped:
        return Corpus(_cut([], length, lookahead), _cut([], length, lookahead), tokens, tuple(problems), True)
    if tokens < length + lookahead:
        raise DataError(
            f"The data have {tokens} tokens; one window of the training context takes {length + lookahead}.",
            hint=f"Add text, or lower the training context to {max(8, tokens - lookahead)} or less.",
            details="\n".join(map(str, problems)),
        )
    kept, held = _divided(encoded, max(length + lookahead, round(fraction * tokens)) if fraction > 0 else 0, length + lookahead, seed)
    return Corpus(_cut(kept, length, lookahead), _cut(held, length, lookahead), tokens, tuple(problems))


def _encoded(example: Example, tokenizer: Tokenizer, template: ChatTemplate) -> Ids | RowProblem:
    if isinstance(example, ChatExample):
        try:
            ids = template.encode_chat(tokenizer, example.messages).ids
        except ConversationError as error:
            return RowProblem(example.file, example.row, error.message, error.hint)
    else:
        ids = tokenizer.encode(example.text)
    begin = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    end = end_of_text_id(tokenizer)
    return np.asarray([*begin, *ids, *([] if end is None else [end])], dtype=np.int32)


def _divided(documents: list[Ids], wanted: int, least: int, seed: int) -> tuple[list[Ids], list[Ids]]:
    """(training, validation) with about `wanted` tokens held out; none when training would be left less than `least`."""
    lengths = np.asarray([len(d) for d in documents])
    if not wanted or lengths.sum() - wanted < least:
        return documents, []
    order = np.random.default_rng([seed, 0x5EED]).permutation(len(documents))
    count = 1 + int(np.searchsorted(np.cumsum(lengths[order]), wanted))
    out = frozenset(order[:count].tolist())
    if lengths.sum() - sum(int(lengths[i]) for i in out) < least:  # few, long documents: the end of the stream instead
        stream = np.concatenate(documents)
        return [stream[:-wanted]], [stream[-wanted:]]
    return [d for i, d in enumerate(documents) if i not in out], [documents[i] for i in sorted(out)]


def _cut(documents: Sequence[Ids], length: int, lookahead: int) -> Dataset:
    size = length + lookahead
    stream = np.concatenate(documents) if documents else np.empty(0, np.int32)
    count = max(0, (len(stream) - lookahead) // length)
    if not count:
        return Dataset.of([])
    ids = np.lib.stride_tricks.sliding_window_view(stream, size)[::length][:count]
    trained = np.ones((count, size), np.bool_)
    trained[:, :lookahead] = False  # nothing comes before a window's first token; the window before has predicted it
    return Dataset(ids.reshape(-1), trained.reshape(-1), np.arange(count + 1, dtype=np.int64) * size, np.zeros(count, np.int64))
