"""The KV cache: keys and values of the tokens seen so far, owned by whoever runs the job."""

from workbench.caches import exact as _exact  # noqa: F401  (registers the kind)
from workbench.caches import int4 as _int4  # noqa: F401
from workbench.caches import int8 as _int8  # noqa: F401
from workbench.caches import kivi as _kivi  # noqa: F401
from workbench.caches import turboquant as _turboquant  # noqa: F401
from workbench.caches.base import KV_CODECS, Codec, CodecShape, LayerCache, LayerShape, Plane, SlotMap
from workbench.caches.cache import KVCache
from workbench.caches.config import OVERFLOW, ROLLING, SINKS, STOP, TRUNCATE, CacheConfig
from workbench.caches.plan import cache_nbytes, layer_plans
from workbench.caches.presets import CACHE_PRESETS, CachePreset

__all__ = [
    "CACHE_PRESETS", "KV_CODECS", "OVERFLOW", "ROLLING", "SINKS", "STOP", "TRUNCATE", "CacheConfig", "CachePreset", "Codec", "CodecShape",
    "KVCache", "LayerCache", "LayerShape", "Plane", "SlotMap", "cache_nbytes", "layer_plans",
]  # fmt: skip
