"""What the norm placements promise about gradients at initialisation (Xiong et al. 2020, arXiv:2002.04745; DeepNet,
arXiv:2203.00555; OLMo 2, arXiv:2501.00656), in small: Xavier weights, ReLU, LayerNorm, random tokens, two seeds."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.model import ModelConfig, Transformer, build_model

V, C = 512, 64
DEPTHS = (4, 8, 16, 32)
SEEDS = 2


class Start(NamedTuple):
    """A fresh model seen from outside, averaged over the seeds: ‖∂loss/∂W₂‖ of each layer's MLP, and E‖x‖²/C of the stream
    after the embedding and after each block."""

    gradients: list[float]
    stream: list[float]


def model(placement: str, depth: int, seed: int, qk_norm: str, init: str) -> Transformer:
    config = ModelConfig(
        vocab_size=V, n_layers=depth, d_model=C, n_heads=4, max_positions=64, position="none", norm="layernorm", residual=placement,
        mlp="relu", attention_bias=True, attention_out_bias=True, mlp_bias=True, tie_embeddings=False, qk_norm=qk_norm, init=init,
    )  # type: ignore[arg-type]  # fmt: skip
    made = build_model(config, seed=seed)
    with torch.no_grad():  # a stream of unit variance, as the analysis assumes
        made.embedding.weight.normal_(generator=torch.Generator().manual_seed(seed))
    return made


@cache
def start(placement: str, depth: int, qk_norm: str = "off", init: str = "xavier") -> Start:
    gradients, stream = torch.zeros(depth), torch.zeros(depth + 1)
    for seed in range(SEEDS):
        made = model(placement, depth, seed, qk_norm, init)
        text = torch.randint(V, (4, 33), generator=torch.Generator().manual_seed(seed))
        seen: list[Tensor] = [made.embedding.weight.detach()[text].square().mean()]
        for block in made.blocks:
            block.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out.detach().square().mean()))
        F.cross_entropy(made(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten()).backward()
        gradients += torch.stack([block.mlp.down_proj.weight.grad.norm() for block in made.blocks])  # type: ignore[union-attr]
        stream += torch.stack(seen)
    return Start((gradients / SEEDS).tolist(), (stream / SEEDS).tolist())


def last(placement: str, init: str = "xavier") -> list[float]:
    """The gradient of the last layer for each depth."""
    return [start(placement, depth, init=init).gradients[-1] for depth in DEPTHS]


def power(values: list[float]) -> float:
    """p of the best fit values ∝ L^p over the depths."""
    x, y = torch.tensor(DEPTHS, dtype=torch.float64).log(), torch.tensor(values, dtype=torch.float64).log()
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())


# ---- Xiong's theorem 1 ---------------------------------------------------------------------------------------------


def test_post_norm_the_last_gradient_does_not_shrink_with_depth() -> None:
    """‖∂L/∂W₂‖ of the last layer is independent of L."""
    assert power(last("post")) == pytest.approx(0.0, abs=0.12)
    assert max(last("post")) < 1.3 * min(last("post"))


def test_pre_norm_the_last_gradient_shrinks_with_the_root_of_the_depth() -> None:
    """Proportional to L^−½."""
    assert power(last("pre")) == pytest.approx(-0.5, abs=0.1)
    assert last("pre")[0] / last("pre")[-1] == pytest.approx(math.sqrt(8), rel=0.25)


def test_the_two_placements_part_with_depth() -> None:
    assert last("post")[-1] > 4 * last("pre")[-1]


def test_pre_norm_profiles_are_flat_with_gpt2s_weights_and_fall_with_xaviers() -> None:
    """Facts §4.5: what is said of pre-norm ("equal over the layers") holds for small weights, not for Xavier's."""
    for depth in DEPTHS:
        flat = start("pre", depth, init="gpt2").gradients
        assert max(flat) < 1.1 * min(flat)
    falling = start("pre", 32).gradients
    assert falling[0] > 3 * falling[-1]


# ---- DeepNorm ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", DEPTHS)
def test_deepnorm_gradients_are_flat_over_the_layers(depth: int) -> None:
    layers = start("deepnorm", depth, init="deepnorm").gradients
    assert max(layers) < 1.15 * min(layers)


def test_deepnorm_bounds_the_update_of_deep_models() -> None:
    """Each layer's gradient shrinks with L^−½, so that L layers together move no more than a few."""
    assert power(last("deepnorm", "deepnorm")) == pytest.approx(-0.5, abs=0.1)


# ---- norms on what leaves a branch ---------------------------------------------------------------------------------


def test_reordered_norms_explode_in_the_lower_layers_without_qk_norm() -> None:
    """Attention sees the raw stream, which grows, so that its scores saturate."""
    first = [start("reordered", depth).gradients[0] for depth in DEPTHS]
    assert first == sorted(first)
    assert first[-1] > 10 * first[0]


@pytest.mark.parametrize("kind", ["head", "full"])
def test_qk_norm_mends_it(kind: str) -> None:
    """Why OLMo 2 pairs the two."""
    first = [start("reordered", depth, kind).gradients[0] for depth in DEPTHS]
    assert max(first) < 1.3 * min(first)
    assert start("reordered", 32).gradients[0] > 10 * first[-1]


# ---- the size of the stream: Xiong's lemma 2 -----------------------------------------------------------------------


@pytest.mark.parametrize(("placement", "init"), [("post", "xavier"), ("deepnorm", "deepnorm")])
def test_a_normalised_stream_keeps_its_size(placement: str, init: str) -> None:
    assert start(placement, 16, init=init).stream[1:] == pytest.approx([1.0] * 16, rel=1e-3)


def test_a_pre_norm_stream_grows_linearly() -> None:
    """(1 + l/2) ≤ E‖x_l‖²/C ≤ (1 + 3l/2), on a line."""
    sizes = start("pre", 32).stream
    for layer, size in enumerate(sizes):
        assert 0.95 * (1 + layer / 2) <= size <= 1.05 * (1 + 3 * layer / 2)
    line = torch.corrcoef(torch.stack((torch.arange(33.0), torch.tensor(sizes))))[0, 1]
    assert float(line) > 0.99


@pytest.mark.parametrize(("placement", "qk_norm"), [("double", "off"), ("reordered", "head")])
def test_norms_on_branch_ends_add_two_unit_vectors_per_block(placement: str, qk_norm: str) -> None:
    for layer, size in enumerate(start(placement, 16, qk_norm).stream):
        assert size == pytest.approx(1 + 2 * layer, rel=0.15)
