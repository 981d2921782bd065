"""What a batch teaches: the next token, or tokens that were masked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.training.tools import dataset, drain, losses
from workbench.core.errors import ConfigError
from workbench.data import IGNORED, Batch, Dataset, collate
from workbench.model import ModelConfig, Transformer
from workbench.tokenizers import ByteTokenizer
from workbench.training import TrainConfig, train
from workbench.training.objectives import MaskedToken, NextToken, objective_for

MASK, SPECIAL = 37, (35, 36)


def text(rows: int = 64, tokens: int = 256, vocabulary: int = 35) -> Batch:
    ids = torch.randint(vocabulary, (rows, tokens), generator=torch.Generator().manual_seed(1))
    return Batch(ids, ids, torch.arange(tokens).expand(rows, -1), ids.numel(), ids.numel(), tuple(range(rows)))


def masked() -> MaskedToken:
    return MaskedToken(MASK, 40, SPECIAL)


def test_the_next_token_is_the_target_and_the_last_one_no_input() -> None:
    batch = collate(Dataset.of([([5, 6, 7], [False, True, True]), ([8, 9], [False, True])]), [0, 1])
    task = NextToken().task(batch, 0)
    assert task.ids.tolist() == [[5, 6], [8, 9]]
    assert task.targets.tolist() == [[6, 7], [9, IGNORED]]
    assert task.positions.tolist() == [[0, 1], [0, 1]]
    assert task.count == 3


def test_a_sequence_of_one_token_teaches_nothing() -> None:
    task = NextToken().task(collate(Dataset.of([([5], [False])]), [0]), 0)
    assert task.ids.shape == task.targets.shape == (1, 1)
    assert (task.targets == IGNORED).all()


def test_shares_are_those_of_the_paper() -> None:
    """15 % chosen; of these 80 % masked, 10 % another token, 10 % kept (arXiv:1810.04805). σ of the first share is 0.3 %."""
    batch = text()
    task = masked().task(batch, 7)
    chosen = task.targets != IGNORED
    assert int(chosen.sum()) == task.count
    assert chosen.float().mean() == pytest.approx(0.15, abs=0.01)
    now, before = task.ids[chosen], batch.ids[chosen]
    assert (now == MASK).float().mean() == pytest.approx(0.8, abs=0.03)
    changed = (now != MASK) & (now != before)
    assert changed.float().mean() == pytest.approx(0.1, abs=0.03)  # one random draw in 37 hits the token itself
    assert (now == before).float().mean() == pytest.approx(0.1, abs=0.03)
    assert torch.equal(task.targets[chosen], before)
    assert torch.equal(task.ids[~chosen], batch.ids[~chosen])
    assert not set(now[changed].tolist()) & {MASK, *SPECIAL}


def test_masks_follow_from_the_noise_alone() -> None:
    first, again, other = (masked().task(text(4, 64), noise) for noise in (3, 3, 4))
    assert torch.equal(first.ids, again.ids)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.targets, other.targets)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    masked().task(text(4, 64), 5)
    assert torch.equal(torch.get_rng_state(), state)


def test_special_tokens_and_padding_are_never_chosen() -> None:
    ids = torch.full((8, 64), SPECIAL[0])
    ids[:, ::2] = 3
    positions = torch.arange(64).expand(8, -1).clone()
    positions[:, 32:] = -1
    task = masked().task(Batch(ids, ids, positions, 256, 256, tuple(range(8))), 1)
    chosen = task.targets != IGNORED
    assert chosen.any()
    assert (ids[chosen] == 3).all()
    assert not chosen[:, 32:].any()


def test_a_tiny_batch_still_teaches_something() -> None:
    assert [masked().task(text(1, 2), noise).count for noise in range(30)].count(0) == 0


def test_the_architecture_decides() -> None:
    sizes = {"n_layers": 1, "d_model": 16, "n_heads": 2}
    assert isinstance(objective_for(ModelConfig(**sizes), ByteTokenizer()), NextToken)
    blind = ModelConfig(**sizes, causal=False)
    with pytest.raises(ConfigError, match="no mask token"):
        objective_for(blind, ByteTokenizer())
    found = objective_for(blind, ByteTokenizer(mask=True))
    assert isinstance(found, MaskedToken)
    assert found.mask == 259


def test_a_bidirectional_model_learns_to_fill_in(make_model: Callable[..., Transformer]) -> None:
    """Every sequence counts up, so a neighbour on either side tells the masked token."""
    rows = [([(start + i) % 30 for i in range(16)], [True] * 16) for start in range(30)]
    data = Dataset.of(rows)
    model = make_model(adapted=False, causal=False, position="learned")
    config = TrainConfig(
        max_steps=150, learning_rate=1e-2, per_device_train_batch_size=16, dtype="float32", eval_steps=75, save_steps=None, max_length=32
    )
    events, _ = drain(train(model, data, config, adapter=None, objective=masked(), validation=data))
    curve = losses(events)
    assert sum(curve[-10:]) / 10 < 0.6 * sum(curve[:5]) / 5
    evaluations = [e for e in events if e.name == "eval"]
    assert evaluations[0].tokens == evaluations[1].tokens, "the same masks each time"


def test_a_model_and_an_objective_that_do_not_fit_are_refused(make_model: Callable[..., Transformer]) -> None:
    with pytest.raises(ConfigError, match="masked tokens"):
        drain(train(make_model(adapted=False, causal=False), dataset(), TrainConfig(), adapter=None))
