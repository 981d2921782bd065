"""What can be measured, in one list: plots, tables, CSV headers and tooltips are built from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", "neither"]
Axis = Literal["step", "time"]


@dataclass(frozen=True)
class MetricInfo:
    """One measurable quantity. `plot` names the chart it shares with its kin; `axis` what it is drawn against."""

    name: str
    label: str
    unit: str
    plot: str
    help: str
    axis: Axis = "step"
    better: Better = "neither"
    smooth: bool = False
    log: bool = False


@dataclass(frozen=True)
class PlotInfo:
    """One chart of the monitor: its title and the label and unit of its vertical axis. With `overlay` several runs are drawn over
    each other and coloured by run; without it the newest alone, coloured by metric."""

    name: str
    title: str
    y_label: str
    unit: str
    overlay: bool = True


PLOTS: dict[str, PlotInfo] = {}
METRICS: dict[str, MetricInfo] = {}


def plot(name: str, title: str, y_label: str, unit: str, *, overlay: bool = True) -> PlotInfo:
    """Declare a chart; a name can be taken once."""
    if name in PLOTS:
        raise ValueError(f"plot {name!r} is declared twice")
    return PLOTS.setdefault(name, PlotInfo(name, title, y_label, unit, overlay))


def metric(info: MetricInfo) -> MetricInfo:
    """Declare a metric on a declared plot; a name can be taken once."""
    if info.name in METRICS:
        raise ValueError(f"metric {info.name!r} is declared twice")
    if info.plot not in PLOTS:
        raise ValueError(f"metric {info.name!r} names the unknown plot {info.plot!r}")
    return METRICS.setdefault(info.name, info)


plot("loss", "Loss", "loss", "nats/token")
plot("speed", "Speed", "tokens/s", "tokens/s")
plot("cache", "Cache memory", "bytes", "B")
plot("gradient", "Gradient norm", "norm", "")
plot("rate", "Learning rate", "rate", "")
plot("memory", "Memory", "bytes", "B")

LOSS = metric(
    MetricInfo(
        "loss",
        "Training loss",
        "nats/token",
        "loss",
        "Mean negative log-likelihood of the trained tokens of a step.",
        better="lower",
        smooth=True,
    )
)
EVAL_LOSS = metric(
    MetricInfo(
        "eval_loss", "Validation loss", "nats/token", "loss", "Mean negative log-likelihood over the held-out tokens.", better="lower"
    )
)
TRAIN_SPEED = metric(
    MetricInfo(
        "train_tokens_per_second",
        "Training",
        "tokens/s",
        "speed",
        "Tokens processed per second of a training step.",
        axis="time",
        better="higher",
    )
)
GENERATE_SPEED = metric(
    MetricInfo(
        "generate_tokens_per_second",
        "Generation",
        "tokens/s",
        "speed",
        "New tokens per second, over the last few tokens.",
        axis="time",
        better="higher",
    )
)
CACHE_BYTES = metric(
    MetricInfo(
        "cache_bytes",
        "KV cache, in use",
        "B",
        "cache",
        "Bytes of the cached keys and values that hold tokens, measured on the tensors.",
        axis="time",
        better="lower",
    )
)
CACHE_ALLOCATED = metric(
    MetricInfo(
        "cache_allocated_bytes",
        "KV cache, reserved",
        "B",
        "memory",
        "Bytes of all tensors the cache holds, spare room included.",
        axis="time",
        better="lower",
    )
)
GRADIENT_NORM = metric(
    MetricInfo(
        "gradient_norm", "Gradient norm", "", "gradient", "Euclidean norm of all trained parameters' gradients before clipping.", log=True
    )
)
LEARNING_RATE = metric(MetricInfo("learning_rate", "Learning rate", "", "rate", "Step size the scheduler gave the optimizer."))
PROCESS_BYTES = metric(
    MetricInfo("process_bytes", "Process memory", "B", "memory", "Resident memory of this process.", axis="time", better="lower")
)

# ---- two runs side by side ---------------------------------------------------------------------------------------------

plot("pair", "A and B", "loss", "nats/token", overlay=False)
plot("pair_difference", "Difference of A and B", "B − A", "nats/token")

LOSS_A = metric(MetricInfo("loss_a", "A", "nats/token", "pair", "Training loss of run A.", better="lower", smooth=True))
LOSS_B = metric(MetricInfo("loss_b", "B", "nats/token", "pair", "Training loss of run B.", better="lower", smooth=True))
LOSS_DIFFERENCE = metric(
    MetricInfo(
        "loss_difference", "B − A", "nats/token", "pair_difference",
        "Loss of B minus loss of A at the same step, on the same batch: below 0, B is ahead.", smooth=True,
    )
)  # fmt: skip
EVAL_LOSS_A = metric(
    MetricInfo("eval_loss_a", "A, validation", "nats/token", "pair", "Validation loss of run A.", better="lower")
)  # fmt: skip
EVAL_LOSS_B = metric(
    MetricInfo("eval_loss_b", "B, validation", "nats/token", "pair", "Validation loss of run B.", better="lower")
)  # fmt: skip


# ---- families: one curve per block -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MetricFamily:
    """A quantity measured in every block. Block i's values are reported as the metric `name.i`, i from 0."""

    name: str
    label: str
    y_label: str
    unit: str
    help: str
    log: bool = False

    @property
    def plot(self) -> PlotInfo:
        """The chart that its members share."""
        return PlotInfo(self.name, self.label, self.y_label, self.unit)

    def key(self, index: int) -> str:
        """The metric's name of one block."""
        return f"{self.name}.{index}"

    def member(self, index: int) -> MetricInfo:
        """One block's curve."""
        return MetricInfo(self.key(index), f"Block {index}", self.unit, self.name, f"Block {index}: {self.help}", log=self.log)

    def profile(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """The values of all blocks in order, out of an event's metrics; empty when it has none."""
        found: list[float] = []
        while (value := metrics.get(self.key(len(found)))) is not None:
            found.append(value)
        return tuple(found)


FAMILIES: dict[str, MetricFamily] = {
    family.name: family
    for family in (
        MetricFamily(
            "block_gradient_norm", "Gradient norm by block", "norm", "",
            "Euclidean norm of the gradients of the block's trained parameters, before clipping.", log=True,
        ),
        MetricFamily(
            "residual_rms", "Residual stream by block", "RMS", "", "Root mean square of the residual stream as the block leaves it.",
            log=True,
        ),
        MetricFamily(
            "activation_max", "Largest activation by block", "|x|", "", "Largest magnitude in the residual stream as the block leaves it.",
            log=True,
        ),
    )
}  # fmt: skip


def metric_of(name: str) -> MetricInfo | None:
    """The metric of that name, a family's member included; None when nothing of the kind is measured."""
    if name in METRICS:
        return METRICS[name]
    family, _, index = name.rpartition(".")
    return FAMILIES[family].member(int(index)) if family in FAMILIES and index.isdecimal() else None
