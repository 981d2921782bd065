"""Examples to sequences of ids with targets, and the report of what became of every row."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.core.control import Control
from workbench.core.events import Progress
from workbench.data.config import DataConfig
from workbench.data.dataset import Dataset
from workbench.data.examples import ChatExample, Example, RowProblem, TextExample
from workbench.data.read import read_examples
from workbench.data.report import SAMPLES, DataReport, Tally, sample_of
from workbench.tokenizers import ChatTemplate, ConversationError, Tokenizer, end_of_text_id

_EVERY_SECONDS = 0.1
Encoded = tuple[list[int], list[bool]]


@dataclass(frozen=True)
class Prepared:
    """The data as ids, and what became of every row."""

    dataset: Dataset
    report: DataReport


@dataclass(frozen=True)
class _Rules:
    tokenizer: Tokenizer
    template: ChatTemplate
    max_length: int
    over_long: str
    train_on: str


def prepare(
    examples: Iterable[Example | RowProblem], tokenizer: Tokenizer, template: ChatTemplate, max_length: int, *, over_long: str = "split",
    train_on: str = "all", max_rows: int | None = None,
) -> Prepared:  # fmt: skip
    """`prepare_events` for those who need no progress."""
    steps = prepare_events(
        examples, tokenizer, template, max_length, over_long=over_long, train_on=train_on, max_rows=max_rows, control=Control()
    )
    while True:
        try:
            next(steps)
        except StopIteration as end:
            prepared: Prepared = end.value
            return prepared


def load_data(
    config: DataConfig, tokenizer: Tokenizer, template: ChatTemplate, max_length: int, control: Control
) -> Generator[Progress, None, Prepared]:
    """Read and prepare what `config` names. Raises `DataError` and `FileError` for sources that cannot be opened; rows that
    cannot be used are in the report. Call `report.require_usable()` before training."""
    examples = read_examples(config.sources, config.format, config.roles)
    return (
        yield from prepare_events(
            examples, tokenizer, template, max_length, over_long=config.over_long, train_on=config.train_on, max_rows=config.max_rows,
            control=control,
        )
    )  # fmt: skip


def prepare_events(
    examples: Iterable[Example | RowProblem], tokenizer: Tokenizer, template: ChatTemplate, max_length: int, *, over_long: str,
    train_on: str, max_rows: int | None, control: Control,
) -> Generator[Progress, None, Prepared]:  # fmt: skip
    """Encode every example, at most `max_length` ids a sequence. A stop ends the reading; the report then says `stopped`."""
    rules = _Rules(tokenizer, template, max_length, over_long, train_on)
    tally = Tally()
    sequences: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]] = []
    rows: list[int] = []
    seen: set[int] = set()
    told = time.perf_counter()
    for example in examples:
        control.wait_while_paused()
        if control.stopping:
            tally.stopped = True
            break
        if isinstance(example, RowProblem):
            tally.drop(example)
        else:
            found = list(_sequences(example, rules, tally))
            if found:
                key = hash(tuple(found[0][0]))
                tally.duplicates += key in seen
                seen.add(key)
                if len(tally.samples) < SAMPLES:
                    tally.samples.append(sample_of(tokenizer, example.file, example.row, *found[0]))
                rows += [tally.rows] * len(found)
                sequences += [(np.asarray(ids, np.int32), np.asarray(mask, np.bool_)) for ids, mask in found]
                tally.rows += 1
                tally.kept += 1
        if time.perf_counter() - told > _EVERY_SECONDS:
            told = time.perf_counter()
            yield Progress(message="Reading data", done=tally.rows, unit="rows")
        if max_rows is not None and tally.kept >= max_rows:
            break
    dataset = Dataset.of(sequences, rows)
    yield Progress(message="Reading data", done=tally.rows, total=tally.rows, unit="rows")
    return Prepared(dataset, tally.report(dataset.lengths.tolist(), dataset.trained_tokens))


def _sequences(example: Example, rules: _Rules, tally: Tally) -> Iterator[Encoded]:
    """The sequences of one example; none, and a problem in `tally`, when it cannot be used."""
    if isinstance(example, TextExample):
        yield from _text_sequences(example, rules, tally)
        return
    try:
        found = _chat_sequence(example, rules, tally)
    except ConversationError as error:
        tally.drop(RowProblem(example.file, example.row, error.message, error.hint))
        return
    if isinstance(found, RowProblem):
        tally.drop(found)
    else:
        yield found


def _chat_sequence(example: ChatExample, rules: _Rules, tally: Tally) -> Encoded | RowProblem:
    encoded = rules.template.encode_chat(rules.tokenizer, example.messages, train_on="last" if rules.train_on == "last" else "all")
    for note in encoded.notes:
        tally.note(note)
    if not encoded.ends:
        tally.note("The chat template closes replies with no end token, so the model will not learn when to stop.")
    ids, trained = encoded.ids, [False, *encoded.trained[1:]]
    too_long = len(ids) > rules.max_length
    if too_long and rules.over_long == "drop":
        reason = f"The conversation has {len(ids)} tokens; the most is {rules.max_length}."
        return RowProblem(example.file, example.row, reason, "Raise the longest sequence, or let long examples be cut.")
    if not any(trained):
        return RowProblem(example.file, example.row, "The chat template writes nothing of the reply.", "Use another chat template.")
    ids, trained = ids[: rules.max_length], trained[: rules.max_length]
    if not any(trained):
        reason = f"The reply begins after the longest sequence of {rules.max_length} tokens, so nothing of it would be learnt."
        return RowProblem(example.file, example.row, reason, "Raise the longest sequence, or shorten the question.")
    tally.truncated += too_long
    return ids, trained


def _text_sequences(example: TextExample, rules: _Rules, tally: Tally) -> Iterator[Encoded]:
    """Consecutive pieces, each beginning with the last id of the one before: every id but the first is a target once."""
    tokenizer, length = rules.tokenizer, rules.max_length
    begin = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    end = end_of_text_id(tokenizer)
    ids = [*begin, *tokenizer.encode(example.text), *([end] if end is not None else [])]
    if len(ids) - len(begin) - (end is not None) < 1 or len(ids) < 2:
        tally.drop(RowProblem(example.file, example.row, "The text is empty.", "Add text, or delete the row."))
        return
    if len(ids) > length and rules.over_long == "drop":
        reason = f"The text has {len(ids)} tokens; the most is {length}."
        tally.drop(RowProblem(example.file, example.row, reason, "Raise the longest sequence, or let long examples be split."))
        return
    if len(ids) > length and rules.over_long == "truncate":
        tally.truncated += 1
        ids = ids[:length]
    for start in range(0, len(ids) - 1, length - 1):
        piece = ids[start : start + length]
        yield piece, [False] + [True] * (len(piece) - 1)
