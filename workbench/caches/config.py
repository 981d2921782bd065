"""The cache a person picks for chat and scoring."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.caches.base import KV_CODECS, LayerCache
from workbench.core.fields import Problem, choice, coerce_choices, field_problems, setting
from workbench.core.registry import Choice


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Whether keys and values are kept between tokens, how, and for how many tokens."""

    use_cache: bool = setting(
        True,
        label="KV cache",
        key="use_cache",
        group="Cache",
        help="Keeps the keys and values of earlier tokens; off, everything is computed again for each new token.",
        source="arXiv:1911.02150",
    )
    codec: Choice[LayerCache] = choice(
        KV_CODECS, "exact", label="Storage", group="Cache", key="cache_implementation", help="How keys and values are stored."
    )
    capacity: int | None = setting(
        None,
        label="Context length",
        key="max_cache_len",
        group="Cache",
        unit="tokens",
        minimum=16,
        maximum=1_048_576,
        none_label="the model's",
        help="Tokens the conversation may hold; memory for them is reserved at the start.",
    )

    def __post_init__(self) -> None:
        coerce_choices(self)

    def problems(self) -> list[Problem]:
        return field_problems(self)
