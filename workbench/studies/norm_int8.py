"""Why INT8 leaves the norms alone: what each way to quantize them costs, on the loaded model and on a small one."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from workbench import adapters
from workbench.checkpoints import Loaded
from workbench.core.control import Control
from workbench.core.errors import ModelError, WorkbenchError
from workbench.core.events import Event, Phase, Progress
from workbench.core.fields import Problem, field_problems, require_usable, setting, to_dict
from workbench.studies.base import STUDIES, Study, StudyContext, StudyResult
from workbench.studies.contrast import small_model
from workbench.studies.int8_norms import EXACT, Int8Parts, norms, parameter_bytes, stand_in, stand_ins
from workbench.studies.measure import Figures, compared, cut, read, together
from workbench.studies.norm_findings import Findings, NormSeen, Row, result
from workbench.studies.texts import read_text, tokens_of

PRESET = "tiny-gpt2"
"""The small model: LayerNorm, as in the models the question is about."""
SMALL = "the small model"
_SCALES: dict[str, Any] = {"per_token": "token", "per_tensor": "tensor", "unscaled": "none"}


@dataclass(frozen=True, kw_only=True)
class NormInt8Options:
    """Which roundings are measured: every chosen part with every chosen scale."""

    parameters: bool = setting(
        True, label="Parameters", group="What is quantized",
        help="Gains and offsets, one scale per vector: what quantizing the norms would save memory on.",
    )  # fmt: skip
    input: bool = setting(
        True, label="Inputs", group="What is quantized",
        help="What enters each norm: the residual stream, as integer arithmetic would need it.",
    )  # fmt: skip
    output: bool = setting(
        True, label="Outputs", group="What is quantized", help="What leaves each norm and enters the matrices that follow it."
    )
    together: bool = setting(
        True, label="All at once", group="What is quantized", help="Also all of the chosen parts at the same time.",
    )  # fmt: skip
    per_token: bool = setting(
        True, label="A scale per token", group="How it is scaled", source="arXiv:2208.07339",
        help="Each token's vector has a scale of its own, largest magnitude / 127.",
    )  # fmt: skip
    per_tensor: bool = setting(
        True, label="One shared scale", group="How it is scaled",
        help="All tokens of a pass share one scale, so that the largest number of any token decides about all of them.",
    )  # fmt: skip
    unscaled: bool = setting(
        True, label="No scale", group="How it is scaled", help="A plain cast: rounded to whole numbers and cut off beyond ±127."
    )
    contrast: bool = setting(
        True, label="Small trained model", group="Measured on",
        help="Measure the same on a byte-level GPT with LayerNorm of 0.9 million parameters, trained once on Python's documentation.",
    )  # fmt: skip
    steps: int = setting(
        300, label="Its training", unit="steps", group="Measured on", minimum=1, maximum=100_000, log=True,
        help="Updates of the small model; it is kept and found again by this number.",
    )  # fmt: skip
    tokens: int = setting(
        1024, label="Tokens", group="Measured on", unit="tokens", minimum=16, maximum=1_000_000, log=True,
        help="Tokens of the text that are read at most; each rounding reads them once more.",
    )  # fmt: skip
    text: str | None = setting(
        None, label="Text", group="Measured on", none_label="built-in prose", help="A UTF-8 text file to measure on."
    )

    def problems(self) -> list[Problem]:
        """Every broken bound or rule, all at once; empty when usable."""
        found = field_problems(self)
        if not (self.parameters or self.input or self.output):
            found.append(Problem("input", "Nothing of the norms is quantized.", "Choose parameters, inputs or outputs."))
        if not (self.per_token or self.per_tensor or self.unscaled):
            found.append(Problem("per_token", "No scale is chosen.", "Choose one scale at least."))
        return found

    def variants(self) -> tuple[Int8Parts, ...]:
        """What is measured, in order. Parameters are one vector: a scale per token and a shared one are the same for them."""
        names = [name for name in ("parameters", "input", "output") if getattr(self, name)]
        scales = [scale for name, scale in _SCALES.items() if getattr(self, name)]
        groups = [(name,) for name in names] + ([tuple(names)] if self.together and len(names) > 1 else [])
        found = []
        for group in groups:
            for scale in scales:
                if group == ("parameters",) and scale == "tensor" and "token" in scales:
                    continue
                found.append(Int8Parts(**dict.fromkeys(group, True), scale=scale))
        return tuple(found)


@STUDIES.register(
    "norm-int8", label="Why INT8 skips the norms", options=NormInt8Options, source="arXiv:2208.07339",
    help="Rounds the norms' parameters, inputs and outputs to eight bits, with and without scales, and measures what each costs.",
)  # fmt: skip
class NormInt8(Study):
    def __init__(self, **options: Any) -> None:
        self.options = NormInt8Options(**options)

    def run(self, context: StudyContext, control: Control) -> Generator[Event, None, StudyResult | None]:
        require_usable(self.options)
        if context.loaded is None and not self.options.contrast:
            raise WorkbenchError("There is no model to measure on.", hint="Load one, or let the small model be trained.")
        text, name = read_text(self.options.text)
        models = [] if context.loaded is None else [(context.loaded.source.name, context.loaded)]
        if self.options.contrast:
            small = yield from small_model(context, PRESET, self.options.steps, control)
            if small is None:
                return None
            models.append((SMALL, small))
        found: list[Findings] = []
        for number, (label, loaded) in enumerate(models):
            yield Phase(word="Scoring")
            one = yield from self._measured(label, loaded, text, (number, len(models)), control)
            if one is None:
                return None
            found.append(one)
        return result("norm-int8", found, name, to_dict(self.options))

    def _measured(
        self, label: str, loaded: Loaded, text: str, place: tuple[int, int], control: Control
    ) -> Generator[Event, None, Findings | None]:
        ids, bytes_read = tokens_of(loaded, text, self.options.tokens, label)
        if not norms(loaded.model):
            raise ModelError(f"{label} has no norms with parameters.", hint="Load a model that has some.")
        windows = cut(ids, min(self.options.tokens, loaded.config.max_positions))
        variants = (EXACT, *self.options.variants())
        model = stand_in(loaded.model)
        wrapped = stand_ins(model)
        parts: dict[Int8Parts, list[Figures]] = {variant: [] for variant in variants}
        total = len(windows) * len(variants)
        with ExitStack() as inside:
            inside.enter_context(adapters.disabled(model))
            for at, window in enumerate(windows):
                exact = None
                for step, variant in enumerate(variants):
                    done = at * len(variants) + step
                    yield Progress(message=f"Reading with {label}", done=place[0] * total + done, total=place[1] * total)
                    control.wait_while_paused()
                    if control.stopping:
                        return None
                    for module in wrapped.values():
                        module.parts, module.watching = variant, variant is EXACT
                    hidden = read(model, window)
                    exact = hidden if exact is None else exact
                    parts[variant].append(compared(model, hidden, exact, window))
        before, after = parameter_bytes(loaded.model)
        return Findings(
            label=label, kind=loaded.config.norm.entry.label, baseline=together(parts.pop(EXACT)), bytes_read=bytes_read,
            rows=tuple(Row(variant, together(figures)) for variant, figures in parts.items()),
            norms=tuple(NormSeen(name, module.seen()) for name, module in wrapped.items()), norm_bytes=before, norm_bytes_int8=after,
            model_bytes=sum(p.nbytes for p in loaded.model.parameters()),
        )  # fmt: skip
