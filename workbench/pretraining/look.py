"""What a run from scratch would read, before it is started."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from workbench.core.control import Control
from workbench.core.events import Event, Notice
from workbench.data import RowProblem
from workbench.pretraining.prepare import Resolve, prepared, require_request, vocabulary_words
from workbench.requests import PretrainRequest

_SHOWN = 80
"""Tokens of the beginning."""


@dataclass(frozen=True, kw_only=True)
class PretrainCheck:
    """`tokens` of text make `windows` of `length` to train on and `held_out` to measure with; the tokenizer has `vocabulary`
    tokens. `problems` are rows that were left out, `notices` sentences about the data, `beginning` the text of the first
    tokens one by one. `stopped`: the look was broken off and says nothing."""

    tokens: int = 0
    windows: int = 0
    held_out: int = 0
    length: int = 0
    vocabulary: int = 0
    problems: tuple[RowProblem, ...] = ()
    notices: tuple[str, ...] = ()
    beginning: tuple[str, ...] = ()
    stopped: bool = False


def preflight(request: PretrainRequest, resolve: Resolve, control: Control) -> Generator[Event, None, PretrainCheck]:
    """Read, learn the tokenizer and cut windows as a run would; nothing is written and no model is made. Raises what the
    run would raise."""
    require_request(replace(request, resume=False))
    notices: list[str] = []
    steps = prepared(request, request.model.max_positions, None, resolve, control)
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            ready = end.value
            break
        if isinstance(event, Notice):
            notices.append(event.message)
        else:
            yield event
    if ready is None:
        return PretrainCheck(stopped=True)
    corpus, tokenizer = ready.corpus, ready.tokenizer
    expected = vocabulary_words(tokenizer.vocab_size, request)  # the figure itself is in the answer
    return PretrainCheck(
        tokens=corpus.tokens, windows=len(corpus.training), held_out=len(corpus.validation),
        length=min(request.train.max_length, request.model.max_positions), vocabulary=tokenizer.vocab_size, problems=corpus.problems,
        notices=tuple(n for n in notices if n != expected),
        beginning=tuple(tokenizer.decode([i]) for i in corpus.training.sequence(0)[0][:_SHOWN].tolist()),
    )  # fmt: skip
