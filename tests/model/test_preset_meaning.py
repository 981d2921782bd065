"""Presets of architectures that no checkpoint family reads compute what the originals compute: the same weights, shrunk to a few
layers, give the same logits as torch's Transformer layers, and as transformers' GPT-1 and BLOOM."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.model import PRESETS, Transformer, build_model

LAYERS, WIDTH, HEADS, VOCABULARY = 2, 32, 4, 61


def shrunk(name: str) -> Transformer:
    """The preset with few and small layers, every parameter random."""
    config = replace(
        PRESETS[name].config,
        n_layers=LAYERS,
        d_model=WIDTH,
        n_heads=HEADS,
        n_kv_heads=None,
        d_ff=None,
        vocab_size=VOCABULARY,
        max_positions=24,
    )
    model = build_model(config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_(drawn + 1 if parameter.dim() == 1 and name.endswith("weight") else drawn)
    return model.requires_grad_(False)


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(VOCABULARY, (2, 13), generator=torch.Generator().manual_seed(1))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_transformer_2017_is_torchs_layers_between_waves_and_a_tied_head(ids: Tensor) -> None:
    model = shrunk("transformer-2017")
    state = model.state_dict()
    rates = 10000.0 ** (-torch.arange(0, WIDTH, 2, dtype=torch.float64) / WIDTH)
    angles = torch.arange(13, dtype=torch.float64)[:, None] * rates
    x = state["embedding.weight"][ids] * math.sqrt(WIDTH) + torch.stack((angles.sin(), angles.cos()), -1).flatten(1).float()
    mask = nn.Transformer.generate_square_subsequent_mask(13)
    for index in range(LAYERS):
        block = {n.removeprefix(f"blocks.{index}."): t for n, t in state.items() if n.startswith(f"blocks.{index}.")}
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "relu", batch_first=True, norm_first=False).eval()
        layer.load_state_dict({
            "self_attn.in_proj_weight": torch.cat([block[f"attention.{n}_proj.weight"] for n in "qkv"]),
            "self_attn.in_proj_bias": torch.zeros(3 * WIDTH),
            "self_attn.out_proj.weight": block["attention.o_proj.weight"], "self_attn.out_proj.bias": torch.zeros(WIDTH),
            "linear1.weight": block["mlp.up_proj.weight"], "linear1.bias": block["mlp.up_proj.bias"],
            "linear2.weight": block["mlp.down_proj.weight"], "linear2.bias": block["mlp.down_proj.bias"],
            "norm1.weight": block["residual.attention_norm.weight"], "norm1.bias": block["residual.attention_norm.bias"],
            "norm2.weight": block["residual.mlp_norm.weight"], "norm2.bias": block["residual.mlp_norm.bias"],
        })  # fmt: skip
        x = layer(x, src_mask=mask)
    close(model(ids), x @ state["embedding.weight"].T)


def theirs(kind: str, weights: dict[str, Tensor], **settings: Any) -> Any:
    """transformers' model with exactly these weights."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(vocab_size=VOCABULARY, **settings)
    model = getattr(transformers, {"OpenAIGPT": "OpenAIGPTLMHeadModel"}.get(kind, f"{kind}ForCausalLM"))(config).eval()
    loaded = model.load_state_dict({f"transformer.{n}": t for n, t in weights.items()}, strict=False)
    assert not loaded.unexpected_keys
    assert set(loaded.missing_keys) <= {"lm_head.weight"}
    model.tie_weights()
    return model


def norms(block: dict[str, Tensor], ours: str, name: str) -> dict[str, Tensor]:
    return {f"{name}.{n}": block[f"residual.{ours}.{n}"] for n in ("weight", "bias")}


@pytest.mark.parity
@torch.no_grad()
def test_gpt1_is_transformers_gpt1(ids: Tensor) -> None:
    model = shrunk("gpt1")
    state = model.state_dict()
    weights = {"tokens_embed.weight": state["embedding.weight"], "positions_embed.weight": state["position.weight"]}
    for index in range(LAYERS):
        block = {n.removeprefix(f"blocks.{index}."): t for n, t in state.items() if n.startswith(f"blocks.{index}.")}
        qkv = [{k: block[f"attention.{n}_proj.{k}"] for k in ("weight", "bias")} for n in "qkv"]
        given = {
            "attn.c_attn.weight": torch.cat([p["weight"] for p in qkv]).T, "attn.c_attn.bias": torch.cat([p["bias"] for p in qkv]),
            **norms(block, "attention_norm", "ln_1"), **norms(block, "mlp_norm", "ln_2"),
        }  # fmt: skip
        for ours, name in (("attention.o_proj", "attn.c_proj"), ("mlp.up_proj", "mlp.c_fc"), ("mlp.down_proj", "mlp.c_proj")):
            given |= {f"{name}.weight": block[f"{ours}.weight"].T, f"{name}.bias": block[f"{ours}.bias"]}
        weights |= {f"h.{index}.{n}": t for n, t in given.items()}
    reference = theirs("OpenAIGPT", weights, n_positions=24, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS)
    close(model(ids), reference(ids).logits)


@pytest.mark.parity
@torch.no_grad()
def test_bloom_is_transformers_bloom(ids: Tensor) -> None:
    model = shrunk("bloom-560m")
    state = model.state_dict()
    weights = {"word_embeddings.weight": state["embedding.weight"]}
    for kind in ("weight", "bias"):
        weights |= {f"word_embeddings_layernorm.{kind}": state[f"embedding_norm.{kind}"], f"ln_f.{kind}": state[f"final_norm.{kind}"]}
    for index in range(LAYERS):
        block = {n.removeprefix(f"blocks.{index}."): t for n, t in state.items() if n.startswith(f"blocks.{index}.")}
        fused = {}
        for kind in ("weight", "bias"):
            parts = [block[f"attention.{n}_proj.{kind}"].unflatten(0, (HEADS, -1)) for n in "qkv"]
            fused[f"self_attention.query_key_value.{kind}"] = torch.stack(parts, 1).flatten(0, 2)
        given = {**fused, **norms(block, "attention_norm", "input_layernorm"), **norms(block, "mlp_norm", "post_attention_layernorm")}
        for ours, name in (
            ("attention.o_proj", "self_attention.dense"),
            ("mlp.up_proj", "mlp.dense_h_to_4h"),
            ("mlp.down_proj", "mlp.dense_4h_to_h"),
        ):
            given |= {f"{name}.{kind}": block[f"{ours}.{kind}"] for kind in ("weight", "bias")}
        weights |= {f"h.{index}.{n}": t for n, t in given.items()}
    reference = theirs("Bloom", weights, hidden_size=WIDTH, n_layer=LAYERS, n_head=HEADS)
    close(model(ids), reference(ids).logits)
