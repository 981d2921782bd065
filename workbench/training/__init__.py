"""Training: settings, the loop as a generator of events, exact resume.

result = yield from train(model, data, TrainConfig(), adapter="default", validation=held_out, folder=run_folder, control=control)
"""

from workbench.training.config import PretrainConfig, TrainConfig
from workbench.training.events import (
    EvalEvent,
    PairEvent,
    ProbeEvent,
    SampleEvent,
    SaveEvent,
    StepEvent,
    TrainEvent,
    TrainingDiverged,
    TrainResult,
)
from workbench.training.trainer import planned_steps, train

__all__ = [
    "EvalEvent", "PairEvent", "PretrainConfig", "ProbeEvent", "SampleEvent", "SaveEvent", "StepEvent", "TrainConfig", "TrainEvent",
    "TrainResult", "TrainingDiverged", "planned_steps", "train",
]  # fmt: skip
