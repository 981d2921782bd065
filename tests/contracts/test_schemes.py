"""Every quantization scheme keeps what the protocol promises: rounding, products, bytes, gradients, saving, life in a model."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.caches import KVCache
from workbench.core.registry import Choice, Registry
from workbench.model import ModelConfig, Transformer, build_model
from workbench.numerics import jit, low_bit
from workbench.parts.frozen import FrozenJoint, FrozenLinear, FrozenTable
from workbench.quantization import SCHEMES, QuantizationConfig, Scheme, dequantized, plan, quantize, report, twin
from workbench.quantization.base import make_scheme

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "int8": [{}, {"group_size": 32}, {"group_size": 24}],
    "int4": [{"range": "symmetric"}, {"range": "min-max"}, {"range": "min-max", "group_size": 64}],
    "llm-int8": [{}, {"threshold": 1.0}],
}
CASES = [(entry.name, options) for entry in SCHEMES for options in OPTIONS.get(entry.name, [{}])]
SIZES = [(48, 64), (33, 96), (7, 50), (1, 1), (130, 576)]
ROUNDS_ACTIVATIONS = ("int8-dynamic", "llm-int8")


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def choice(request: pytest.FixtureRequest) -> Choice[Scheme]:
    name, options = request.param
    return SCHEMES.choose(name, options)


@pytest.fixture
def scheme(choice: Choice[Scheme]) -> Scheme:
    return make_scheme(choice)


@pytest.fixture(params=["compiled", "plain"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "compiled" and not jit.available():
        pytest.skip("numba is not installed here")
    if request.param == "plain":
        monkeypatch.setattr(jit, "available", lambda: False)
        monkeypatch.setattr(low_bit, "_int_mm", lambda: False)
        monkeypatch.setattr(low_bit, "border", lambda dtype: 0)
    return str(request.param)


def matrix(rows: int, width: int, seed: int = 0) -> Tensor:
    """Rows of very different sizes, one of zeros, and lonely large weights."""
    weight = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    weight *= torch.logspace(-3, 2, rows)[:, None]
    weight[rows // 2] = 0
    weight[:, -1] *= 20
    return weight


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_no_weight_is_off_by_more_than_half_a_step(scheme: Scheme, size: tuple[int, int]) -> None:
    weight = matrix(*size)
    planes = scheme.encode(weight)
    step = scheme.steps(planes, size[1])
    off = (scheme.decode(planes, size[1]) - weight).abs()
    assert (off <= step / 2 * (1 + 1e-5) + 1e-12).all()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_what_is_kept_has_the_announced_shapes_and_bytes(scheme: Scheme, size: tuple[int, int]) -> None:
    planes = scheme.encode(matrix(*size))
    layout = scheme.layout(*size)
    assert {name: (tuple(plane.shape), plane.dtype) for name, plane in planes.items()} == {n: (p.shape, p.dtype) for n, p in layout.items()}
    assert sum(plane.nbytes for plane in planes.values()) == scheme.nbytes(*size)
    assert all(plane.is_contiguous() for plane in planes.values())


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_products_are_those_of_the_decoded_matrix(scheme: Scheme, size: tuple[int, int], rows: int, kernels: str) -> None:
    planes = scheme.encode(matrix(*size))
    x = torch.randn(rows, size[1], generator=torch.Generator().manual_seed(1))
    exact = scheme.decode(planes, size[1]).double()
    found = scheme.multiply(x, planes)
    assert found.dtype == x.dtype
    allowed = 2e-6 * (x.abs().double() @ exact.abs().t())
    if scheme.kind in ROUNDS_ACTIVATIONS:  # each activation is off by half a step of its token at most
        allowed += x.abs().amax(-1, keepdim=True) / 254 * exact.abs().sum(-1)
    assert ((found - x.double() @ exact.t()).abs() <= allowed + 1e-12).all()


def test_products_in_half_precision(scheme: Scheme, kernels: str) -> None:
    planes = scheme.encode(matrix(33, 96))
    for dtype, tolerance in ((torch.bfloat16, 0.02), (torch.float16, 0.004)):
        for rows in (1, 40):
            x = (3000 * torch.randn(rows, 96, generator=torch.Generator().manual_seed(1))).to(dtype)
            wanted = x.double() @ (scheme.decode(planes, 96) / 1000).double().t()
            found = scheme.multiply(x / 1000, planes)
            assert found.dtype == dtype
            assert float((found - wanted).norm() / wanted.norm()) < tolerance + (0.03 if scheme.kind in ROUNDS_ACTIVATIONS else 0)


def test_a_float16_product_does_not_leave_the_type_s_range(scheme: Scheme) -> None:
    planes = scheme.encode(torch.full((4, 512), 0.01))
    assert torch.isfinite(scheme.multiply(torch.full((40, 512), 100.0, dtype=torch.float16), planes)).all()


def test_gradients_are_those_of_the_decoded_matrix(scheme: Scheme) -> None:
    weight = matrix(33, 50)
    layer = FrozenLinear(scheme, scheme.encode(weight), 50, torch.nn.Parameter(torch.ones(33)), torch.float32)
    x = torch.randn(2, 5, 50, requires_grad=True)
    out = layer(x)
    gradient = torch.randn(2, 5, 33)
    out.backward(gradient)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, gradient @ layer.weight, rtol=1e-4, atol=1e-4 * float((gradient @ layer.weight).abs().max()))
    torch.testing.assert_close(layer.bias.grad, gradient.sum((0, 1)))


def test_rows_are_encoded_by_themselves(scheme: Scheme) -> None:
    weight = matrix(20, 64)
    whole = scheme.encode(weight)
    for name, plane in whole.items():
        parts = torch.cat([scheme.encode(weight[:7])[name], scheme.encode(weight[7:])[name]])
        assert torch.equal(parts, plane)


def test_a_token_does_not_depend_on_the_others(kernels: str) -> None:
    scheme = make_scheme(SCHEMES.choose("int8-dynamic"))
    planes = scheme.encode(matrix(33, 96))
    x = torch.randn(40, 96) * torch.logspace(-2, 3, 40)[:, None]
    together = scheme.multiply(x, planes)
    for rows in (1, 2, 5, 16):
        assert torch.equal(scheme.multiply(x[:rows], planes), together[:rows])
    assert torch.equal(scheme.multiply(x[3:4], planes)[0], together[3])


def test_nan_and_infinity_are_passed_on(scheme: Scheme, kernels: str) -> None:
    planes = scheme.encode(matrix(8, 64))
    for bad in (float("nan"), float("inf")):
        x = torch.ones(3, 64)
        x[1, 5] = bad
        out = scheme.multiply(x, planes)
        assert not torch.isfinite(out[1]).any(-1) or not torch.isfinite(out[1]).all()
        assert torch.isfinite(out[[0, 2]]).all() or scheme.kind == "llm-int8"


# ---- in a model ------------------------------------------------------------------------------------------------------


def small(**changes: Any) -> Transformer:
    settings: dict[str, Any] = {
        "vocab_size": 101, "n_layers": 2, "d_model": 48, "n_heads": 4, "n_kv_heads": 2, "d_ff": 80, "max_positions": 64,
        "position": "rope", "norm": "rmsnorm", "mlp": "swiglu", "tie_embeddings": True,
    }  # fmt: skip
    model = build_model(ModelConfig(**{**settings, **changes}), seed=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    return model


VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": {"norm": "layernorm", "mlp": "gelu_tanh", "position": "learned", "attention_bias": True, "attention_out_bias": True,
             "mlp_bias": True, "n_kv_heads": 4},
    "untied": {"tie_embeddings": False, "head_bias": True},
}  # fmt: skip
IDS = torch.randint(0, 101, (2, 9), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("skip", [("*norm*", "*embedding*", "lm_head"), ()], ids=["default", "everything"])
@torch.no_grad()
def test_a_quantized_model_computes_what_its_numbers_say(choice: Choice[Scheme], variant: str, skip: tuple[str, ...]) -> None:
    model = small(**VARIANTS[variant])
    config = QuantizationConfig(scheme=choice, skip=skip)
    planned, before = plan(model, config), model(IDS)
    quantize(model, choice.kind, skip, **choice.arguments())
    found = report(model)
    assert (planned.bytes_before, planned.bytes_after) == (found.bytes_before, found.bytes_after)
    assert found.bytes_after == sum(p.nbytes for p in model.parameters()) < found.bytes_before
    assert [row.name for row in planned.chosen] == [row.name for row in found.rows if row.scheme]
    assert all((row.error is not None) == (row.scheme is not None) for row in found.rows)
    same = dequantized(model)
    tolerance = 0.05 if choice.kind in ROUNDS_ACTIVATIONS else 1e-5
    wanted = same(IDS)
    assert float((model(IDS) - wanted).norm() / wanted.norm()) < tolerance
    assert 0 < float((wanted - before).norm() / before.norm()) < 0.5


@torch.no_grad()
def test_cached_and_joint_is_uncached_and_apart(choice: Choice[Scheme]) -> None:
    if choice.kind == "llm-int8":
        pytest.skip("what counts as an outlier depends on the tokens of the call, as in the paper")
    model = quantize(small(), choice.kind, **choice.arguments())
    whole = model(IDS)
    cache = KVCache.for_model(model, capacity=16, batch=2)
    steps = torch.cat([model(IDS[:, i : i + 1], cache=cache) for i in range(IDS.shape[1])], 1)
    torch.testing.assert_close(steps, whole, rtol=1e-3, atol=1e-3 if choice.kind in ROUNDS_ACTIVATIONS else 1e-4)
    for block in model.blocks:
        assert isinstance(block.attention.joint, FrozenJoint)
        assert isinstance(block.mlp.joint, FrozenJoint)
        x = torch.randn(1, 1, 48)
        joint = block.attention.joint(x, block.attention.q_proj, block.attention.k_proj, block.attention.v_proj)
        apart = torch.cat([layer(x) for layer in (block.attention.q_proj, block.attention.k_proj, block.attention.v_proj)], -1)
        torch.testing.assert_close(joint, apart)


@torch.no_grad()
def test_state_dicts_copies_and_moves_keep_every_bit(choice: Choice[Scheme]) -> None:
    model = quantize(small(), choice.kind, (), **choice.arguments())
    wanted = model(IDS)
    other = quantize(small(), choice.kind, (), **choice.arguments())
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(model.state_dict())
    for found in (deepcopy(model), twin(model), other, model.to("cpu")):
        assert all(torch.equal(a, b) for a, b in zip(found.parameters(), model.parameters(), strict=True))
        torch.testing.assert_close(found(IDS), wanted, rtol=0, atol=1e-6)  # sums depend on where in memory the operands lie
    assert isinstance(model.embedding, FrozenTable)
    assert model.embedding.codes is model.lm_head.codes
    assert deepcopy(model).embedding.codes is not model.embedding.codes
    half = deepcopy(model).to(torch.bfloat16)
    assert half.lm_head.scales.dtype == model.lm_head.scales.dtype
    assert half(IDS).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", SCHEMES.names())
def test_a_kind_explains_itself(kind: str, described: Callable[[Registry[Any], str], None]) -> None:
    described(SCHEMES, kind)
