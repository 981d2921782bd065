"""Tiny random models of transformers, and the comparisons that every family must pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from workbench.caches import KVCache
from workbench.model import Transformer

TOLERANCE = 1e-4
"""Largest difference of a logit in float32; tiny models stay below 1e-5."""
LENGTH = 23
SIZES = dict(num_hidden_layers=3, hidden_size=32, num_attention_heads=4, intermediate_size=48, vocab_size=101, max_position_embeddings=64)


def classes(kind: str) -> tuple[Any, Any]:
    """transformers' configuration of that kind, and the class that makes models with a head from it."""
    transformers = pytest.importorskip("transformers", reason="parity needs transformers")
    heads = transformers.AutoModelForMaskedLM if kind == "Bert" else transformers.AutoModelForCausalLM
    return getattr(transformers, f"{kind}Config"), heads


def random_twin(kind: str, settings: dict[str, Any], gain: float = 1.0) -> Any:
    """A model whose biases and gains are random too, the gains around `gain`."""
    config, heads = classes(kind)
    torch.manual_seed(0)
    model = heads.from_config(config(**{"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None, **settings})).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.normal_(gain if "norm" in key.lower() or ".ln_" in key else 0.0, 0.3)
    return model


def logits(model: Any, ids: torch.Tensor, **more: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(ids, **more).logits
    return out


def some_ids(vocab: int = 101, batch: int = 2, length: int = LENGTH) -> torch.Tensor:
    return torch.randint(vocab, (batch, length), generator=torch.Generator().manual_seed(1))


def chunked(model: Transformer, ids: torch.Tensor, size: int) -> torch.Tensor:
    cache = KVCache.for_model(model, capacity=ids.shape[1], batch=ids.shape[0])
    with torch.no_grad():
        return torch.cat([model(part, cache=cache) for part in ids.split(size, 1)], 1)


def assert_equal_everywhere(model: Transformer, expected: torch.Tensor, ids: torch.Tensor) -> None:
    """Full, and for models that write: step by step, and in chunks of 3 and 7 through the cache."""
    with torch.no_grad():
        full = model(ids)
    assert (full - expected).abs().max() <= TOLERANCE
    for size in (1, 3, 7) if model.config.causal else ():
        assert (chunked(model, ids, size) - expected).abs().max() <= TOLERANCE, f"chunks of {size}"


def assert_equal_padded(ours: Transformer, theirs: Any, ids: torch.Tensor, left: int = 0, right: int = 0) -> None:
    """The second text is shorter: `left` or `right` of its places are padding, which nothing may see."""
    mask = torch.ones_like(ids)
    mask[1, :left] = 0
    mask[1, ids.shape[1] - right :] = 0
    positions = (mask.cumsum(1) - 1).masked_fill(mask == 0, -1)
    expected = logits(theirs, ids * mask, attention_mask=mask, position_ids=positions.clamp(min=0))
    with torch.no_grad():
        found = ours(ids * mask, positions=positions)
    assert (found - expected)[mask.bool()].abs().max() <= TOLERANCE
