"""Training from scratch: from text to a model that talks, alone or as a pair that differs in some toggles."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

from workbench.core.control import Control
from workbench.core.events import Event
from workbench.devices import Compute
from workbench.requests import PairRequest, PretrainRequest
from workbench.training import TrainResult

Resolve = Callable[[str], Path]
"""The path of a library name or a path, for tokenizers of other models."""


def pretrain(
    request: PretrainRequest, runs_folder: Path, compute: Compute, resolve: Resolve, control: Control
) -> Generator[Event, None, TrainResult]:
    """Train a fresh model in a run folder; the finished one lies in its `model` folder as a checkpoint of our own."""
    raise NotImplementedError
    yield


def pretrain_pair(
    request: PairRequest, runs_folder: Path, compute: Compute, resolve: Resolve, control: Control
) -> Generator[Event, None, TrainResult]:
    """Train two models step by step side by side."""
    raise NotImplementedError
    yield
