"""Text from a model, one token at a time.

`generate` is a generator: it yields `Progress` while the prompt is read and a `TokenEvent` for each new token, and returns
a `GenerationResult`. It keeps nothing: the cache belongs to the caller, the random numbers to the reply.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, nullcontext

import psutil
import torch
from torch import Tensor

from workbench.caches import KVCache
from workbench.core.control import Control
from workbench.core.errors import ConfigError, DataError
from workbench.core.events import Progress
from workbench.core.fields import require_usable
from workbench.generation.config import GenerationConfig
from workbench.generation.events import GenerationResult, StopReason, TokenEvent
from workbench.generation.sampling import Sampler
from workbench.generation.stopping import StopStrings
from workbench.model import Transformer
from workbench.tokenizers import StreamDecoder, Tokenizer

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
) -> Generator[Progress | TokenEvent, None, GenerationResult]:
    """Continue `prompt_ids` until a stop id, a stop string, `max_new_tokens`, the end of the context, or a stop.

    With a `cache` the prompt is read in pieces of `chunk` tokens, then one token at a time; its first `reuse` tokens are
    taken from the cache, which must hold them, and whatever else it held is dropped. Without one, everything is computed
    again for each token. `prefill_dtype` is the precision of matrix products over long prompts; single tokens are always
    computed in the model's own. `stop_ids` default to the tokenizer's end-of-text ids; () never stops at an id.

    Raises `ConfigError` for unusable settings, `DataError` when the prompt is empty or longer than the context. Closing the
    generator leaves the cache holding exactly its first `cache.length` tokens of prompt and reply.
    """
    require_usable(config)
    control = control or Control()
    feed = _Feed(model, list(prompt_ids), cache, reuse, chunk, prefill_dtype)
    sampler = Sampler(config, prompt_ids)
    writer = _Writer(tokenizer, config.stop)
    meter = _Meter(feed)
    ends = frozenset(stop_ids if stop_ids is not None else tokenizer.eos_ids if tokenizer is not None else ())
    reason: StopReason = "stopped"

    yield meter.progress()
    while not _told_to_stop(control, meter):
        logits = feed.run()
        if logits is None:
            yield meter.progress()
            continue
        token, logprob = sampler(logits)
        feed.ids.append(token)
        ending = "eos" if token in ends else feed.reason_to_end(config.max_new_tokens)
        text = writer.push(token) if token not in ends else ""
        if writer.stopped and ending != "eos":
            ending = "stop"
        if ending is not None:
            text += writer.finish()
            reason = ending
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
    """Gives the model the text so far, piece by piece, and returns the logits after its last token."""

    def __init__(
        self, model: Transformer, prompt: list[int], cache: KVCache | None, reuse: int, chunk: int, prefill_dtype: torch.dtype | None
    ) -> None:
        self.model = model
        self.cache = cache
        self.ids = prompt
        self.prompt_tokens = len(prompt)
        require_causal(model)
        self.limit = context_limit(model, cache)
        if chunk < 1:
            raise ConfigError(f"A prompt cannot be read in pieces of {chunk} tokens.", hint="Use at least 1.")
        require_room(len(prompt), self.limit)  # before the cache is touched: a refused prompt costs nothing
        self.reused = self._take_over(reuse)
        self._chunk = chunk
        self._prefill_dtype = prefill_dtype

    def _take_over(self, reuse: int) -> int:
        if self.cache is None:
            return 0
        if self.cache.batch != 1:
            raise ConfigError(f"The cache is made for {self.cache.batch} sequences; a reply is one.", hint="Make one with batch=1.")
        if not 0 <= reuse <= self.cache.length:
            raise ConfigError(f"{reuse} tokens were to be re-used; the cache holds {self.cache.length}.", hint="Re-use only what it holds.")
        self.cache.truncate(max(0, min(reuse, self.prompt_tokens - 1)))
        return self.cache.length

    @torch.inference_mode()
    def run(self) -> Tensor | None:
        """Compute one more piece. The logits [V] of the last token of the text, or None when more pieces follow."""
        start = self.cache.length if self.cache is not None else 0
        end = min(len(self.ids), start + self._chunk) if self.cache is not None else len(self.ids)
        piece = torch.tensor([self.ids[start:end]], device=self.model.device)
        with self._precision(end - start):
            hidden = self.model.hidden(piece, cache=self.cache)
        if end < len(self.ids):
            return None
        logits: Tensor = self.model.head(hidden[:, -1:].to(self.model.dtype))[0, 0]
        return logits

    def _precision(self, tokens: int) -> AbstractContextManager[object]:
        if self._prefill_dtype is None or tokens < LOW_PRECISION_ROWS or self._prefill_dtype == self.model.dtype:
            return nullcontext()
        # Each weight is used once a pass, so keeping its converted copy would only cost memory.
        return torch.autocast(self.model.device.type, dtype=self._prefill_dtype, cache_enabled=False)

    def reason_to_end(self, max_new_tokens: int) -> StopReason | None:
        """Whether the text so far may not be continued: the newest token was the last allowed, or has no place."""
        if len(self.ids) - self.prompt_tokens >= max_new_tokens:
            return "length"
        return "context" if len(self.ids) > self.limit else None


def context_limit(model: Transformer, cache: KVCache | None) -> int:
    """Tokens that can be given to the model in one text."""
    positions = int(model.config.max_positions)
    return positions if cache is None else min(positions, cache.capacity)


def require_causal(model: Transformer) -> None:
    """Raise `ConfigError` for a bidirectional model, which has no next token."""
    if not model.config.causal:
        raise ConfigError(
            "This model reads text in both directions: it fills gaps, but it can neither continue nor score a text.",
            hint="Choose a causal model, or train this one on masked tokens.",
        )


def require_room(tokens: int, limit: int) -> None:
    """Raise `DataError` when a prompt of `tokens` tokens is empty or does not fit."""
    if tokens == 0:
        raise DataError("The prompt is empty.", hint="Write something first.")
    if tokens > limit:
        raise DataError(f"The prompt is {tokens} tokens long; the context holds {limit}.", hint="Start a new chat, or shorten the text.")


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
        feed = self._feed
        done = feed.cache.length - feed.reused if feed.cache is not None else 0
        return Progress(message="Reading the prompt", done=done, total=feed.prompt_tokens - feed.reused, unit="tokens")

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
        )
