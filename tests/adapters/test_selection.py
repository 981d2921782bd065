"""Adapters that come and go while other threads run the model."""

from __future__ import annotations

import copy
import pickle
import threading
import timeit
from collections.abc import Callable

import pytest
import torch

from workbench.adapters import (
    LoraConfig,
    adapter_names,
    attach,
    detach,
    disabled,
    merge,
    scale,
    selected,
    strengths,
    trainable_parameters,
    unmerge,
)
from workbench.adapters.attach import AdapterSpec, attach_specs
from workbench.adapters.base import Adapter
from workbench.adapters.linear import LoraLinear
from workbench.core.errors import ConfigError
from workbench.model import Transformer

Stir = Callable[..., None]
LAYER = "blocks.0.attention.q_proj"


def loud(_: str, adapter: Adapter) -> None:
    """Values that nobody could overlook in the output."""
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.fill_(0.5)


@pytest.mark.parametrize("chosen", [{}, None])
def test_a_choice_made_before_the_first_adapter_holds(model: Transformer, ids: torch.Tensor, chosen: dict[str, float] | None) -> None:
    with torch.no_grad():
        bare = model(ids)
        with disabled(model) if chosen is None else selected(model, chosen):
            attach_specs(model, {LAYER: AdapterSpec("lora", 2, 4.0)}, "default", loud)
            assert torch.equal(model(ids), bare)
        assert not torch.equal(model(ids), bare)


def test_an_adapter_is_out_of_reach_until_it_is_filled(model: Transformer, ids: torch.Tensor) -> None:
    with torch.no_grad():
        bare = model(ids)
        seen = []

        def fill(layer: str, adapter: Adapter) -> None:
            loud(layer, adapter)
            seen.append(model(ids))
            assert not any(isinstance(m, LoraLinear) for m in model.modules())
            assert adapter_names(model) == ()

        names = [n for n, m in model.named_modules() if n.endswith("_proj")]
        attach_specs(model, dict.fromkeys(names, AdapterSpec("lora", 2, 4.0)), "default", fill)
        assert len(seen) == len(names)
        assert all(torch.equal(s, bare) for s in seen)


def test_a_failed_start_leaves_the_model_as_it_was(model: Transformer) -> None:
    def fill(layer: str, adapter: Adapter) -> None:
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        attach_specs(model, {LAYER: AdapterSpec("lora", 2, 4.0)}, "default", fill)
    assert (adapter_names(model), strengths(model)) == ((), {})
    assert all(p.requires_grad for p in model.parameters())
    assert not any(isinstance(m, LoraLinear) for m in model.modules())


def test_attached_at_zero_it_waits_to_be_chosen(model: Transformer, ids: torch.Tensor, trained: Stir) -> None:
    with torch.no_grad():
        bare = model(ids)
        attach(model, LoraConfig(r=2), strength=0.0)
        trained(model)
        assert torch.equal(model(ids), bare)
        with selected(model, {"default": 1.0}):
            assert not torch.equal(model(ids), bare)
        detach(model, "default")
        assert torch.equal(model(ids), bare)


def test_a_chat_never_notices_what_is_attached_and_detached(model: Transformer, ids: torch.Tensor) -> None:
    """One thread runs the bare model, one a chosen adapter that is taken away now and then; a third keeps changing things."""
    specs = {n: AdapterSpec("lora", 2, 4.0) for n, _ in model.named_modules() if n.endswith("_proj")}
    stop, wrong, steps = threading.Event(), [], [0, 0]
    with torch.no_grad():
        bare = model(ids)

    def chat(which: int) -> None:
        with torch.no_grad():
            while not stop.is_set():
                try:
                    with selected(model, {"a": 1.0} if which and "a" in adapter_names(model) else {}):
                        out = model(ids)
                    if which:
                        trainable_parameters(model, "a")
                    elif not torch.equal(out, bare):
                        wrong.append("the bare model changed")
                    steps[which] += 1
                except ConfigError:  # gone between the question and the choice
                    continue
                except Exception as error:
                    wrong.append(repr(error))

    threads = [threading.Thread(target=chat, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(40):
            attach_specs(model, specs, "a", loud)
            attach_specs(model, specs, "b", loud)
            scale(model, "b", 0.5)
            detach(model, "a")
            detach(model, "b")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert steps[0] > 0


def test_two_threads_cannot_take_one_name(model: Transformer) -> None:
    gate, results = threading.Barrier(4), []

    def take() -> None:
        gate.wait(10)
        try:
            attach(model, LoraConfig(r=1), "mine")
            results.append("taken")
        except ConfigError:
            results.append("refused")

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["refused"] * 3 + ["taken"]


def test_merged_flags_follow(model: Transformer, trained: Stir) -> None:
    attach(model, LoraConfig(r=2))
    trained(model)
    merge(model)
    twin = copy.deepcopy(model)
    for each in (model, twin):
        with pytest.raises(ConfigError, match="merged"), selected(each, {}):
            pass
        with selected(each, {"default": 1.0}):
            pass
        unmerge(each)
        with selected(each, {}):
            pass


def test_a_model_that_was_selected_on_copies_and_pickles(model: Transformer, ids: torch.Tensor) -> None:
    with selected(model, {}):
        pass
    twin = copy.deepcopy(model)
    attach(twin, LoraConfig(r=1), "only-here")
    assert (adapter_names(model), adapter_names(twin)) == ((), ("only-here",))
    again = pickle.loads(pickle.dumps(model))
    torch.testing.assert_close(again(ids), model(ids), rtol=1e-5, atol=1e-5)


def test_choosing_is_cheap(model: Transformer) -> None:
    """It happens once per token; walking the modules took milliseconds."""
    attach(model, LoraConfig(r=1))

    def choose() -> None:
        with selected(model, {"default": 1.0}):
            pass

    assert min(timeit.repeat(choose, number=200, repeat=5)) / 200 < 50e-6
