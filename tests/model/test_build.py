"""The builder and fresh weights: names, shapes, spreads, seeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from workbench.model import ModelConfig, build_model
from workbench.parts.linear import Linear

Make = Callable[..., ModelConfig]


# ---- names and shapes ----------------------------------------------------------------------------------------------


def block(index: int, gated: bool, bias: bool) -> set[str]:
    linears = ["attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj", "mlp.up_proj", "mlp.down_proj"]
    linears += ["mlp.gate_proj"] if gated else []
    names = {f"{n}.weight" for n in linears} | ({f"{n}.bias" for n in linears} if bias else set())
    return {f"blocks.{index}.{n}" for n in names}


def test_state_dict_names_of_a_llama(config: Make) -> None:
    state = build_model(config(n_kv_heads=2)).state_dict()
    wanted = {"embedding.weight", "lm_head.weight", "final_norm.weight"}
    for index in range(2):
        wanted |= block(index, gated=True, bias=False)
        wanted |= {f"blocks.{index}.residual.{n}.weight" for n in ("attention_norm", "mlp_norm")}
    assert set(state) == wanted
    shapes = {n.removeprefix("blocks.0."): tuple(t.shape) for n, t in state.items()}
    assert shapes["attention.q_proj.weight"] == shapes["attention.o_proj.weight"] == (16, 16)
    assert shapes["attention.k_proj.weight"] == shapes["attention.v_proj.weight"] == (8, 16)
    assert shapes["mlp.gate_proj.weight"] == shapes["mlp.up_proj.weight"] == (24, 16)
    assert shapes["mlp.down_proj.weight"] == (16, 24)
    assert shapes["embedding.weight"] == shapes["lm_head.weight"] == (61, 16)


def test_state_dict_names_of_a_gpt2(config: Make) -> None:
    model = build_model(
        config(position="learned", norm="layernorm", mlp="gelu_tanh", attention_bias=True, attention_out_bias=True, mlp_bias=True)
    )
    wanted = {"embedding.weight", "position.weight", "lm_head.weight", "final_norm.weight", "final_norm.bias"}
    for index in range(2):
        wanted |= block(index, gated=False, bias=True)
        wanted |= {f"blocks.{index}.residual.{n}.{k}" for n in ("attention_norm", "mlp_norm") for k in ("weight", "bias")}
    assert set(model.state_dict()) == wanted
    assert model.state_dict()["position.weight"].shape == (24, 16)


def test_qk_norm_is_one_gain_per_head_width(config: Make) -> None:
    state = build_model(config(qk_norm="head", head_dim=6)).state_dict()
    assert state["blocks.1.attention.q_norm.weight"].shape == state["blocks.1.attention.k_norm.weight"].shape == (6,)


def test_biases_are_where_they_were_asked_for(config: Make) -> None:
    def biased(**flags: bool) -> set[str]:
        names = build_model(config(**flags)).state_dict()
        return {n.removeprefix("blocks.0.").removesuffix(".bias") for n in names if n.startswith("blocks.0.") and n.endswith(".bias")}

    assert biased() == set()
    assert biased(attention_bias=True) == {"attention.q_proj", "attention.k_proj", "attention.v_proj"}
    assert biased(attention_out_bias=True) == {"attention.o_proj"}
    assert biased(mlp_bias=True) == {"mlp.up_proj", "mlp.down_proj", "mlp.gate_proj"}


def test_all_linears_are_the_engines(config: Make) -> None:
    model = build_model(config())
    assert all(type(m) is Linear for m in model.modules() if isinstance(m, nn.Linear))
    assert all(t.is_contiguous() for t in model.state_dict().values())


def test_models_come_in_evaluation_mode_with_the_wanted_dtype(config: Make) -> None:
    model = build_model(config(position="learned", norm="layernorm"), dtype=torch.bfloat16)
    assert not any(m.training for m in model.modules())
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16} == {model.dtype}
    assert model.device == torch.device("cpu")
    assert all(p.requires_grad for p in model.parameters())


def test_the_meta_device_allocates_nothing(config: Make) -> None:
    model = build_model(config(position="learned"), device="meta")
    assert {t.device.type for t in model.state_dict().values()} == {"meta"}
    assert model.lm_head.weight is model.embedding.weight


def test_build_leaves_torchs_defaults_alone(config: Make) -> None:
    state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    build_model(config(), dtype=torch.float64)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == dtype


# ---- fresh weights -------------------------------------------------------------------------------------------------

BIG: dict[str, Any] = {"vocab_size": 400, "d_model": 128, "n_heads": 4, "n_kv_heads": 2, "d_ff": 256, "n_layers": 3, "position": "learned",
                       "max_positions": 300, "tie_embeddings": False, "attention_bias": True, "mlp_bias": True}  # fmt: skip


def spread(config: ModelConfig) -> dict[str, float]:
    return {n: float(t.std()) for n, t in build_model(config).state_dict().items() if t.dim() > 1}


def test_gpt2_spreads(config: Make) -> None:
    """N(0, 0.02), branch ends 0.02/√(2L) (facts §4.4)."""
    for name, std in spread(config(**BIG)).items():
        end = name.endswith(("o_proj.weight", "down_proj.weight"))
        assert std == pytest.approx(0.02 / math.sqrt(6) if end else 0.02, rel=0.03), name
    for name, std in spread(config(**BIG, init={"kind": "gpt2", "std": 0.1, "scale_residual": False})).items():
        assert std == pytest.approx(0.1, rel=0.03), name
    assert 0.02 / math.sqrt(2 * 12) == pytest.approx(0.004082, abs=1e-6)


def test_xavier_and_deepnorm_spreads(config: Make) -> None:
    """Variance 2/(in + out); DeepNorm times (8L)^(−¼) on value, output and MLP matrices (facts §4.3)."""
    shapes = {n: t.shape for n, t in build_model(config(**BIG), device="meta").state_dict().items()}
    beta = (8 * 3) ** -0.25
    for kind in ("xavier", "deepnorm"):
        for name, std in spread(config(**BIG, init=kind)).items():
            wanted = math.sqrt(2 / sum(shapes[name]))
            shrunk = kind == "deepnorm" and name.endswith(tuple(f"{n}_proj.weight" for n in ("v", "o", "up", "down", "gate")))
            assert std == pytest.approx(wanted * (beta if shrunk else 1.0), rel=0.03), name


@pytest.mark.parametrize("init", ["gpt2", "xavier", "deepnorm"])
def test_biases_are_zero_and_gains_one(config: Make, init: str) -> None:
    for name, tensor in build_model(config(**BIG, init=init, norm="layernorm", qk_norm="head")).state_dict().items():
        if tensor.dim() == 1:
            assert (tensor == (0 if name.endswith("bias") else 1)).all(), name
    offset = build_model(config(norm={"kind": "rmsnorm", "unit_offset": True})).state_dict()
    assert not offset["final_norm.weight"].any()


CHANGES: list[dict[str, Any]] = [
    {"norm": "layernorm"}, {"residual": "double"}, {"position": "learned"}, {"attention_bias": True, "mlp_bias": True}, {"mlp": "relu"},
    {"n_layers": 4, "init": {"kind": "gpt2", "scale_residual": False}}, {"qk_norm": "head"}, {"tie_embeddings": False}, {"n_kv_heads": 1},
]  # fmt: skip


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_changing_one_part_leaves_the_other_weights_as_they_were(config: Make, changes: dict[str, Any]) -> None:
    """What makes two architectures comparable: every matrix of the same name, shape and spread has the same values."""
    init = changes.get("init", "gpt2")
    before = build_model(config(init=init), seed=3).state_dict()
    after = build_model(config(**changes), seed=3).state_dict()
    shared = [n for n in before if n in after and before[n].shape == after[n].shape]
    assert len(shared) >= 10
    for name in shared:
        if name == "lm_head.weight" and "tie_embeddings" in changes:
            continue  # a tied head is the embedding
        assert torch.equal(before[name], after[name]), name


def test_the_seed_is_the_only_other_thing_that_counts(config: Make) -> None:
    torch.manual_seed(1)
    first = build_model(config(), seed=5).state_dict()
    torch.manual_seed(2)
    second = build_model(config(), seed=5).state_dict()
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert not torch.equal(build_model(config(), seed=6).state_dict()["embedding.weight"], first["embedding.weight"])


def test_half_precision_weights_are_the_rounded_draws_in_spread(config: Make) -> None:
    drawn = build_model(config(**BIG), dtype=torch.bfloat16).state_dict()["blocks.0.mlp.up_proj.weight"]
    assert float(drawn.float().std()) == pytest.approx(0.02, rel=0.03)


def test_without_init_every_parameter_is_there_to_be_overwritten(config: Make) -> None:
    full, bare = build_model(config()), build_model(config(), init=False)
    bare.load_state_dict(full.state_dict())
    ids = torch.arange(6)[None]
    assert torch.equal(bare(ids), full(ids))
