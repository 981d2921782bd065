"""Settings that act on the next message without touching the weights, shared by every panel that shows them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

if TYPE_CHECKING:
    from workbench.caches.config import CacheConfig


class RuntimeOptions(QObject):
    """The KV cache that the next message uses. Panels read `cache`, write with `set_cache`, and follow `changed`.

    The config's type lives in the engine, so `cache` is asked for once the engine is there (`bus.engine_ready`).
    """

    changed = Signal(object)
    """CacheConfig: a new one, from whichever panel."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._cache: CacheConfig | None = None

    @property
    def cache(self) -> CacheConfig:
        """What the next message uses."""
        if self._cache is None:
            from workbench.caches.config import CacheConfig

            self._cache = CacheConfig()
        return self._cache

    def set_cache(self, config: CacheConfig) -> None:
        """Use another cache from the next message on; says so once, and only if it differs."""
        if config != self.cache:
            self._cache = config
            self.changed.emit(config)

    def set_use_cache(self, on: bool) -> None:
        """Turn the cache on or off and keep its other settings."""
        self.set_cache(replace(self.cache, use_cache=on))
