"""Every preset is what its name says, down to the last parameter."""

from __future__ import annotations

import time

import pytest
import torch
from torch.nn import functional as F

from workbench.core.fields import from_dict, to_dict
from workbench.model import PRESETS, ModelConfig, account, build_model
from workbench.model.presets import Preset

EACH = pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda p: p.name)
SMALL = [p for p in PRESETS.values() if p.parameters < 5_000_000]


@EACH
def test_is_described_and_usable(preset: Preset) -> None:
    assert PRESETS[preset.name] is preset
    assert preset.label
    assert preset.family
    assert preset.source
    assert preset.help.endswith(".")
    assert preset.help.count(". ") == 0, "one sentence says what is special"
    assert 2017 <= preset.year <= 2026
    assert preset.config.problems() == []
    assert from_dict(ModelConfig, to_dict(preset.config)) == preset.config


@EACH
def test_counts_are_exact(preset: Preset) -> None:
    found = account(preset.config)
    assert found.parameters == preset.parameters
    assert sum(found.by_part.values()) == found.parameters == sum(found.by_tensor.values())


@EACH
def test_it_is_priced_while_a_person_types(preset: Preset) -> None:
    """50 ms for each toggle; the best of three, because other programs run too."""

    def seconds() -> float:
        start = time.perf_counter()
        account(preset.config)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 0.05


@pytest.mark.parametrize("preset", {p.family: p for p in PRESETS.values()}.values(), ids=lambda p: p.name)
def test_the_account_is_the_model_tensor_by_tensor(preset: Preset) -> None:
    model = build_model(preset.config, device="meta", init=False)
    assert account(preset.config).by_tensor == {n: p.numel() for n, p in model.named_parameters()}


@pytest.mark.parametrize("preset", SMALL, ids=lambda p: p.name)
def test_small_ones_are_built_and_run(preset: Preset) -> None:
    model = build_model(preset.config)
    assert sum(p.numel() for p in model.parameters()) == preset.parameters
    with torch.no_grad():
        assert model(torch.arange(5)[None]).shape == (1, 5, preset.config.vocab_size)


@pytest.mark.parametrize("preset", SMALL, ids=lambda p: p.name)
def test_tiny_ones_learn(preset: Preset) -> None:
    """The loss of one batch of bytes falls within a few steps of plain AdamW, whatever the idea."""
    torch.manual_seed(0)
    model = build_model(preset.config).train()
    text = torch.tensor(list(b"the quick brown fox jumps over the lazy dog. " * 2))[None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        given = text[:, :-1] if preset.config.causal else text[:, :-1].where(torch.rand(1, text.shape[1] - 1) > 0.15, 0)
        wanted = text[:, 1:] if preset.config.causal else text[:, :-1]
        loss = F.cross_entropy(model(given).flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(5.6, abs=1.5), "a fresh model guesses"
    assert losses[-1] < losses[0] - 1


def test_tiny_ones_are_about_a_million_parameters_over_bytes() -> None:
    assert {p.family for p in SMALL} == {"Tiny"}
    for preset in SMALL:
        assert 600_000 < preset.parameters < 1_200_000
        assert (preset.config.vocab_size, preset.config.max_positions) == (259, 256)


def test_every_idea_has_a_tiny_one_that_trains_here() -> None:
    """Every position encoding and placement of the big ones, and what sets single families apart."""
    big = [p.config for p in PRESETS.values() if p not in SMALL]
    tiny = [p.config for p in SMALL]
    assert {c.position.kind for c in big} <= {c.position.kind for c in tiny}
    assert {c.residual.kind for c in big} <= {c.residual.kind for c in tiny}
    assert {c.mlp.kind for c in big} <= {c.mlp.kind for c in tiny}
    assert {c.qk_norm for c in big} == {c.qk_norm for c in tiny}
    for field in ("causal", "tie_embeddings", "scale_embeddings", "embedding_norm", "head_transform", "attention_bias"):
        assert {getattr(c, field) for c in big} == {getattr(c, field) for c in tiny}, field


def test_families_lie_together_in_the_list() -> None:
    """A list grouped by family needs no sorting."""
    families = [p.family for p in PRESETS.values()]
    assert len(dict.fromkeys(families)) == sum(a != b for a, b in zip(families, ["", *families], strict=False))


def test_labels_are_told_apart() -> None:
    assert len({p.label for p in PRESETS.values()}) == len(PRESETS)
