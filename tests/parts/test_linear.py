"""The linear layer: the one-row way, and linears that lie below each other in memory."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.model.surgery import replace
from workbench.parts.linear import Corrected, Joined, Joint, Linear, is_one_row, one_row
from workbench.parts.mlps import MLPS


def fill(module: nn.Module, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


def linear(outputs: int = 12, inputs: int = 8, bias: bool = True, dtype: torch.dtype = torch.float32) -> Any:
    return fill(Linear(inputs, outputs, bias, dtype=dtype))


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


# ---- one linear ----------------------------------------------------------------------------------------------------


def test_it_is_an_nn_linear_with_the_same_state() -> None:
    ours, theirs = linear(), nn.Linear(8, 12)
    assert isinstance(ours, nn.Linear)
    assert {n: t.shape for n, t in ours.state_dict().items()} == {n: t.shape for n, t in theirs.state_dict().items()}
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 5, 8)
    assert torch.equal(ours(x), theirs(x))
    assert linear(bias=False).bias is None
    assert "8" in repr(ours)


def test_it_draws_no_random_numbers() -> None:
    state = torch.get_rng_state()
    Linear(64, 64)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("outputs", [1, 2, 5, 12, 64])
@pytest.mark.parametrize("shape", [(8,), (1, 8), (1, 1, 8)])
@pytest.mark.parametrize("bias", [False, True])
def test_one_row_equals_the_plain_product(threads: int, outputs: int, shape: tuple[int, ...], bias: bool) -> None:
    layer = linear(outputs, bias=bias)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    wanted = nn.functional.linear(x, layer.weight, layer.bias)
    with torch.no_grad():
        assert is_one_row(x, layer.weight) == (outputs >= threads > 1)
        out = layer(x)
    assert out.shape == wanted.shape
    torch.testing.assert_close(out, wanted.detach(), rtol=1e-5, atol=1e-5)


def test_one_row_takes_rows_of_any_layout() -> None:
    layer = linear()
    wide = torch.randn(8, 3)
    row = wide[:, 1][None, None]  # stride 3
    with torch.no_grad():
        torch.testing.assert_close(layer(row), row @ layer.weight.T + layer.bias)


def test_one_row_leaves_weight_bias_and_input_alone() -> None:
    layer, x = linear(), torch.randn(1, 1, 8)
    before = [t.clone() for t in (layer.weight, layer.bias, x)]
    with torch.no_grad():
        first = layer(x).clone()
        assert torch.equal(layer(x), first)
    assert all(torch.equal(a, b) for a, b in zip((layer.weight, layer.bias, x), before, strict=True))


def test_one_row_serves_only_where_it_may() -> None:
    weight, row = torch.randn(12, 8), torch.randn(1, 8)
    assert not is_one_row(row, weight)  # a gradient may be wanted
    with torch.no_grad():
        assert is_one_row(row, weight)
        assert not is_one_row(torch.randn(2, 8), weight)
        assert not is_one_row(row.double(), weight.double())
        assert not is_one_row(row.bfloat16(), weight.bfloat16())
        assert not is_one_row(row.to("meta"), weight)
        with torch.autocast("cpu"):
            assert not is_one_row(row, weight)
        torch.testing.assert_close(one_row(row, weight), row @ weight.T)


def test_a_weight_of_another_layout_still_multiplies() -> None:
    layer = linear()
    wanted = layer.weight.detach().clone()
    layer.weight.data = wanted.T.contiguous().T
    x = torch.randn(1, 1, 8)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), x @ wanted.T + layer.bias)


def test_gradients_and_autocast_are_torchs() -> None:
    layer, x = linear(), torch.randn(1, 8, requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0, keepdim=True).detach())
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert layer(x).dtype == torch.bfloat16


# ---- joined linears ------------------------------------------------------------------------------------------------


class Pair(Joined):
    """Two linears of one input, as attention and gated MLPs have them."""

    def __init__(self, bias: bool = False, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.first = Linear(8, 6, bias, dtype=dtype)
        self.second = Linear(8, 4, bias, dtype=dtype)
        self.joint = Joint(self.first, self.second)

    def forward(self, x: Tensor) -> Tensor | None:
        return self.joint(x, self.first, self.second)

    def apart(self, x: Tensor) -> Tensor:
        return torch.cat((self.first(x), self.second(x)), -1)


@pytest.fixture
def pair() -> Any:
    return fill(Pair())


def works(pair: Any, x: Tensor | None = None) -> bool:
    """True when the joint product was taken; it must then be right."""
    x = torch.randn(2, 3, 8, dtype=pair.second.weight.dtype) if x is None else x
    with torch.no_grad():
        joint = pair(x)
        if joint is None:
            return False
        torch.testing.assert_close(joint, pair.apart(x), rtol=1e-5, atol=1e-5)
    return True


@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 1, 8), (8,)])
def test_one_product_serves_both(pair: Any, shape: tuple[int, ...], threads: int) -> None:
    assert works(pair, torch.randn(shape))


def test_weights_keep_their_names_shapes_and_values(pair: Any) -> None:
    state = pair.state_dict()
    assert {n: tuple(t.shape) for n, t in state.items()} == {"first.weight": (6, 8), "second.weight": (4, 8)}
    assert torch.equal(torch.cat((pair.first.weight, pair.second.weight)), pair.joint.weight)
    assert len({t.untyped_storage().data_ptr() for t in state.values()}) == 1
    assert all(t.is_contiguous() for t in state.values())


def test_training_one_of_them_is_seen_by_the_joint(pair: Any) -> None:
    x = torch.randn(2, 8)
    pair.apart(x).square().sum().backward()
    torch.optim.SGD(pair.parameters(), lr=0.1).step()
    assert works(pair)


@pytest.mark.parametrize("narrow", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("bias", [False, True])
def test_the_joint_gradients_are_the_separate_ones(bias: bool, narrow: bool) -> None:
    found = []
    for way in (lambda pair, x: pair(x), lambda pair, x: pair.apart(x)):
        torch.manual_seed(0)
        pair, x = fill(Pair(bias)), torch.randn(5, 7, 8, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            out = way(pair, x)
        (out.float() * torch.linspace(-1, 1, 10)).sum().backward()
        found.append([out.float(), x.grad, *(p.grad for p in pair.parameters())])
    for joint, apart in zip(*found, strict=True):
        assert joint.dtype == apart.dtype == torch.float32
        torch.testing.assert_close(joint, apart, rtol=0.02 if narrow else 1e-5, atol=0.05 if narrow else 1e-5)


def test_it_steps_back_where_not_all_of_it_is_trained(pair: Any) -> None:
    assert pair(torch.randn(2, 8)) is not None
    pair.second.weight.requires_grad_(False)
    assert pair(torch.randn(2, 8)) is None
    with torch.inference_mode():
        assert pair(torch.randn(2, 8)) is not None


def test_it_steps_back_for_biases() -> None:
    assert not works(fill(Pair(bias=True)))


def test_under_autocast_the_result_is_the_separate_one(pair: Any) -> None:
    x = torch.randn(2, 3, 8)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        joint, apart = pair(x), pair.apart(x)
    if joint is not None:
        assert joint.dtype == apart.dtype == torch.bfloat16
        torch.testing.assert_close(joint, apart)


@pytest.mark.parametrize(
    "move",
    [lambda m: m.to(torch.bfloat16), lambda m: m.double(), lambda m: m.to(torch.bfloat16).float(), lambda m: m.to("cpu"), copy.deepcopy],
    ids=["bfloat16", "double", "there and back", "cpu", "deepcopy"],
)
def test_it_survives_being_moved(pair: Any, move: Any) -> None:
    before = [p.detach().clone() for p in pair.parameters()]
    moved = move(pair)
    assert works(moved)
    for parameter, was in zip(moved.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach().float(), was, rtol=0.01, atol=0.01)
    assert moved.joint.weight.data_ptr() == moved.first.weight.data_ptr()


def test_a_copy_shares_nothing(pair: Any) -> None:
    twin = copy.deepcopy(pair)
    with torch.no_grad():
        twin.first.weight.zero_()
    assert works(pair)
    assert works(twin)
    assert pair.first.weight.abs().sum() > 0
    assert twin.joint.linears[0] is twin.first


def test_loading_in_place_keeps_it_and_assigning_steps_back(pair: Any) -> None:
    state = {n: torch.randn(t.shape) for n, t in pair.state_dict().items()}
    pair.load_state_dict(state)
    assert works(pair)
    assert torch.equal(pair.first.weight, state["first.weight"])
    pair.load_state_dict({n: t.clone() for n, t in state.items()}, assign=True)
    assert not works(pair)
    pair.to("cpu")  # laid side by side again
    assert works(pair)
    assert torch.equal(pair.first.weight, state["first.weight"])


def test_the_meta_device_allocates_nothing(pair: Any) -> None:
    meta = pair.to("meta")
    assert meta.joint.weight.device.type == "meta"
    assert meta.first.weight.shape == (6, 8)


class Wrapper(nn.Module):
    """Holds what it replaces, as an adapter does."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        return out + 1


def test_a_wrapped_linear_is_asked_by_itself_and_comes_back(pair: Any) -> None:
    base = pair.first
    replace(pair, "first", Wrapper(base))
    assert not works(pair)
    pair.to(torch.float64)
    assert pair.second.weight.dtype == pair.first.base.weight.dtype == torch.float64
    replace(pair, "first", base)
    assert works(pair)


def test_a_replaced_linear_does_not_drag_its_neighbours_back(pair: Any) -> None:
    """Joining again after a move must not read the weight of a linear that is gone, and was not moved."""
    replace(pair, "first", nn.Linear(8, 6, bias=False))
    kept = pair.second.weight.detach().clone()
    pair.to(torch.bfloat16)
    assert pair.second.weight.dtype == torch.bfloat16
    torch.testing.assert_close(pair.second.weight.detach().float(), kept, rtol=0.01, atol=0.01)
    assert not works(pair)


def test_a_linear_set_by_hand_does_not_drag_them_back_either(pair: Any) -> None:
    pair.first = nn.Linear(8, 6, bias=False)
    pair.to(torch.bfloat16)
    assert pair.second.weight.dtype == torch.bfloat16
    assert not works(pair)


def test_replaced_linears_are_let_go(pair: Any) -> None:
    """A quantized model must not keep its old weights in memory through the joint."""
    gone = [weakref.ref(pair.first), weakref.ref(pair.second), weakref.ref(pair.first.weight)]
    for name in ("first", "second"):
        replace(pair, name, nn.Linear(8, 6, bias=False))
    gc.collect()
    assert [g() for g in gone] == [None, None, None]
    assert pair.joint.weight.numel() == 0
    assert not works(pair)
    assert not works(copy.deepcopy(pair))


@pytest.mark.parametrize("kind", ["swiglu", "geglu"])
def test_gated_mlps_are_the_same_joined_and_apart(kind: str) -> None:
    mlp = fill(MLPS.choose(kind).make(width=8, hidden=10, bias=False))
    x = torch.randn(2, 3, 8)
    with torch.no_grad():
        joined = mlp(x)
        replace(mlp, "up_proj", Wrapper(mlp.up_proj))
        mlp.up_proj.forward = mlp.up_proj.base.forward
        torch.testing.assert_close(mlp(x), joined)
    torch.testing.assert_close(mlp(x).detach(), joined)


class Correction(Corrected):
    """Adds a constant: in place, or to a new tensor."""

    def __init__(self, base: nn.Module, in_place: bool) -> None:
        super().__init__()
        self.base, self.in_place = base, in_place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.correct(x, self.base(x))

    def correct(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return out.add_(x.sum(-1, keepdim=True)) if self.in_place else out + x.sum(-1, keepdim=True)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 1, 8)])
def test_a_corrected_linear_keeps_its_place_in_the_joint_product(pair: Any, in_place: bool, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    with torch.no_grad():
        before = pair.apart(x)
        replace(pair, "second", Correction(pair.second, in_place))
        assert works(pair, x)
        torch.testing.assert_close(
            pair(x) - before, torch.cat((torch.zeros_like(before[..., :6]), x.sum(-1, keepdim=True).expand(*shape[:-1], 4)), -1)
        )


def test_a_copy_that_shares_its_weights_leaves_the_original_joined(pair: Any) -> None:
    """As planning an export copies a model: its parameters go over as they are, and the chat goes on with the fast product."""
    twin = copy.deepcopy(pair, {id(p): p for p in pair.parameters()})
    assert twin.first.weight is pair.first.weight
    assert works(pair)
    assert works(twin)
    assert twin.joint.weight.data_ptr() == pair.joint.weight.data_ptr()
