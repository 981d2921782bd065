"""What a session's chat works with: the cache between messages, and adapters chosen for one thread."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TypeVar

from workbench import adapters
from workbench.appraisal import free_memory
from workbench.caches import SINKS, CacheConfig, KVCache, cache_nbytes
from workbench.core.control import Control
from workbench.core.errors import BusyError, ModelError
from workbench.core.events import Event, Notice, Progress
from workbench.core.format import bytes_text
from workbench.generation import CacheState, Room
from workbench.model import Transformer
from workbench.requests import CacheChange, CacheReport

T = TypeVar("T")
PROBED = 4096
"""Tokens over which the bytes per token are averaged: a window that stays exact counts little among them."""


def new_cache(model: Transformer, config: CacheConfig) -> KVCache | None:
    """An empty cache as `config` asks, no longer than the model's context; None when it is off.

    Without a length of its own it takes at most half of the free memory, whatever context the file claims. Raises
    `ModelError` when a length that was asked for does not fit into memory.
    """
    return _built(model, config, planned_capacity(model, config)) if config.use_cache else None


def planned_capacity(model: Transformer, config: CacheConfig, released: int = 0) -> int:
    """Tokens that `new_cache` would make room for; nothing is allocated. `released`: bytes that become free before. Raises
    `ModelError` when the length that was asked for does not fit into memory."""
    sizes, free = model.config, free_memory(model.device) + released
    per_token = max(1, cache_nbytes(config, sizes, PROBED, dtype=model.dtype) // PROBED)
    if config.capacity is None:
        return min(max(256, int(free / 2) // per_token), sizes.max_positions)
    capacity = min(config.capacity, sizes.max_positions)
    needed = cache_nbytes(config, sizes, capacity, dtype=model.dtype)
    if needed > free:
        raise ModelError(
            f"A cache for {capacity:,} tokens takes {bytes_text(needed)}; {bytes_text(int(free))} are free.",
            hint=f"Choose a context of {int(free / 2) // per_token:,} tokens or fewer, or store keys and values in fewer bits.",
        )
    return capacity


def _built(model: Transformer, config: CacheConfig, capacity: int) -> KVCache:
    try:
        return KVCache.from_config(model, config, capacity=capacity)
    except RuntimeError as error:
        needed = cache_nbytes(config, model.config, capacity, dtype=model.dtype)
        raise ModelError(
            f"A cache for {capacity:,} tokens ({bytes_text(needed)}) does not fit into memory.",
            hint="Choose a shorter context length.", details=str(error),
        ) from error  # fmt: skip


def with_adapters(model: Transformer, chosen: dict[str, float], steps: Generator[Event, None, T]) -> Generator[Event, None, T]:
    """Run `steps` with exactly these adapters, chosen anew for each step because a generator may be resumed anywhere."""
    with closing(steps):
        while True:
            try:
                with adapters.selected(model, chosen):
                    event = next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            yield event


class ChatCache:
    """The chat's keys and values between messages, and what becomes of them when a setting of the cache changes."""

    def __init__(self) -> None:
        self.state = CacheState()
        self._cache: KVCache | None = None
        self._config: CacheConfig | None = None
        self._change: CacheChange | None = None
        self._seen: CacheReport | None = None
        self._look_wanted = False
        self._busy = threading.Lock()
        self._step = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[ChatCache]:
        if not self._busy.acquire(blocking=False):
            raise BusyError("A reply is being written.", hint="Stop it, or wait until it is done.")
        try:
            yield self
        finally:
            self._busy.release()

    def fitting(self, model: Transformer, config: CacheConfig) -> KVCache | None:
        """The cache that `config` asks for, with what can be kept of what it held; None when it is off. See `changing`."""
        with closing(self.changing(model, config)) as steps:
            for _ in steps:
                pass
        return self._cache

    @property
    def cache(self) -> KVCache | None:
        return self._cache

    def change(self) -> CacheChange | None:
        """What became of the tokens held when the settings last changed; said once, None when there is nothing to say."""
        change, self._change = self._change, None
        return change

    def empty(self) -> None:
        """Forget the conversation, because something that its keys and values depend on has changed."""
        with self._step:
            self.state = CacheState()
            if self._cache is not None:
                self._cache.truncate(0)

    def stepping(self, steps: Generator[Event, None, T]) -> Generator[Event, None, T]:
        """Run the `steps` of a reply; between them others may look at the cache."""
        with closing(steps):
            while True:
                try:
                    with self._step:
                        event = next(steps)
                        if self._look_wanted:
                            self._look()
                except StopIteration as end:
                    result: T = end.value
                    return result
                yield event

    def report(self) -> CacheReport | None:
        """What is held now. Never waits: while a reply is being written it is what was held at the last look, and the end of the
        step that is under way looks again. None: nothing was cached."""
        if self._step.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._step.release()
        else:
            self._look_wanted = True
        return self._seen

    def _look(self) -> None:
        self._look_wanted = False
        self._seen = None if self._cache is None or self._config is None else _measured(self._cache, self._config)

    # ---- other settings ----------------------------------------------------------------------------------------------

    def changing(
        self, model: Transformer, config: CacheConfig, control: Control | None = None
    ) -> Generator[Event, None, CacheChange | None]:
        """Go over to `config`. What is held stays as it lies if only the length changes or what happens when it is full; it is
        encoded anew if it is exact; else it is forgotten, and the next prompt is read again. None when `control` stopped it: then
        nothing has changed. Raises `ModelError`, `ConfigError`; nothing has changed then either."""
        old = self._cache
        tokens, before = (0, 0) if old is None else (old.length, old.nbytes)
        if config == self._config:
            return CacheChange(how="kept", bytes_before=before, bytes_after=before, tokens=tokens)
        how = "recomputed" if tokens else "kept"
        if not config.use_cache:
            self._exchange(None, config)
        else:
            capacity = self._capacity(model, config)
            Room(model, None, replace(config, capacity=capacity))  # says what is wrong before anything is lost
            if self._stays(config, capacity):
                how = "kept"
                self._adjust(config, capacity)
            else:
                new = self._beside(model, config, capacity)
                if new is not None and old is not None:
                    with closing(self._encoding(new, old, control or Control())) as steps:
                        if not (yield from steps):
                            return None
                    how = "re-encoded"
                self._exchange(new, config)
                if new is None:
                    self._exchange(_built(model, config, capacity), config)
        after, kept = (0, 0) if self._cache is None else (self._cache.nbytes, self._cache.length)
        change = CacheChange(how=how, bytes_before=before, bytes_after=after, tokens=kept)
        if tokens:
            self._change = change
            reserved = 0 if self._cache is None else self._cache.allocated_nbytes
            yield Notice(message=_words(change, tokens), metrics={"cache_bytes": after, "cache_allocated_bytes": reserved})
        return change

    def _capacity(self, model: Transformer, config: CacheConfig) -> int:
        """The length of the new cache; one that nobody chose stays as it is."""
        old = self._cache
        if old is not None and self._config is not None and config.capacity is None is self._config.capacity:
            return old.capacity
        return planned_capacity(model, config, 0 if old is None else old.nbytes)

    def _stays(self, config: CacheConfig, capacity: int) -> bool:
        """Whether what is held may stay as it lies."""
        old, now = self._cache, self._config
        if old is None or now is None or replace(now, overflow=config.overflow, capacity=config.capacity) != config:
            return False
        same = (config.overflow, capacity) == (now.overflow, old.capacity)
        return capacity >= old.length and (not old.offset or same)

    def _adjust(self, config: CacheConfig, capacity: int) -> None:
        assert self._cache is not None
        with self._step:
            if capacity != self._cache.capacity:
                self._cache.resize(capacity)
            self._cache.config = self._config = config

    def _beside(self, model: Transformer, config: CacheConfig, capacity: int) -> KVCache | None:
        """A new cache beside the old one, if what is held can be encoded into it and there is memory for both."""
        old, now = self._cache, self._config
        if old is None or now is None or not old.length or capacity < old.length or not old.exact:
            return None
        same = now.overflow == config.overflow == SINKS and (config.sinks, capacity) == (now.sinks, old.capacity)
        if old.offset and not same:  # other settings would have dropped other tokens
            return None
        if cache_nbytes(config, model.config, old.length, dtype=model.dtype) > free_memory(model.device):
            return None
        return _built(model, config, capacity)

    def _encoding(self, new: KVCache, old: KVCache, control: Control) -> Generator[Event, None, bool]:
        for done in new.taking_over(old):
            if control.stopping:
                return False
            yield Progress(message="Storing the conversation anew", done=done, total=len(new.layers), unit="layers")
        return True

    def _exchange(self, new: KVCache | None, config: CacheConfig) -> None:
        with self._step:
            if new is None or not new.length:
                self.state = CacheState()
            self._cache, self._config = new, config


def _words(change: CacheChange, tokens: int) -> str:
    if change.how == "kept":
        return f"The {tokens:,} tokens of the conversation stay in the cache as they are."
    if change.how == "re-encoded":
        return f"The {tokens:,} tokens of the conversation were stored anew from their exact keys and values."
    return f"The {tokens:,} tokens that the cache held cannot be taken over; the conversation is read again."


def _measured(cache: KVCache, config: CacheConfig) -> CacheReport:
    shape = cache.layers[0].shape
    per_token = 2 * 2 * shape.heads * shape.width * len(cache.layers)  # keys and values, two bytes each
    return CacheReport(
        config=config, tokens=cache.length, dropped=cache.offset, capacity=cache.capacity,
        nbytes=cache.nbytes, allocated_nbytes=cache.allocated_nbytes, float16_nbytes=per_token * cache.length, layers=cache.slots(),
    )  # fmt: skip
