"""The exact layer cache reads later pieces of a prompt tile by tile in bfloat16, and as before everywhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from workbench.caches import KVCache, exact
from workbench.model import ModelConfig, build_model
from workbench.numerics.online import OnlineAttention

TOKENS, CHUNK = 600, 200


def made(**changes: Any) -> Any:
    config = ModelConfig(vocab_size=61, n_layers=2, d_model=64, n_heads=4, n_kv_heads=2, max_positions=700, **changes)
    return build_model(config).requires_grad_(False)


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first slots of all tiles that were read."""
    seen: list[int] = []

    class Watched(OnlineAttention):
        def add(self, k: torch.Tensor, v: torch.Tensor, at: int) -> None:
            seen.append(at)
            super().add(k, v, at)

    monkeypatch.setattr(exact, "OnlineAttention", Watched)
    monkeypatch.setattr(exact, "TILE", 150)
    return seen


@pytest.mark.parametrize("changes", [{}, {"sliding_window": 90}, {"attention_softcap": 20.0}, {"position": "alibi"}], ids=str)
def test_a_prompt_in_pieces_is_as_near_to_float32_as_at_once(changes: dict[str, Any], tiles: list[int]) -> None:
    model = made(**changes)
    ids = torch.randint(61, (1, TOKENS), generator=torch.Generator().manual_seed(1))
    wanted = model(ids)
    cache = KVCache.for_model(model)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        once = model(ids)
        pieces = torch.cat([model(ids[:, at : at + CHUNK], cache) for at in range(0, TOKENS, CHUNK)], 1)
    errors = [float((out.float() - wanted).norm() / wanted.norm()) for out in (pieces, once)]
    assert errors[0] < 1.3 * errors[1] < 0.03
    if "sliding_window" in changes:
        assert set(tiles) == {111, 261, 311, 461}, "tiles begin where the first query of a piece may look"
    else:
        assert set(tiles) == (set() if changes else {0, 150, 300, 450})


def test_single_tokens_float32_and_batches_with_padding_go_the_usual_way(tiles: list[int]) -> None:
    model = made()
    ids = torch.randint(61, (2, 300), generator=torch.Generator().manual_seed(1))
    cache = KVCache.for_model(model, batch=2)
    for at in range(0, 200, 100):
        model(ids[:, at : at + 100], cache)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        model(ids[:, 200:201], cache)
        positions = torch.arange(201, 299)[None].repeat(2, 1)
        positions[1, :5] = -1
        model(ids[:, 201:299], cache, positions=positions)
    assert tiles == []
