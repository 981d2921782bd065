"""What a model costs, from its config alone: nothing is allocated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from workbench.model.build import build_model
from workbench.model.config import ModelConfig
from workbench.model.differences import Difference, differences

_PART_OF = (
    ("norm", "Norms"),
    ("segment_embedding.", "Segment embedding"),
    ("embedding.", "Token embedding"),
    ("position.", "Position embedding"),
    (".attention.", "Attention"),
    (".mlp.", "MLP"),
    ("head_transform.", "Output head"),
    ("lm_head.", "Output head"),
)
"""The first key that a parameter's name contains decides its part."""

PARTS = ("Token embedding", "Position embedding", "Segment embedding", "Attention", "MLP", "Norms", "Output head", "Other")
"""The order of every table of parts: as a token passes them."""

Unit = Literal["parameters", "bytes", "FLOPs"]


@dataclass(frozen=True)
class Accounting:
    """Parameters (a tied matrix counts once), by part in the order of `PARTS` and by tensor; bytes and FLOPs follow from them."""

    config: ModelConfig
    parameters: int
    by_part: dict[str, int]
    by_tensor: dict[str, int]
    tied_saving: int
    """Parameters that tying saves (or would save, when the embeddings are not tied)."""

    def parameter_bytes(self, bytes_per_value: float = 4) -> int:
        return round(self.parameters * bytes_per_value)

    def kv_bytes_per_token(self, bytes_per_value: float = 4) -> int:
        """Keys and values of one token in all layers: 2 · L · G · D · bytes. A bidirectional model has no cache: 0."""
        return self.kv_bytes(1, bytes_per_value)

    def kv_bytes(self, tokens: int, bytes_per_value: float = 4) -> int:
        """The cache of a text of `tokens`, as `KVCache` holds it: every token in every layer, because a sliding window narrows
        what is attended to, not what is kept."""
        c = self.config
        return round(2 * c.n_layers * c.kv_heads * c.head_width * tokens * bytes_per_value) if c.causal else 0

    def flops_per_token(self, context: int = 0) -> int:
        """Forward FLOPs of one new token: 2 per weight of every matrix it passes (the head included, the embedding
        look-up not), plus 4 · H · D per layer and attended token (of a sliding window at most its width)."""
        c = self.config
        matrices = sum(n for name, n in self.by_tensor.items() if name.endswith(("_proj.weight", ".dense.weight")))
        head = c.vocab_size * c.d_model
        windows = (c.window_of(layer) for layer in range(c.n_layers))
        seen = sum(context if window is None else min(context, window) for window in windows)
        return 2 * (matrices + head) + 4 * c.n_heads * c.head_width * seen


def account(config: ModelConfig) -> Accounting:
    """Exact counts, read off a model on the meta device. Raises `ConfigError` when it cannot be built."""
    # All blocks hold the same tensors, so one is built and multiplied: a 40-layer model prices as fast as a small one.
    single = build_model(replace(config, n_layers=1), device="meta", init=False)
    by_tensor: dict[str, int] = {}
    for name, parameter in single.named_parameters():
        if not name.startswith("blocks."):
            by_tensor[name] = parameter.numel()
            continue
        for layer in range(config.n_layers):
            by_tensor[name.replace("blocks.0.", f"blocks.{layer}.", 1)] = parameter.numel()
    found: dict[str, int] = {}
    for name, count in by_tensor.items():
        part = _part(name)
        found[part] = found.get(part, 0) + count
    by_part = {part: found[part] for part in PARTS if part in found}
    return Accounting(config, sum(by_tensor.values()), by_part, by_tensor, config.vocab_size * config.d_model)


def _part(name: str) -> str:
    return next((part for key, part in _PART_OF if key in name), "Other")


# ---- two architectures side by side --------------------------------------------------------------------------------


class Row(NamedTuple):
    """One figure of two architectures; `is_part` says that it is the parameters of a part rather than a figure of the whole."""

    label: str
    a: int
    b: int
    unit: Unit
    is_part: bool = False

    @property
    def difference(self) -> int:
        return self.b - self.a


@dataclass(frozen=True)
class Comparison:
    """What `a` and `b` cost, row by row, and the fields in which they differ. `context`: the tokens at which cache and
    attention are priced, for both sides alike."""

    a: Accounting
    b: Accounting
    context: int
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]


def compare(a: ModelConfig, b: ModelConfig, context: int | None = None) -> Comparison:
    """Price both at `context` tokens (None: at the shorter of the two contexts, which both can read). Raises `ConfigError`
    when either cannot be built."""
    one, other = account(a), account(b)
    at = min(a.max_positions, b.max_positions) if context is None else context
    parts = [part for part in PARTS if part in one.by_part or part in other.by_part]
    rows = [Row(part, one.by_part.get(part, 0), other.by_part.get(part, 0), "parameters", True) for part in parts]
    rows += [
        Row("All parameters", one.parameters, other.parameters, "parameters"),
        Row("Weights float32", one.parameter_bytes(4), other.parameter_bytes(4), "bytes"),
        Row("Weights bfloat16", one.parameter_bytes(2), other.parameter_bytes(2), "bytes"),
        Row("KV per token", one.kv_bytes_per_token(4), other.kv_bytes_per_token(4), "bytes"),
        Row(f"KV at {at:,}", one.kv_bytes(at, 4), other.kv_bytes(at, 4), "bytes"),
        Row("FLOPs per token", one.flops_per_token(), other.flops_per_token(), "FLOPs"),
        Row(f"FLOPs at {at:,}", one.flops_per_token(at), other.flops_per_token(at), "FLOPs"),
    ]
    return Comparison(one, other, at, tuple(rows), tuple(differences(a, b)))
