"""Examples to ids and targets, and the report that is read before a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.core.control import Control
from workbench.core.errors import DataError, ModelError
from workbench.core.events import Progress
from workbench.data import ChatExample, DataConfig, Prepared, RowProblem, TextExample, load_data, prepare, read_examples
from workbench.data.report import histogram
from workbench.tokenizers import ByteTokenizer, ChatTemplate, Message, Tokenizer

Write = Callable[..., Path]


def chat(*contents: str, row: int = 1) -> ChatExample:
    return ChatExample(tuple(Message(("user", "assistant")[i % 2], c) for i, c in enumerate(contents)), "a.jsonl", row)


def targets(prepared: Prepared, tokenizer: Tokenizer, index: int = 0) -> str:
    ids, trained = prepared.dataset.sequence(index)
    return tokenizer.decode(ids[trained].tolist())


# ---- conversations -------------------------------------------------------------------------------------------------


def test_replies_and_their_end_are_the_targets(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    example = chat("q", "yes", "r", "no")
    assert targets(prepare([example], tokenizer, chatml, 999), tokenizer) == "yes<|im_end|>no<|im_end|>"
    assert targets(prepare([example], tokenizer, chatml, 999, train_on="last"), tokenizer) == "no<|im_end|>"


def test_long_conversations_are_cut_or_dropped_and_counted(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    example = chat("q", "yes" * 50)
    whole = prepare([example], tokenizer, chatml, 999).report
    cut = prepare([example], tokenizer, chatml, 60)
    assert (cut.report.truncated, cut.report.longest, cut.report.sequences) == (1, 60, 1)
    assert 0 < cut.report.trained_tokens < whole.trained_tokens
    dropped = prepare([example], tokenizer, chatml, 60, over_long="drop").report
    assert (dropped.kept, dropped.dropped, dropped.usable) == (0, 1, False)
    assert "the most is 60" in dropped.problems[0].reason


def test_a_reply_beyond_the_longest_sequence_is_dropped_with_its_row(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    report = prepare([chat("q" * 100, "yes", row=7)], tokenizer, chatml, 60).report
    assert report.problems[0].row == 7
    assert "nothing of it would be learnt" in report.problems[0].reason
    with pytest.raises(DataError, match=r"row 7 of a\.jsonl") as caught:
        report.require_usable()
    assert "longest sequence" in caught.value.hint


def test_a_row_the_template_refuses_is_dropped_and_the_others_are_kept(tokenizer: Tokenizer) -> None:
    strict = ChatTemplate(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ m.role }}:{{ m.content }}\n{% endfor %}"
    )
    system = ChatExample((Message("system", "s"), Message("user", "q"), Message("assistant", "a")), "a.jsonl", 2)
    report = prepare([chat("q", "a"), system], tokenizer, strict, 99).report
    assert (report.rows, report.kept, report.dropped) == (2, 1, 1)
    assert "no system role" in report.problems[0].reason
    assert "no end token" in report.notes[0]


def test_a_dangerous_template_stops_the_reading(tokenizer: Tokenizer) -> None:
    with pytest.raises(ModelError, match="Python's internals"):
        prepare([chat("q", "a")] * 1000, tokenizer, ChatTemplate("{{ messages.__class__ }}"), 99)


# ---- documents -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [8, 9, 10, 26, 27, 28, 99])
def test_text_is_split_so_that_every_token_but_the_first_is_a_target_once(tokenizer: Tokenizer, chatml: ChatTemplate, length: int) -> None:
    text = "abcdefghijklmnopqrstuvwxyz"
    prepared = prepare([TextExample(text, "a.txt", 1)], tokenizer, chatml, length)
    learnt = "".join(targets(prepared, tokenizer, i) for i in range(len(prepared.dataset)))
    assert learnt == text[1:] + "<|endoftext|>"
    assert prepared.report.longest <= length
    assert (prepared.report.rows, prepared.report.kept, prepared.report.truncated) == (1, 1, 0)


def test_text_can_be_cut_or_dropped_instead(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    example = TextExample("x" * 100, "a.txt", 1)
    cut = prepare([example], tokenizer, chatml, 20, over_long="truncate").report
    assert (cut.sequences, cut.tokens, cut.truncated) == (1, 20, 1)
    assert not prepare([example], tokenizer, chatml, 20, over_long="drop").report.usable


def test_a_begin_token_comes_first_where_the_model_has_one(chatml: ChatTemplate) -> None:
    begins = ByteTokenizer()
    begins.bos_id, begins.add_bos = 256, True
    ids, trained = prepare([TextExample("a", "a.txt", 1)], begins, chatml, 20).dataset.sequence(0)
    assert ids.tolist() == [256, ord("a"), 256]
    assert trained.tolist() == [False, True, True]


# ---- the report ----------------------------------------------------------------------------------------------------


def test_every_row_is_accounted_for(write: Write, tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    good = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    path = write(
        "a.jsonl", json.dumps(good) + "\n{oops\n" + json.dumps({"messages": [good["messages"][0]]}) + "\n" + json.dumps(good) + "\n"
    )
    report = prepare(read_examples([path]), tokenizer, chatml, 99).report
    assert (report.rows, report.kept, report.dropped, report.duplicates, report.sequences) == (4, 2, 2, 1, 2)
    assert [(p.row, bool(p.fix)) for p in report.problems] == [(2, True), (3, True)]
    assert sum(n for _, n in report.reasons) == 2
    assert sum(n for _, _, n in report.histogram) == 2
    plain = report.to_json()
    assert json.loads(json.dumps(plain)) == plain
    assert {"rows", "kept", "dropped", "truncated", "tokens", "trained_tokens", "samples", "problems"} <= plain.keys()


def test_samples_show_what_is_learnt_and_what_is_special(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    report = prepare([chat("q<|im_end|>", "yés", row=i) for i in range(9)], tokenizer, chatml, 99).report
    assert len(report.samples) == 3
    sample = report.samples[0]
    assert "".join(s.text for s in sample.segments) == chatml.render(chat("q<|im_end|>", "yés").messages, False)
    assert [(s.text, s.special) for s in sample.segments if s.trained] == [("yés", False), ("<|im_end|>", True)]
    assert sum(s.special for s in sample.segments) == 4
    assert sample.trained_tokens == len("yés".encode()) + 1


def test_the_same_kind_of_problem_is_counted_once_however_many_rows(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    rows = [RowProblem("a.jsonl", i, f"Message {i} has no 'content'.") for i in range(1, 500)]
    report = prepare(rows, tokenizer, chatml, 99).report
    assert report.reasons == (("Message # has no 'content'.", 499),)
    assert (report.dropped, len(report.problems)) == (499, 200)


def test_nothing_to_learn_is_an_error_that_names_rows_reason_and_fix(write: Write, tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    def refused(name: str, content: Any) -> DataError:
        report = prepare(read_examples([write(name, content)]), tokenizer, chatml, 99).report
        assert not report.usable
        with pytest.raises(DataError) as caught:
            report.require_usable()
        assert caught.value.hint
        return caught.value

    assert "no rows were found" in refused("a.jsonl", "").message
    assert "only row" in refused("b.txt", "").message
    only_questions = [{"messages": [{"role": "user", "content": "q"}]}] * 3
    error = refused("c.jsonl", only_questions)
    assert "None of the 3 rows" in error.message
    assert "row 1 of c.jsonl: The conversation has no reply" in error.message
    assert error.details.count("\n") == 2


def test_the_histogram_covers_all_lengths_in_few_bins() -> None:
    lengths = list(range(3, 200))
    bins = histogram(lengths)
    assert len(bins) <= 16
    assert sum(n for _, _, n in bins) == len(lengths)
    assert all(a2 == b1 + 1 for (_, b1, _), (a2, _, _) in pairwise(bins))
    assert histogram([]) == ()
    assert histogram([5]) == ((5, 5, 1),)


# ---- as a job ------------------------------------------------------------------------------------------------------


def run(config: DataConfig, tokenizer: Tokenizer, template: ChatTemplate, control: Control) -> tuple[list[Progress], Prepared]:
    steps = load_data(config, tokenizer, template, 64, control)
    events: list[Progress] = []
    while True:
        try:
            events.append(next(steps))
        except StopIteration as end:
            return events, end.value


def test_reading_reports_progress_and_ends_with_the_count(write: Write, tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    path = write("a.jsonl", [{"text": f"line {i}"} for i in range(50)])
    events, prepared = run(DataConfig(sources=(str(path),)), tokenizer, chatml, Control())
    assert events[-1].done == events[-1].total == prepared.report.rows == 50
    _, few = run(DataConfig(sources=(str(path),), max_rows=7), tokenizer, chatml, Control())
    assert few.report.kept == 7


def test_a_stop_ends_the_reading(write: Write, tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    control = Control()
    control.stop()
    _, prepared = run(DataConfig(sources=(str(write("a.txt", "text")),)), tokenizer, chatml, control)
    assert prepared.report.stopped
    assert len(prepared.dataset) == 0


def test_the_same_data_give_the_same_bytes(tokenizer: Tokenizer, chatml: ChatTemplate) -> None:
    examples: Sequence[ChatExample] = [chat(f"q{i}", f"a{i}") for i in range(5)]
    first, second = (prepare(examples, tokenizer, chatml, 99).dataset for _ in range(2))
    assert first.fingerprint() == second.fingerprint()
    assert first.fingerprint() != prepare(examples[:4], tokenizer, chatml, 99).dataset.fingerprint()
    assert np.array_equal(first.rows, np.arange(5))
