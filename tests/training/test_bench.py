"""The twin a run trains on: shares what is trained, narrows what is frozen, and leaves the chat's model alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from workbench.adapters import LoraConfig, attach, disabled, merge, selected, trainable_parameters
from workbench.core.errors import ConfigError
from workbench.data import Batch
from workbench.model import Transformer
from workbench.training import bench as bench_module
from workbench.training.bench import bench_for, training_dtype
from workbench.training.loss import summed_loss
from workbench.training.objectives import NextToken

Make = Callable[..., Transformer]


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.arange(24).view(2, 12) % 40


def test_in_the_models_own_dtype_it_takes_no_memory(make_model: Make) -> None:
    model = make_model()
    bench = bench_for(model, "default", torch.float32)
    mine = {p.data_ptr() for p in model.parameters()}
    assert all(p.data_ptr() in mine for p in bench.model.parameters())
    assert bench.extra_bytes == 0
    assert {n: id(p) for n, p in bench.parameters.items()} == {n: id(p) for n, p in trainable_parameters(model).items()}


def test_narrowed_it_takes_two_bytes_a_weight(make_model: Make) -> None:
    model = make_model()
    frozen = [p for n, p in model.named_parameters() if ".adapters." not in n]
    bench = bench_for(model, "default", torch.bfloat16)
    assert bench.extra_bytes == 2 * sum(p.numel() for p in frozen), "the tied matrix counts once"
    assert bench.model.lm_head.weight is bench.model.embedding.weight
    assert {p.dtype for p in bench.parameters.values()} == {torch.float32}
    assert {p.dtype for p in frozen} == {torch.float32}


def test_it_is_frozen_but_for_the_adapter(make_model: Make, ids: torch.Tensor) -> None:
    model = make_model()
    attach(model, LoraConfig(r=2), "other")
    bench = bench_for(model, "default", torch.float32)
    bench.model.hidden(ids).sum().backward()
    assert sum(p.grad is not None for p in model.parameters()) == len(bench.parameters)
    assert all(p.grad is not None for p in bench.parameters.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_sees_only_its_adapter_at_full_strength(make_model: Make, ids: torch.Tensor, dtype: torch.dtype) -> None:
    model = make_model()
    attach(model, LoraConfig(r=2), "other")
    with torch.no_grad():
        for name in ("default", "other"):
            for parameter in trainable_parameters(model, name).values():
                parameter.normal_(0, 0.1)
        bench = bench_for(model, "default", dtype)
        with selected(model, {"default": 1.0}):
            wanted = model(ids)
        with disabled(model):
            torch.testing.assert_close(bench.model(ids).float(), wanted, rtol=0.1 if dtype == torch.bfloat16 else 1e-5, atol=0.2)


def test_training_mode_does_not_spread(make_model: Make) -> None:
    model = make_model(lora=LoraConfig(r=2, lora_dropout=0.5))
    bench = bench_for(model, "default", torch.float32)
    bench.model.train()
    assert not any(m.training for m in model.modules())


def test_what_cannot_be_trained_is_refused(make_model: Make) -> None:
    model = make_model()
    merge(model)
    with pytest.raises(ConfigError, match="merged"):
        bench_for(model, "default", torch.float32)
    with pytest.raises(ConfigError, match="merged"):
        bench_for(model, None, torch.float32)
    with pytest.raises(ConfigError, match="bfloat16 are too coarse"):
        bench_for(make_model(adapted=False).to(torch.bfloat16), None, torch.float32)


@pytest.mark.parametrize(
    ("asked", "weights", "fast", "expected"),
    [
        ("auto", torch.float32, True, torch.bfloat16),
        ("auto", torch.float32, False, torch.float32),
        ("auto", torch.bfloat16, False, torch.bfloat16),
        ("auto", torch.float16, False, torch.float32),
        ("float32", torch.float32, True, torch.float32),
        ("bfloat16", torch.float32, False, torch.bfloat16),
    ],
)
def test_precision(
    make_model: Make, monkeypatch: pytest.MonkeyPatch, asked: str, weights: torch.dtype, fast: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(bench_module, "cpu_has_fast_bfloat16", lambda: fast)
    assert training_dtype(asked, make_model().to(weights)) == expected


def test_packed_documents_teach_what_they_would_teach_alone(make_model: Make) -> None:
    """One row with two documents and padding, against two batches of one."""
    model = make_model()
    bench = bench_for(model, "default", torch.float32)
    documents = [torch.tensor([3, 9, 4, 7]), torch.tensor([8, 1, 2])]
    ids = torch.cat([*documents, torch.zeros(1, dtype=torch.int64)])[None]
    labels = ids.clone()
    labels[0, [0, 4, 7]] = -100
    segments = torch.tensor([[0, 0, 0, 0, 1, 1, 1, -1]])
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, -1]])
    packed = NextToken().task(Batch(ids, labels, positions, 7, 5, (0, 1), segments), 0)
    loss = summed_loss(model, bench.hidden(packed), packed.targets)
    alone = []
    for document in documents:
        own = document[None]
        task = NextToken().task(Batch(own, own, torch.arange(len(document))[None], len(document), len(document) - 1, (0,)), 0)
        alone.append(summed_loss(model, bench.hidden(task), task.targets))
    torch.testing.assert_close(loss, sum(alone))
