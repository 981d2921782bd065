"""A run goes on only in the model and with the parameters it came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.tools import drain
from workbench.adapters import LoraConfig, attach, trainable_parameters
from workbench.core.errors import ConfigError, FileError
from workbench.data import Dataset
from workbench.model import Transformer
from workbench.training import TrainConfig, train
from workbench.training.plan import identity

Make = Callable[..., Transformer]
CONFIG = TrainConfig(max_steps=2, dtype="float32", eval_steps=None)


def test_the_same_in_every_precision_and_under_other_adapters(make_model: Make) -> None:
    model = make_model()
    found = identity(model, trainable_parameters(model))
    for dtype in (torch.bfloat16, torch.float16):
        other = make_model()
        trained = trainable_parameters(other)
        assert identity(other.to(dtype), trained)["base"] == found["base"]
    attach(model, LoraConfig(r=2, target_modules=("mlp",)), "chat", seed=5)
    assert identity(model, trainable_parameters(model)) == found


def test_another_base_model_is_refused(make_model: Make, data: Dataset, tmp_path: Path) -> None:
    drain(train(make_model(), data, CONFIG, folder=tmp_path))
    other = make_model()
    with torch.no_grad():
        other.embedding.weight.neg_()
    with pytest.raises(FileError, match="base = '2 blocks of 16 "):
        drain(train(other, data, CONFIG, folder=tmp_path, resume=True))
    with pytest.raises(FileError, match="base = "):
        drain(train(make_model(max_positions=64), data, CONFIG, folder=tmp_path, resume=True))


def test_other_layers_of_equal_number_are_refused(make_model: Make, data: Dataset, tmp_path: Path) -> None:
    def lora(layer: str) -> LoraConfig:
        return LoraConfig(r=4, lora_alpha=8.0, target_modules=(layer,))

    drain(train(make_model(lora=lora("q_proj")), data, CONFIG, folder=tmp_path))
    with pytest.raises(FileError, match="parameters = '4 tensors "):
        drain(train(make_model(lora=lora("v_proj")), data, CONFIG, folder=tmp_path, resume=True))


def test_resume_without_a_folder_is_a_mistake_with_a_sentence(make_model: Make, data: Dataset) -> None:
    with pytest.raises(ConfigError, match="without a folder"):
        drain(train(make_model(), data, CONFIG, resume=True))
