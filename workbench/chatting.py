"""What a session's chat works with: the cache between messages, and adapters chosen for one thread."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

import psutil

from workbench import adapters
from workbench.caches import CacheConfig, KVCache, cache_nbytes
from workbench.core.errors import BusyError, ModelError
from workbench.core.events import Event
from workbench.core.format import bytes_text
from workbench.generation import CacheState
from workbench.model import Transformer

T = TypeVar("T")
PROBED = 4096
"""Tokens over which the bytes per token are averaged: a window that stays exact counts little among them."""


def new_cache(model: Transformer, config: CacheConfig) -> KVCache | None:
    """An empty cache as `config` asks, no longer than the model's context; None when it is off.

    Without a length of its own it takes at most half of the free memory, whatever context the file claims. Raises
    `ModelError` when a length that was asked for does not fit into memory.
    """
    if not config.use_cache:
        return None
    sizes = model.config
    per_token = max(1, cache_nbytes(config, sizes, PROBED, dtype=model.dtype) // PROBED)
    affordable = max(256, psutil.virtual_memory().available // 2 // per_token)
    capacity = min(config.capacity or affordable, sizes.max_positions)
    try:
        return KVCache.from_config(model, config, capacity=capacity)
    except RuntimeError as error:
        raise ModelError(
            f"A cache for {capacity} tokens ({bytes_text(capacity * per_token)}) does not fit into memory.",
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
    """The chat's keys and values between messages, rebuilt when a setting of the cache changes."""

    def __init__(self) -> None:
        self.state = CacheState()
        self._cache: KVCache | None = None
        self._config: CacheConfig | None = None
        self._busy = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[ChatCache]:
        if not self._busy.acquire(blocking=False):
            raise BusyError("A reply is being written.", hint="Stop it, or wait until it is done.")
        try:
            yield self
        finally:
            self._busy.release()

    def fitting(self, model: Transformer, config: CacheConfig) -> KVCache | None:
        """The cache that `config` asks for, with what it already holds if it is the same kind; None when it is off."""
        if not config.use_cache:
            self._cache = self._config = None
            return None
        if self._cache is None or config != self._config:
            self._cache = new_cache(model, config)
            self._config, self.state = config, CacheState()
        return self._cache
