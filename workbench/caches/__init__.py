"""The KV cache: keys and values of the tokens seen so far, owned by whoever runs the job."""

from workbench.caches import exact as _exact  # noqa: F401  (registers the kind)
from workbench.caches.base import KV_CODECS, LayerCache
from workbench.caches.cache import KVCache
from workbench.caches.config import CacheConfig

__all__ = ["KV_CODECS", "CacheConfig", "KVCache", "LayerCache"]
