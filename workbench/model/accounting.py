"""What a model costs, from its config alone: nothing is allocated."""

from __future__ import annotations

from dataclasses import dataclass, replace

from workbench.model.build import build_model
from workbench.model.config import ModelConfig

PART_OF = (
    ("segment_embedding.", "Segment embedding"),
    ("embedding.", "Token embedding"),
    ("position.", "Position embedding"),
    (".attention.", "Attention"),
    (".mlp.", "MLP"),
    ("norm", "Norms"),
    ("head_transform.", "Output head"),
    ("lm_head.", "Output head"),
)


@dataclass(frozen=True)
class Accounting:
    """Parameters (a tied matrix counts once), by part and by tensor; bytes and FLOPs follow from them."""

    config: ModelConfig
    parameters: int
    by_part: dict[str, int]
    by_tensor: dict[str, int]
    tied_saving: int
    """Parameters that tying saves (or would save, when the embeddings are not tied)."""

    def parameter_bytes(self, bytes_per_value: float = 4) -> int:
        return round(self.parameters * bytes_per_value)

    def kv_bytes_per_token(self, bytes_per_value: float = 4) -> int:
        """Keys and values of one token in all layers: 2 · L · G · D · bytes."""
        c = self.config
        return round(2 * c.n_layers * c.kv_heads * c.head_width * bytes_per_value)

    def flops_per_token(self, context: int = 0) -> int:
        """Forward FLOPs of one new token: 2 per weight of every matrix it passes (the head included, the embedding
        look-up not), plus 4 · H · D per layer and attended token."""
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
    by_part: dict[str, int] = {}
    for name, count in by_tensor.items():
        part = _part(name)
        by_part[part] = by_part.get(part, 0) + count
    return Accounting(config, sum(by_tensor.values()), by_part, by_tensor, config.vocab_size * config.d_model)


def _part(name: str) -> str:
    if "norm" in name:
        return "Norms"
    return next((part for key, part in PART_OF if key in name), "Other")
