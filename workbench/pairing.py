"""One message, two settings: both sides write in turn, a token each, with caches of their own and weights that are shared as far as
they are the same.

Prompts are read in the model's own precision, though the chat reads long ones in a lower one where that is faster: how many tokens
are read at once depends on the cache, so that replies would differ for more than what was set.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from workbench.adapters.selection import selection_of
from workbench.chatting import ChatCache, with_adapters
from workbench.checkpoints import Loaded
from workbench.core.control import Control
from workbench.core.errors import BusyError, WorkbenchError
from workbench.core.events import Event
from workbench.core.fields import require_usable
from workbench.generation import Conversation, GenerationConfig, Reply, TokenEvent, reply
from workbench.generation.config import MAX_SEED
from workbench.model import Transformer
from workbench.quantization import QuantizationConfig
from workbench.quantizing import quantized_twin
from workbench.requests import PairChatRequest, SideSettings
from workbench.tokenizers import ChatTemplate, Tokenizer

SIDES = ("A", "B")
_BREAKING = (WorkbenchError, RuntimeError, MemoryError)
"""What ends one side and leaves the other: words for people, and what torch raises."""
Steps = Generator[Event, None, Reply | None]
"""What one side does; None when it was stopped before it had a model."""


@dataclass(frozen=True, kw_only=True)
class SideEvent(Event):
    """What one side ("A" or "B") says while both write; the metrics are its event's."""

    name: ClassVar[str] = "side"
    side: str
    event: Event

    def to_json(self) -> dict[str, Any]:
        """The side's event with the side's name in front."""
        return {"event": self.name, "side": self.side, "said": self.event.to_json()}


@dataclass(frozen=True, kw_only=True)
class PairReply:
    """Both replies, and how far they are the same. A side that an error broke off has no reply and its error in
    `failures`; one that was stopped before it had a model has neither.

    `first_difference` is the index of the first token in which they differ (one that ended counts as different from one that
    goes on); None when all `compared` tokens are the same. `logprob_difference` is the largest difference of what both gave
    the same token, up to there, in nats: how near identical tokens came to being others.
    """

    a: Reply | None
    b: Reply | None
    compared: int
    first_difference: int | None
    logprob_difference: float | None
    failures: Mapping[str, Exception] = field(default_factory=dict)
    cache_tokens: Mapping[str, int] = field(default_factory=dict)
    """Tokens that each side's cache holds, as its bytes were measured; none for a side without a cache."""
    exact: tuple[str, ...] = ()
    """Sides whose cache holds every token as it was computed, by its settings or because all are still in what those keep exact."""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, as the last line of a comparison."""
        more: dict[str, Any] = {
            "compared": self.compared,
            "first_difference": self.first_difference,
            "logprob_difference": self.logprob_difference,
        }
        replies = {name: None if reply is None else reply.to_json() for name, reply in (("a", self.a), ("b", self.b))}
        more |= {"cache_tokens": dict(self.cache_tokens), "exact": list(self.exact)}
        return {"event": "done", **replies, **more, "failures": {side: str(error) for side, error in self.failures.items()}}


@dataclass
class _Side:
    """What one side keeps between messages."""

    chat: ChatCache = field(default_factory=ChatCache)
    model: Transformer | None = None


@dataclass(frozen=True)
class Company:
    """What both sides share: the session's model, how it is quantized now, its template and adapters (name -> strength); `plain` brings
    the model with the weights it was loaded with, which one that is quantized does not have."""

    model: Transformer
    tokenizer: Tokenizer
    template: ChatTemplate | None
    quantization: QuantizationConfig | None
    adapters: Mapping[str, float]
    plain: Callable[[], Generator[Event, None, Loaded | None]]


class PairChat:
    """Two sides of a conversation: their caches, and the quantized twins of the model that they need."""

    def __init__(self) -> None:
        self._sides = {side: _Side() for side in SIDES}
        self._twins: dict[QuantizationConfig | None, Transformer] = {}
        self._made_from: tuple[Any, ...] = ()
        self._busy = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[PairChat]:
        if not self._busy.acquire(blocking=False):
            raise BusyError("Both sides are writing.", hint="Stop them, or wait until they are done.")
        try:
            yield self
        finally:
            self._busy.release()

    def reply(self, request: PairChatRequest, company: Company, control: Control) -> Generator[Event, None, PairReply | None]:
        """Answer on both sides. None when `control` stopped it before either had a model to answer with."""
        settings = dict(zip(SIDES, (request.a, request.b), strict=True))
        for side in settings.values():
            require_usable(side.cache)
            if side.quantization is not None:
                require_usable(side.quantization)
        self._forget(company, [side.quantization for side in settings.values()])
        generation = _seeded(request.generation)
        conversations = (request.conversation_a, request.conversation_b)
        with ExitStack() as open_ones:
            running: dict[str, Steps] = {}
            for (name, chosen), conversation in zip(settings.items(), conversations, strict=True):
                steps = self._steps(name, chosen, conversation, generation, company, control)
                running[name] = open_ones.enter_context(closing(steps))
            found = yield from _in_turn(running)
        if found is None:
            return None
        caches = {name: side.chat.cache for name, side in self._sides.items() if side.chat.cache is not None}
        exact = tuple(name for name, cache in caches.items() if cache.exact)
        return replace(found, cache_tokens={name: cache.length for name, cache in caches.items()}, exact=exact)

    def _steps(
        self,
        name: str,
        settings: SideSettings,
        conversation: Conversation,
        generation: GenerationConfig,
        company: Company,
        control: Control,
    ) -> Steps:
        model = yield from self._model(name, settings.quantization, company, control)
        if model is None:
            return None
        acting = dict(company.adapters) if settings.adapter else {}
        chat = self._sides[name].chat
        yield from chat.changing(model, settings.cache, control)
        change = chat.change()
        key = (settings.quantization, tuple(acting.items()))
        stop_ids = None if company.template is None else company.template.stop_ids(company.tokenizer)
        steps = reply(
            model, company.tokenizer, company.template, conversation, generation,
            cache=chat.cache, state=chat.state, control=control, key=key, stop_ids=stop_ids, limits=settings.cache,
            cache_change=None if change is None else change.how,
        )  # fmt: skip
        return (yield from with_adapters(model, acting, steps))

    # ---- the models --------------------------------------------------------------------------------------------------

    def _forget(self, company: Company, wanted: Sequence[QuantizationConfig | None]) -> None:
        """Free the twins that nobody wants now, or that another model was the origin of, before new ones are made."""
        made_from = (company.model, company.quantization, tuple(selection_of(company.model).attached))
        if made_from != self._made_from:
            self._twins, self._made_from = {}, made_from
        self._twins = {config: model for config, model in self._twins.items() if config in wanted}
        for side in self._sides.values():
            if side.model is not company.model and side.model not in self._twins.values():
                side.chat, side.model = ChatCache(), None

    def _model(
        self, side: str, config: QuantizationConfig | None, company: Company, control: Control
    ) -> Generator[Event, None, Transformer | None]:
        """What a side writes with: the session's own, or another that shares what is the same. None: stopped meanwhile."""
        if config == company.quantization:
            model = company.model
        else:
            if config not in self._twins:
                origin = yield from self._origin(company)
                made = origin if origin is None or config is None else (yield from quantized_twin(origin, config, control))
                if made is None:
                    return None
                self._twins[config] = made
            model = self._twins[config]
        kept = self._sides[side]
        if kept.model is not model:  # what its cache holds was computed by another model
            kept.chat, kept.model = ChatCache(), model
        return model

    def _origin(self, company: Company) -> Generator[Event, None, Transformer | None]:
        """The model with the weights it was loaded with."""
        if company.quantization is None:
            return company.model
        if None in self._twins:
            return self._twins[None]
        plain = yield from company.plain()
        return None if plain is None else plain.model


def _seeded(generation: GenerationConfig) -> GenerationConfig:
    """With a seed for both sides: else each would draw its own, and differ for that alone."""
    return generation if generation.seed is not None else replace(generation, seed=secrets.randbelow(MAX_SEED))


def _in_turn(running: dict[str, Steps]) -> Generator[Event, None, PairReply | None]:
    """A token of each side in turn, whatever else they say before it, until both have ended. An error ends its own side only; the
    first is raised when no side is left that ended well."""
    tokens: dict[str, list[TokenEvent]] = {side: [] for side in running}
    ended: dict[str, Reply | None] = {}
    failures: dict[str, Exception] = {}
    while len(ended) + len(failures) < len(running):
        for side, steps in running.items():
            while side not in ended and side not in failures:
                try:
                    event = next(steps)
                except StopIteration as end:
                    ended[side] = end.value
                    break
                except _BREAKING as error:
                    failures[side] = error
                    break
                yield SideEvent(side=side, event=event, metrics=event.metrics, at=event.at)
                if isinstance(event, TokenEvent):
                    tokens[side].append(event)
                    break
    if not ended:
        raise next(iter(failures.values()))
    replies = {side: reply for side, reply in ended.items() if reply is not None}
    if not replies and not failures:
        return None
    ids = {side: replies[side].result.ids if side in replies else tuple(token.id for token in tokens[side]) for side in SIDES}
    broken = len(replies) < len(running) or any(reply.result.stop_reason == "stopped" for reply in replies.values())
    compared, first = first_difference(ids["A"], ids["B"], broken)
    same = compared if first is None else first
    pairs = zip(tokens["A"][:same], tokens["B"][:same], strict=False)
    largest = max((abs(one.logprob - other.logprob) for one, other in pairs), default=None)
    return PairReply(
        a=replies.get("A"), b=replies.get("B"), compared=compared, first_difference=first, logprob_difference=largest, failures=failures
    )  # fmt: skip


def first_difference(a: Sequence[int], b: Sequence[int], broken: bool = False) -> tuple[int, int | None]:
    """(how many tokens were compared, index of the first that differs or None). A reply that ended differs from one that goes
    on, unless one was `broken` off, by a person or by an error."""
    both = min(len(a), len(b))
    found = next((i for i in range(both) if a[i] != b[i]), None)
    if found is None and len(a) != len(b) and not broken:
        found = both
    return (both if found is None else max(len(a), len(b))), found
