"""Text from a model, one token at a time.

`generate` is a generator: it yields `Progress` while the prompt is read and a `TokenEvent` for each new token, and returns
a `GenerationResult`. It keeps nothing: the cache belongs to the caller, the random numbers to the reply.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext

import psutil
import torch
from torch import Tensor

from workbench.caches import CacheConfig, KVCache
from workbench.core.control import Control
from workbench.core.errors import ConfigError
from workbench.core.events import Notice, Progress
from workbench.core.fields import require_usable
from workbench.generation.config import GenerationConfig
from workbench.generation.events import GenerationResult, StopReason, TokenEvent
from workbench.generation.room import UNCACHED, CacheState, Room, require_causal, require_room
from workbench.generation.sampling import Sampler
from workbench.generation.stopping import StopStrings
from workbench.model import Transformer
from workbench.tokenizers import StreamDecoder, Tokenizer

Shorten = Callable[[int], list[int] | None]
"""How many tokens of reply there are -> a shorter prompt with room for them and more, or None."""

COMPILES = "Attention over this kind of cache is being compiled for this machine: some seconds, and only this once."
READ_AGAIN = "This model's positions cannot be moved: each time the context is full, the tokens that stay are read again."
LOW_PRECISION_ROWS = 32
"""Prompts shorter than this gain nothing from matrix units that work in `prefill_dtype`."""
_RECENT = 16
"""Tokens over which the speed of generation is averaged while it runs."""


def generate(
    model: Transformer,
    tokenizer: Tokenizer | None,
    prompt_ids: Sequence[int],
    config: GenerationConfig,
    *,
    cache: KVCache | None = None,
    control: Control | None = None,
    stop_ids: Sequence[int] | None = None,
    prefill_dtype: torch.dtype | None = None,
    reuse: int = 0,
    chunk: int = 512,
    limits: CacheConfig = UNCACHED,
    state: CacheState | None = None,
    shorten: Shorten | None = None,
) -> Generator[Progress | Notice | TokenEvent, None, GenerationResult]:
    """Continue `prompt_ids` until a stop id, a stop string, `max_new_tokens`, the end of the context, or a stop.

    With a `cache` the prompt is read in pieces of `chunk` tokens, then one token at a time; its first `reuse` slots are kept,
    which must hold what they would after reading the prompt (see `CacheState.reusable`), and whatever else it held is dropped.
    Without one, everything is computed again for each token. `prefill_dtype` is the precision of matrix products over long
    prompts; single tokens are always computed in the model's own. `stop_ids` default to the tokenizer's end-of-text ids; ()
    never stops at an id.

    What happens when the context is full is the cache's to know, or `limits`' without one (see `Room`); the reply then goes on
    with fewer tokens. `shorten(tokens)` may offer a shorter prompt to go on with when `tokens` tokens of reply have no place.
    `state` is told what the cache stands for; the caller settles it at the end, however that comes.

    Raises `ConfigError` for unusable settings, `DataError` when the prompt is empty, or does not fit and nothing may be dropped.
    """
    require_usable(config)
    control = control or Control()
    room = Room(model, cache, limits)
    feed = _Feed(room, list(prompt_ids), cache, reuse, chunk, prefill_dtype, state or CacheState(), shorten)
    sampler = Sampler(config, prompt_ids)
    writer = _Writer(tokenizer, config.stop)
    meter = _Meter(feed)
    ends = frozenset(stop_ids if stop_ids is not None else tokenizer.eos_ids if tokenizer is not None else ())
    reason: StopReason = "stopped"

    yield meter.progress()
    while not _told_to_stop(control, meter):
        logits = feed.run()
        yield from feed.news()
        if logits is None:
            yield meter.progress()
            continue
        token, logprob = sampler(logits)
        feed.append(token)
        ending = "eos" if token in ends else feed.reason_to_end(config.max_new_tokens)
        text = writer.push(token) if token not in ends else ""
        if writer.stopped and ending != "eos":
            ending = "stop"
        if ending is not None:
            reason, text = ending, text + writer.finish()
        yield meter.token(token, text, logprob)
        if ending is not None:
            break
    writer.finish()
    return meter.result(writer.text, reason, sampler.seed)


def _told_to_stop(control: Control, meter: _Meter) -> bool:
    """Wait while paused, which is no one's computing time, and look whether to stop."""
    control.wait_while_paused()
    meter.resume()
    return control.stopping


class _Feed:
    """Gives the model the text so far, piece by piece, and returns the logits after its last token.

    `ids` are prompt and reply; `line` is what the model is given of them: the same, or what is left of it where something was
    left out and the rest is read again.
    """

    def __init__(
        self,
        room: Room,
        prompt: list[int],
        cache: KVCache | None,
        reuse: int,
        chunk: int,
        prefill_dtype: torch.dtype | None,
        state: CacheState,
        shorten: Shorten | None,
    ) -> None:
        self.model = room.model
        self.room = room
        self.cache = cache
        self.ids = prompt
        self.prompt_tokens = len(prompt)
        require_causal(self.model)
        if chunk < 1:
            raise ConfigError(f"A prompt cannot be read in pieces of {chunk} tokens.", hint="Use at least 1.")
        require_room(len(prompt), room)  # before the cache is touched: a refused prompt costs nothing
        self.line = prompt if room.moves or not room.rolls else room.rest(prompt)
        self.reused = self._take_over(reuse)
        self._state, self._shorten = state, shorten
        self._state.ids = self.line
        self._news = [Notice(message=READ_AGAIN)] if cache is not None and len(self.line) < len(prompt) else []
        self._compiles = False
        self._begin = self.done
        self._goal = len(self.line)
        self._chunk = chunk
        self._prefill_dtype = prefill_dtype

    def _take_over(self, reuse: int) -> int:
        if self.cache is None:
            return 0
        if self.cache.batch != 1:
            raise ConfigError(f"The cache is made for {self.cache.batch} sequences; a reply is one.", hint="Make one with batch=1.")
        if not 0 <= reuse <= self.cache.length:
            raise ConfigError(f"{reuse} tokens were to be re-used; the cache holds {self.cache.length}.", hint="Re-use only what it holds.")
        gone = self.cache.offset
        usable = not gone or (self.room.moves and reuse > self.room.first)
        self.cache.truncate(max(0, min(reuse, len(self.line) - gone - 1)) if usable else 0)
        return self.cache.length

    # ---- how far it is -----------------------------------------------------------------------------------------------

    @property
    def done(self) -> int:
        """How much of `line` the model has read, dropped tokens included."""
        return self.cache.length + self.cache.offset if self.cache is not None else 0

    @property
    def dropped(self) -> int:
        """How many tokens of the text so far were dropped and are not replaced by a shorter prompt."""
        return (len(self.ids) - len(self.line) if self.room.rolls else 0) + (self.cache.offset if self.cache is not None else 0)

    @property
    def reading(self) -> tuple[int, int]:
        """(tokens read, of how many) of what is being read before the next token."""
        return max(0, min(self.done, self._goal) - self._begin), self._goal - self._begin

    def news(self) -> list[Notice]:
        """What a person should know, each once."""
        if not self._compiles and self.cache is not None and self.cache.compiles:
            self._compiles = True
            self._news.append(Notice(message=COMPILES))
        said, self._news = self._news, []
        return said

    # ---- one step ----------------------------------------------------------------------------------------------------

    def append(self, token: int) -> None:
        """The text goes on with `token`."""
        self.ids.append(token)
        if self.line is not self.ids:
            self.line.append(token)

    @torch.inference_mode()
    def run(self) -> Tensor | None:
        """Compute one more piece. The logits [V] of the last token of the text, or None when more pieces follow."""
        self._make_room()
        start, end = self.done, len(self.line)
        if self.cache is not None:
            end = min(end, start + self._chunk, start + self.room.limit - self.cache.length)
        piece = torch.tensor([self.line[start:end]], device=self.model.device)
        with self._precision(end - start):
            hidden = self.model.hidden(piece, cache=self.cache)
        if end < len(self.line):
            return None
        logits: Tensor = self.model.head(hidden[:, -1:].to(self.model.dtype))[0, 0]
        return logits

    def _precision(self, tokens: int) -> AbstractContextManager[object]:
        if self._prefill_dtype is None or tokens < LOW_PRECISION_ROWS or self._prefill_dtype == self.model.dtype:
            return nullcontext()
        # Each weight is used once a pass, so keeping its converted copy would only cost memory.
        return torch.autocast(self.model.device.type, dtype=self._prefill_dtype, cache_enabled=False)

    # ---- when it is full ---------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        if self.room.moves and self.cache is not None:
            if self.cache.length == self.room.limit:
                self.room.drop(self.cache)
        elif self.room.rolls and len(self.line) > self.room.limit:
            if self.cache is not None and self.dropped == 0:
                self._news.append(Notice(message=READ_AGAIN))
            self._go_on_with(self.room.rest(self.ids))

    def _go_on_with(self, line: list[int]) -> None:
        """Another text in place of `line`; what both begin with stays in the cache."""
        if self.cache is not None:
            same = next((i for i, (a, b) in enumerate(zip(self.line, line, strict=False)) if a != b), min(len(line), len(self.line)))
            self.cache.truncate(min(same, len(line) - 1, self.cache.length))
        self.line = self._state.ids = line
        self._begin, self._goal = self.done, len(line)

    def reason_to_end(self, max_new_tokens: int) -> StopReason | None:
        """Whether the text so far may not be continued: the newest token was the last allowed, or has no place."""
        written = len(self.ids) - self.prompt_tokens
        if written >= max_new_tokens:
            return "length"
        if len(self.line) <= self.room.limit or self.room.rolls:
            return None
        shorter = self._shorten(written) if self._shorten is not None else None
        if shorter is None:
            return "context"
        self._news.append(Notice(message="The context is full: more of the oldest messages are left out, and the rest is read again."))
        self._go_on_with([*shorter, *self.ids[self.prompt_tokens :]])
        return None


class _Writer:
    """New tokens to text: whole characters only, without stop strings."""

    def __init__(self, tokenizer: Tokenizer | None, stops: Sequence[str]) -> None:
        if tokenizer is None and stops:
            raise ConfigError("Stop strings need a tokenizer, and this model has none.", hint="Remove the stop strings.")
        self._decoder = StreamDecoder(tokenizer) if tokenizer is not None else None
        self._stops = StopStrings(stops)
        self.text = ""

    @property
    def stopped(self) -> bool:
        return self._stops.found is not None

    def push(self, token: int) -> str:
        return self._show(self._stops.push(self._decoder.push(token) if self._decoder is not None else ""))

    def finish(self) -> str:
        """What was held back, now that nothing follows."""
        rest = self._decoder.flush() if self._decoder is not None else ""
        return self._show(self._stops.push(rest) + self._stops.flush())

    def _show(self, text: str) -> str:
        self.text += text
        return text


class _Meter:
    """Times the work, not the consumer, and measures memory."""

    def __init__(self, feed: _Feed) -> None:
        self._feed = feed
        self._process = psutil.Process()
        self._since = time.perf_counter()
        self._busy = 0.0
        self._first_ms: float | None = None
        self._rest_ms = 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._peak = 0

    def resume(self) -> None:
        """Start counting; called whenever the generator goes on."""
        self._since = time.perf_counter()

    def _pause(self) -> None:
        self._busy += time.perf_counter() - self._since
        device = self._feed.model.device
        size = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else self._process.memory_info().rss
        self._peak = max(self._peak, int(size))

    def progress(self) -> Progress:
        self._pause()
        done, total = self._feed.reading
        message = "Reading the prompt" if self._first_ms is None else "Reading again what is kept"
        return Progress(message=message, done=done, total=total, unit="tokens")

    def token(self, token: int, text: str, logprob: float) -> TokenEvent:
        self._pause()
        ms, self._busy = self._busy * 1000, 0.0
        if self._first_ms is None:
            self._first_ms = ms
        else:
            self._rest_ms += ms
            self._recent.append(ms)
        cache = self._feed.cache
        used, reserved = (cache.nbytes, cache.allocated_nbytes) if cache is not None else (0, 0)
        metrics: dict[str, float] = {"cache_bytes": used, "cache_allocated_bytes": reserved}
        if self._recent:
            metrics["generate_tokens_per_second"] = len(self._recent) * 1000 / sum(self._recent)
        index = len(self._feed.ids) - self._feed.prompt_tokens - 1
        return TokenEvent(id=token, text=text, logprob=logprob, ms=ms, cache_bytes=used, index=index, metrics=metrics)

    def result(self, text: str, reason: StopReason, seed: int) -> GenerationResult:
        feed = self._feed
        new = feed.ids[feed.prompt_tokens :]
        if len(new) > 1:
            speed = (len(new) - 1) * 1000 / self._rest_ms
        else:
            speed = 1000 / self._first_ms if self._first_ms else 0.0
        return GenerationResult(
            text=text,
            ids=tuple(new),
            stop_reason=reason,
            prompt_tokens=feed.prompt_tokens,
            reused_tokens=feed.reused,
            new_tokens=len(new),
            first_token_ms=self._first_ms,
            tokens_per_second=speed,
            cache_bytes=feed.cache.nbytes if feed.cache is not None else 0,
            peak_memory_bytes=self._peak,
            seed=seed,
            dropped_tokens=feed.dropped,
        )
