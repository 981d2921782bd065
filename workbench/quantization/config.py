"""What a person chooses: a scheme, and which modules take it."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.core.fields import Problem, choice, coerce_choices, field_problems, setting
from workbench.core.registry import Choice
from workbench.quantization.base import SCHEMES, Scheme

SKIPPED = ("*norm*", "*embedding*", "lm_head")
"""What is left alone unless a person says otherwise: norms, embeddings, the output matrix."""


@dataclass(frozen=True, kw_only=True)
class QuantizationConfig:
    """Which weights are kept in few bits, and how."""

    scheme: Choice[Scheme] = choice(
        SCHEMES, "int8", label="Scheme", key="quantization_config", source="arXiv:2208.07339", help="How the chosen weights are kept."
    )
    modules: tuple[str, ...] = setting(
        ("*",), label="Modules", key="target_modules", advanced=True,
        help="What may be quantized: names, suffixes such as q_proj, or patterns such as blocks.*.mlp.*.",
    )  # fmt: skip
    skip: tuple[str, ...] = setting(
        SKIPPED, label="Left as they are", key="modules_to_not_convert",
        help="What stays in full precision, by the same patterns; this wins over the modules named above.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        coerce_choices(self)

    def problems(self) -> list[Problem]:
        """Every broken rule; empty when usable."""
        found = field_problems(self)
        own = getattr(self.scheme.options, "problems", None)
        if not found and own is not None:
            found = [Problem(f"scheme.{p.field}", p.message, p.fix) for p in own()]
        return found
