"""The cache a person picks for chat and scoring."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.caches.base import KV_CODECS, Codec
from workbench.caches.layout import BLOCK, drop_block
from workbench.caches.overrides import override_problems
from workbench.core.fields import Option, Problem, choice, coerce_choices, field_problems, pick, setting
from workbench.core.registry import Choice

STOP, ROLLING, SINKS, TRUNCATE = "stop", "rolling", "sinks", "truncate"

OVERFLOW = (
    Option(STOP, "Stop", "The reply ends where the context ends, and says so.", used_by="most engines"),
    Option(
        ROLLING, "Roll", "The oldest tokens are dropped, the first ones too; models without a learned sink lose the thread then.",
        source="arXiv:2004.05150",
    ),
    Option(
        SINKS, "Keep the first tokens", "The first tokens stay, older ones after them are dropped, and positions are numbered anew.",
        source="arXiv:2309.17453", used_by="StreamingLLM",
    ),
    Option(TRUNCATE, "Shorten the chat", "The oldest messages are left out and the rest is read again; the reply says how many."),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Whether keys and values are kept between tokens, in how many bits, for how many tokens, and what happens then."""

    use_cache: bool = setting(
        True,
        label="KV cache",
        key="use_cache",
        group="Cache",
        help="Keeps the keys and values of earlier tokens; off, everything is computed again for each new token.",
        source="arXiv:1911.02150",
    )
    codec: Choice[Codec] = choice(
        KV_CODECS, "exact", label="Keys", group="Cache", key="cache_implementation", help="How the keys of older tokens are stored."
    )
    value_codec: Choice[Codec] = choice(
        KV_CODECS, "exact", label="Values", group="Cache", help="How the values of older tokens are stored; they need fewer bits than keys."
    )
    window: int = setting(
        0,
        label="Recent tokens kept exact",
        key="residual_length",
        group="Kept exact",
        unit="tokens",
        minimum=0,
        maximum=65_536,
        help="The newest tokens stay in full precision; up to a block of 16 more wait to be encoded together.",
        source="arXiv:2402.02750",
    )
    sinks: int = setting(
        0,
        label="First tokens kept exact",
        group="Kept exact",
        unit="tokens",
        minimum=0,
        maximum=1024,
        help="The first tokens, which many heads look at whatever the text, stay in full precision.",
        source="arXiv:2309.17453",
    )
    edge_layers: int = setting(
        0,
        label="Edge layers",
        group="Kept exact",
        unit="layers",
        minimum=0,
        maximum=128,
        help="So many layers at either end use the storage below instead: they are the most sensitive ones.",
    )
    edge_codec: Choice[Codec] = choice(
        KV_CODECS, "int8", label="Edge storage", group="Kept exact", help="How keys and values of the edge layers are stored."
    )
    layer_overrides: tuple[str, ...] = setting(
        (),
        label="Single layers",
        group="Kept exact",
        advanced=True,
        verbatim=True,
        help="Storage of single layers, such as 0-3=int8 or -1/keys=turboquant:bits=6; a later rule wins.",
    )
    capacity: int | None = setting(
        None,
        label="Context length",
        key="max_cache_len",
        group="Context",
        unit="tokens",
        minimum=16,
        maximum=1_048_576,
        none_label="the model's",
        help="Tokens the conversation may hold; memory for them is reserved at the start.",
    )
    overflow: str = pick(OVERFLOW, STOP, label="When it is full", group="Context", help="What happens when the context is full.")
    track_error: bool = setting(
        False,
        label="Measure the error of each token",
        group="Context",
        advanced=True,
        help="Keeps how far each encoded token is from what it was: four bytes for each token and layer, counted.",
    )

    def __post_init__(self) -> None:
        coerce_choices(self)

    def problems(self) -> list[Problem]:
        found = field_problems(self)
        if not found:
            found += override_problems(self.layer_overrides)
        if not found and self.overflow == SINKS and self.sinks == 0:
            found.append(Problem("sinks", "Keeping the first tokens needs at least one.", "Use 4."))
        if not found and self.capacity is not None and self.capacity < self.least_capacity(self.capacity):
            kept, least = self.sinks + self.window, self.least_capacity(self.capacity)
            text = f"A context of {self.capacity} tokens is too short for the {kept} that stay exact and a block of others."
            found.append(Problem("capacity", text, f"Use {least} or more, or keep fewer tokens exact."))
        return found

    def least_capacity(self, capacity: int, group: int = 1) -> int:
        """How long a context of about `capacity` tokens must be for what stays exact and one block that is encoded or dropped."""
        block = BLOCK if self.window else 1
        if self.overflow in (ROLLING, SINKS):
            block = max(block, drop_block(capacity, group) + 1)
        return self.sinks + self.window + block
