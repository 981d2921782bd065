"""What the norm placements promise about gradients at initialisation (Xiong et al. 2020, arXiv:2002.04745; DeepNet,
arXiv:2203.00555), in small: Xavier weights, ReLU, LayerNorm, random tokens, three seeds."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.model import ModelConfig, Transformer, build_model

V, C = 512, 64
SEEDS = 3


def model(placement: str, depth: int, seed: int) -> Transformer:
    config = ModelConfig(
        vocab_size=V, n_layers=depth, d_model=C, n_heads=4, max_positions=64, position="none", norm="layernorm", residual=placement,
        mlp="relu", attention_bias=True, attention_out_bias=True, mlp_bias=True, tie_embeddings=False,
        init="deepnorm" if placement == "deepnorm" else "xavier",
    )  # type: ignore[arg-type]  # fmt: skip
    made = build_model(config, seed=seed)
    with torch.no_grad():  # a stream of unit variance, as the analysis assumes
        made.embedding.weight.normal_(generator=torch.Generator().manual_seed(seed))
    return made


def tokens(seed: int, count: int) -> Tensor:
    return torch.randint(V, (4, count), generator=torch.Generator().manual_seed(seed))


@cache
def profile(placement: str, depth: int) -> list[float]:
    """‖∂loss/∂W₂‖ of the MLP of each layer, from the first to the last, averaged over the seeds."""
    sums = torch.zeros(depth)
    for seed in range(SEEDS):
        made, text = model(placement, depth, seed), tokens(seed, 33)
        F.cross_entropy(made(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten()).backward()
        sums += torch.stack([block.mlp.down_proj.weight.grad.norm() for block in made.blocks])  # type: ignore[union-attr]
    return [float(s) / SEEDS for s in sums]


@cache
def stream(placement: str, depth: int) -> list[float]:
    """E‖x‖²/C after the embedding and after each block, averaged over the seeds."""
    sizes = torch.zeros(depth + 1)
    for seed in range(SEEDS):
        made = model(placement, depth, seed)
        seen: list[Tensor] = []
        for block in made.blocks:
            block.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out.square().mean()))
        with torch.no_grad():
            made(tokens(seed, 32))
        sizes += torch.stack([made.embedding.weight.detach()[tokens(seed, 32)].square().mean(), *seen])
    return [float(s) / SEEDS for s in sizes]


def test_post_norm_the_last_gradient_does_not_shrink_with_depth() -> None:
    """Theorem 1: ‖∂L/∂W₂‖ of the last layer is independent of L."""
    assert profile("post", 16)[-1] == pytest.approx(profile("post", 4)[-1], rel=0.25)


def test_pre_norm_the_last_gradient_shrinks_with_the_root_of_the_depth() -> None:
    """Theorem 1: proportional to L^−½, so half for four times the depth."""
    assert profile("pre", 4)[-1] / profile("pre", 16)[-1] == pytest.approx(2.0, rel=0.35)


def test_the_two_placements_part_with_depth() -> None:
    assert profile("post", 16)[-1] > 2 * profile("pre", 16)[-1]


@pytest.mark.parametrize("depth", [4, 16])
def test_deepnorm_gradients_are_flat_over_the_layers(depth: int) -> None:
    layers = profile("deepnorm", depth)
    assert max(layers) < 1.25 * min(layers)


def test_deepnorm_bounds_the_update_of_deep_models() -> None:
    assert profile("deepnorm", 4)[-1] / profile("deepnorm", 16)[-1] == pytest.approx(2.0, rel=0.35)


@pytest.mark.parametrize("placement", ["post", "deepnorm"])
def test_a_normalised_stream_keeps_its_size(placement: str) -> None:
    assert stream(placement, 16)[1:] == pytest.approx([1.0] * 16, rel=1e-3)


def test_a_pre_norm_stream_grows_linearly() -> None:
    """Lemma 2: (1 + l/2) ≤ E‖x_l‖²/C ≤ (1 + 3l/2)."""
    for layer, size in enumerate(stream("pre", 16)):
        assert 0.95 * (1 + layer / 2) <= size <= 1.05 * (1 + 3 * layer / 2)


def test_double_norm_adds_two_unit_vectors_per_block() -> None:
    for layer, size in enumerate(stream("double", 16)):
        assert size == pytest.approx(1 + 2 * layer, rel=0.15)
