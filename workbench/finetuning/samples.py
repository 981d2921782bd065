"""Questions that the model under training answers every few steps, so that one sees what it learns and when it forgets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from workbench import adapters
from workbench.caches import KVCache
from workbench.checkpoints import Loaded
from workbench.core.control import Control
from workbench.data import DataConfig, read_examples
from workbench.data.examples import ChatExample, TextExample
from workbench.generation import GenerationConfig, generate
from workbench.model import Transformer
from workbench.tokenizers import ChatTemplate, ConversationError, Message, Tokenizer, chat_template
from workbench.training import SampleEvent, TrainConfig

FROM_DATA = 2
"""Questions taken from the data where none are given."""
_LOOKED_AT = 50
"""Rows of the data in which they are looked for."""
_OPENING = 12
"""Words of a text that a sample continues."""


@dataclass(frozen=True)
class Question:
    """`text` is shown; `ids` are what the model reads."""

    text: str
    ids: tuple[int, ...]


class Samples:
    """Answers of one model at chosen steps: greedy, so that only training changes them and a resumed run writes the same."""

    def __init__(
        self, loaded: Loaded, tokenizer: Tokenizer, model: Transformer, adapter: str | None, data: DataConfig, config: TrainConfig
    ) -> None:
        """`adapter` of `model` is trained, or `model` itself when None."""
        self._model, self._tokenizer, self._adapter, self._config = model, tokenizer, adapter, config
        if config.sample_every is None:
            self.questions: tuple[Question, ...] = ()
            return
        template = chat_template(loaded.chat_template, tokenizer)
        self._stops = template.stop_ids(tokenizer)
        asked = [q.strip() for q in config.sample_prompt.split("|") if q.strip()]
        found = (_asked(q, loaded, template, tokenizer) for q in asked) if asked else _of_data(data, template, tokenizer)
        room = min(model.config.max_positions, config.max_length) - 1
        self.questions = tuple(Question(q.text, q.ids[:room]) for q in found if q.ids)

    def due(self, step: int) -> bool:
        """Whether the questions are asked after this update."""
        every = self._config.sample_every
        return bool(self.questions) and every is not None and step % every == 0

    def events(self, step: int, of: int, control: Control) -> Iterator[SampleEvent]:
        """One event per question; fewer when `control` stops it."""
        for question in self.questions:
            if control.stopping:
                return
            yield SampleEvent(step=step, of=of, prompt=question.text, text=self._answer(question, control))

    def _answer(self, question: Question, control: Control) -> str:
        wanted = min(self._config.sample_tokens, self._model.config.max_positions - len(question.ids))
        settings = GenerationConfig(do_sample=False, max_new_tokens=wanted)
        cache = KVCache.for_model(self._model, "exact", len(question.ids) + wanted)
        steps = generate(self._model, self._tokenizer, list(question.ids), settings, cache=cache, control=control, stop_ids=self._stops)
        chosen = {} if self._adapter is None else {self._adapter: 1.0}
        with adapters.selected(self._model, chosen):
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    return str(end.value.text)


def _asked(question: str, loaded: Loaded, template: ChatTemplate, tokenizer: Tokenizer) -> Question:
    """As a message where the model knows a chat template, as the beginning of a text elsewhere."""
    if loaded.chat_template is None:
        return Question(question, tuple(tokenizer.encode(question)))
    return _message((Message("user", question),), template, tokenizer)


def _message(messages: tuple[Message, ...], template: ChatTemplate, tokenizer: Tokenizer) -> Question:
    return Question(messages[-1].content, tuple(template.encode(tokenizer, messages)))


def _of_data(data: DataConfig, template: ChatTemplate, tokenizer: Tokenizer) -> Iterator[Question]:
    """The first questions of the data, with what was said before them; of plain texts the first words."""
    found = 0
    for number, example in enumerate(read_examples(data.sources, data.format, data.roles)):
        if found == FROM_DATA or number == _LOOKED_AT:
            return
        question = _of_example(example, template, tokenizer) if isinstance(example, ChatExample | TextExample) else None
        if question is not None:
            found += 1
            yield question


def _of_example(example: ChatExample | TextExample, template: ChatTemplate, tokenizer: Tokenizer) -> Question | None:
    if isinstance(example, TextExample):
        opening = " ".join(example.text.split()[:_OPENING])
        return Question(opening, tuple(tokenizer.encode(opening))) if opening else None
    replies = [i for i, message in enumerate(example.messages) if message.role == "assistant"]
    if not replies or replies[0] == 0:
        return None
    try:
        return _message(tuple(example.messages[: replies[0]]), template, tokenizer)
    except ConversationError:
        return None
