"""What to adapt, and how: the settings of a LoRA run under PEFT's names."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.adapters import lora, rslora  # noqa: F401  (they register themselves)
from workbench.adapters.base import ADAPTERS, adapter_type
from workbench.adapters.initial import INITIAL
from workbench.core.fields import Option, Problem, field_problems, pick, setting

TARGETS = {
    "all-linear": Option("all-linear", "All linear layers", "Attention and MLP; the usual choice, and the best in most comparisons."),
    "attention": Option("attention", "Attention only", "Query, key, value and output projections."),
    "mlp": Option("mlp", "MLP only", "The feed-forward matrices."),
}
"""Presets of `target_modules`; anything else is a layer name, a dotted suffix or a shell pattern."""

_PATTERNS = {"attention": "blocks.*.attention.*", "mlp": "blocks.*.mlp.*"}


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """One adapter. Keys in files and tooltips are PEFT's; `problems()` lists every broken rule."""

    method: str = pick(
        ADAPTERS, "lora", label="Method", group="Adapter", key="use_rslora",
        help="How the adapter is scaled and computed.",
    )  # fmt: skip
    r: int = setting(
        16, label="Rank", group="Adapter", minimum=1, maximum=16384, log=True, source="arXiv:2106.09685",
        help="Inner width of the two thin matrices: a higher rank can learn more and costs more memory and time.",
    )  # fmt: skip
    lora_alpha: float = setting(
        32.0, label="Alpha", group="Adapter", minimum=1e-3, maximum=1e6, log=True,
        help="Strength of the adapter: the factor in front of it is α/r for LoRA and α/√r for RsLoRA.",
    )  # fmt: skip
    target_modules: tuple[str, ...] = setting(
        ("all-linear",), label="Layers", group="Adapter",
        help="Which linear layers to adapt: all-linear, attention, mlp, or names and patterns such as q_proj or blocks.3.*.",
    )  # fmt: skip
    lora_dropout: float = setting(
        0.0, label="Dropout", group="Adapter", minimum=0.0, maximum=0.95, advanced=True,
        help="Share of the adapter's inputs that is zeroed at random while training; the base's input is never dropped.",
    )  # fmt: skip
    init: str = pick(
        tuple(i.option for i in INITIAL.values()), "kaiming", label="Start", group="Adapter", key="init_lora_weights", advanced=True,
        help="How the first of the two matrices starts; the second starts at zero, so that the model is unchanged at first.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        given: object = self.target_modules
        if isinstance(given, str):
            object.__setattr__(self, "target_modules", tuple(p.strip() for p in given.split(",") if p.strip()))

    def scale(self) -> float:
        """The factor in front of the adapter."""
        return adapter_type(self.method).scale_rule(self.lora_alpha, self.r)

    def patterns(self) -> tuple[str, ...]:
        """`target_modules` with presets spelt out as patterns that `model.surgery.select` understands."""
        return tuple(_PATTERNS.get(t, t) for t in self.target_modules)

    def problems(self) -> list[Problem]:
        """Every broken bound or rule, all at once; empty when usable. Whether the patterns match is known only with a model."""
        found = field_problems(self)
        if not self.target_modules or not all(isinstance(t, str) and t.strip() for t in self.target_modules):
            found.append(Problem("target_modules", "No layer is chosen.", "Choose all-linear, or name the layers."))
        return found
