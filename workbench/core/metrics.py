"""What can be measured, in one list: plots, tables, CSV headers and tooltips are built from it."""

from __future__ import annotations

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
    """One chart of the monitor: its title and the label and unit of its vertical axis."""

    name: str
    title: str
    y_label: str
    unit: str


PLOTS: dict[str, PlotInfo] = {}
METRICS: dict[str, MetricInfo] = {}


def plot(name: str, title: str, y_label: str, unit: str) -> PlotInfo:
    """Declare a chart; a name can be taken once."""
    if name in PLOTS:
        raise ValueError(f"plot {name!r} is declared twice")
    return PLOTS.setdefault(name, PlotInfo(name, title, y_label, unit))


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
