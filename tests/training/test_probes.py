"""A look inside the blocks gives what a computation by hand gives, and costs nothing while nobody looks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.training.tools import dataset, drain, losses
from workbench.core.metrics import FAMILIES, metric_of
from workbench.data import Dataset
from workbench.model import Transformer
from workbench.training import ProbeEvent, TrainConfig, train

Make = Callable[..., Transformer]


def settings(**changes: object) -> TrainConfig:
    base = {
        "max_steps": 1, "learning_rate": 1e-2, "dtype": "float32", "eval_steps": None, "save_steps": None, "max_length": 32,
        "max_grad_norm": 0.01, "per_device_train_batch_size": 4, "probe_every": 1,
    }  # fmt: skip
    return TrainConfig(**{**base, **changes})  # type: ignore[arg-type]


def by_hand(model: Transformer, data: Dataset) -> dict[str, list[float]]:
    """Gradients through plain autograd, and the stream after each block, one unpadded sequence at a time: of the longest ones
    the last token is read by nobody."""
    squares, largest, elements = [0.0] * 2, [0.0] * 2, 0
    total, targets = torch.zeros(()), 0
    for i in range(len(data)):
        ids, trained = data.sequence(i)
        kept = torch.from_numpy(trained[1:])
        read = torch.from_numpy(ids[: max(data.lengths) - 1].astype("int64"))[None]
        streams: list[torch.Tensor] = []
        handles = [b.register_forward_hook(lambda _m, _i, out, to=streams: to.append(out)) for b in model.blocks]
        logits = model(read)[0, : len(ids) - 1].log_softmax(-1)
        for handle in handles:
            handle.remove()
        for n, x in enumerate(streams):
            squares[n] += float(x.detach().square().sum())
            largest[n] = max(largest[n], float(x.detach().abs().max()))
        elements += streams[0].numel()
        total = total - logits[kept].gather(1, torch.from_numpy(ids[1:].astype("int64"))[kept][:, None]).sum()
        targets += int(kept.sum())
    model.zero_grad()
    (total / targets).backward()
    norms = [float(torch.cat([p.grad.flatten() for p in block.parameters() if p.grad is not None]).norm()) for block in model.blocks]
    model.zero_grad()
    return {"block_gradient_norm": norms, "residual_rms": [(s / elements) ** 0.5 for s in squares], "activation_max": largest}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "all weights"])
def test_equals_a_computation_by_hand(make_model: Make, adapted: bool, accumulate: int, recompute: bool) -> None:
    data = dataset(4, lengths=(9, 14) if accumulate == 1 else (13, 14))
    model, twin = make_model(adapted=adapted), make_model(adapted=adapted)
    if adapted:
        for name, parameter in twin.named_parameters():
            parameter.requires_grad_(".adapters." in name)
    wanted = by_hand(twin, data)
    config = settings(per_device_train_batch_size=4 // accumulate, gradient_accumulation_steps=accumulate, gradient_checkpointing=recompute)
    events, _ = drain(train(model, data, config, adapter="default" if adapted else None))
    (probe,) = [e for e in events if isinstance(e, ProbeEvent)]
    for name, values in wanted.items():
        assert FAMILIES[name].profile(probe.metrics) == pytest.approx(values, rel=1e-4), name
    assert set(probe.metrics) == {FAMILIES[name].key(i) for name in wanted for i in range(2)}


def test_they_come_every_so_many_steps_and_change_nothing(make_model: Make, data: Dataset) -> None:
    watched, _ = drain(train(make_model(), data, settings(max_steps=7, probe_every=3)))
    plain, _ = drain(train(make_model(), data, settings(max_steps=7, probe_every=None)))
    assert [e.step for e in watched if e.name == "probe"] == [3, 6]
    assert not [e for e in plain if e.name == "probe"]
    assert losses(watched) == losses(plain)


def test_nothing_stays_hooked(make_model: Make, data: Dataset) -> None:
    model = make_model(adapted=False)
    drain(train(model, data, settings(max_steps=2), adapter=None))
    assert not any(m._forward_hooks for m in model.modules())


def test_bfloat16_is_near(make_model: Make, data: Dataset) -> None:
    found = []
    for dtype in ("float32", "bfloat16"):
        events, _ = drain(train(make_model(adapted=False), data, settings(dtype=dtype), adapter=None))
        found.append(next(e for e in events if e.name == "probe").metrics)
    assert found[1] == pytest.approx(found[0], rel=0.05)


def test_members_of_a_family_are_metrics() -> None:
    info = metric_of("residual_rms.3")
    assert info is not None
    assert (info.name, info.label, info.plot) == ("residual_rms.3", "Block 3", "residual_rms")
    assert metric_of("loss") is not None
    assert metric_of("residual_rms.x") is metric_of("nothing.1") is metric_of("nothing") is None
