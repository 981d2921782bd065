"""Every preset is what its name says, down to the last parameter."""

from __future__ import annotations

import pytest
import torch

from workbench.core.fields import from_dict, to_dict
from workbench.model import PRESETS, ModelConfig, account, build_model
from workbench.model.presets import Preset

EACH = pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda p: p.name)
SMALL = [p for p in PRESETS.values() if p.parameters < 5_000_000]


@EACH
def test_is_described_and_usable(preset: Preset) -> None:
    assert PRESETS[preset.name] is preset
    assert preset.label
    assert preset.source
    assert preset.help.endswith(".")
    assert preset.config.problems() == []
    assert from_dict(ModelConfig, to_dict(preset.config)) == preset.config


@EACH
def test_counts_are_exact(preset: Preset) -> None:
    found = account(preset.config)
    assert found.parameters == preset.parameters
    assert sum(found.by_part.values()) == found.parameters == sum(found.by_tensor.values())


@EACH
def test_the_account_is_the_model_tensor_by_tensor(preset: Preset) -> None:
    model = build_model(preset.config, device="meta", init=False)
    assert account(preset.config).by_tensor == {n: p.numel() for n, p in model.named_parameters()}


@pytest.mark.parametrize("preset", SMALL, ids=lambda p: p.name)
def test_small_ones_are_built_and_run(preset: Preset) -> None:
    model = build_model(preset.config)
    assert sum(p.numel() for p in model.parameters()) == preset.parameters
    with torch.no_grad():
        assert model(torch.arange(5)[None]).shape == (1, 5, preset.config.vocab_size)


def test_there_is_a_small_one_of_each_family() -> None:
    assert {p.config.position.kind for p in SMALL} >= {"rope", "learned"}


def test_labels_are_told_apart() -> None:
    assert len({p.label for p in PRESETS.values()}) == len(PRESETS)
