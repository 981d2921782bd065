"""One small model of each idea: about a million parameters over bytes, trained from scratch in minutes on a laptop."""

from __future__ import annotations

from functools import partial
from typing import Any

from workbench.model.presets.base import Preset
from workbench.model.presets.bert import bert
from workbench.model.presets.bloom import bloom
from workbench.model.presets.falcon import falcon
from workbench.model.presets.gemma import gemma2
from workbench.model.presets.gpt import gpt2
from workbench.model.presets.llama import llama
from workbench.model.presets.neox import neox
from workbench.model.presets.olmo import olmo2
from workbench.model.presets.transformer import transformer

_SIZES: dict[str, Any] = {"vocab_size": 259, "max_positions": 256}
_LLAMA: dict[str, Any] = {**_SIZES, "tie_embeddings": True}
_preset = partial(Preset, family="Tiny")

MEMBERS = (
    _preset(
        "tiny-llama", "Tiny LLaMA-style", "RoPE, RMSNorm, SwiGLU; trains from scratch in minutes.",
        llama(4, 128, 4, 4, 344, **_LLAMA), 824_832, year=2023, source="arXiv:2302.13971",
    ),
    _preset(
        "tiny-gpt2", "Tiny GPT-2-style", "Learned positions, LayerNorm, GELU and biases; trains from scratch in minutes.",
        gpt2(4, 128, 4, **_SIZES), 859_264, year=2019, source="Radford et al. 2019",
    ),
    _preset(
        "tiny-transformer-2017", "Tiny Transformer 2017", "Post-norm, sinusoidal positions, ReLU: the first recipe, which needs warm-up.",
        transformer(128, 4, 512, 4, **_SIZES), 824_192, year=2017, source="arXiv:1706.03762",
    ),
    _preset(
        "tiny-bert", "Tiny BERT-style", "Every token sees every other and masked bytes are filled in; it cannot write.",
        bert(4, 128, 4, **_SIZES), 876_547, year=2018, source="arXiv:1810.04805",
    ),
    _preset(
        "tiny-neox", "Tiny GPT-NeoX-style", "Attention and MLP side by side with a norm each, a quarter of each head rotated, untied.",
        neox(4, 128, 4, **_SIZES), 859_648, year=2022, source="arXiv:2204.06745",
    ),
    _preset(
        "tiny-falcon", "Tiny Falcon-style", "A single key/value head for all query heads; attention and MLP side by side after one norm.",
        falcon(4, 128, 4, 1, shared_norm=True, **_SIZES), 722_560, year=2023, source="arXiv:2311.16867",
    ),
    _preset(
        "tiny-alibi", "Tiny ALiBi", "Distance lowers attention scores, so that texts longer than those trained on still work.",
        bloom(4, 128, 4, **_SIZES), 826_752, year=2021, source="arXiv:2108.12409",
    ),
    _preset(
        "tiny-nope", "Tiny NoPE", "No position signal at all; the causal mask alone lets it infer order.",
        llama(4, 128, 4, 4, 344, position="none", **_LLAMA), 824_832, year=2023, source="arXiv:2305.19466",
    ),
    _preset(
        "tiny-deepnorm", "Tiny DeepNorm", "Sixteen thin post-norm layers; an enlarged residual and smaller first weights let them train.",
        gpt2(16, 64, 4, residual="deepnorm", init="deepnorm", **_SIZES), 832_704, year=2022, source="arXiv:2203.00555",
    ),
    _preset(
        "tiny-mistral", "Tiny Mistral-style", "Each token attends to the last 64 only, and two query heads share each key/value head.",
        llama(4, 128, 4, 2, 344, sliding_window=64, **_LLAMA), 759_296, year=2023, source="arXiv:2310.06825",
    ),
    _preset(
        "tiny-qwen3", "Tiny Qwen3-style", "A norm on each head's queries and keys, and heads wider than width / heads.",
        llama(4, 128, 4, 2, 344, head_dim=64, qk_norm="head", **_LLAMA), 956_416, year=2025, source="arXiv:2505.09388",
    ),
    _preset(
        "tiny-olmo2", "Tiny OLMo-2-style", "Norms sit on what leaves each branch, and whole queries and keys are normalised.",
        olmo2(4, 128, 4, 344, **_SIZES), 859_008, year=2025, source="arXiv:2501.00656",
    ),
    _preset(
        "tiny-gemma2", "Tiny Gemma-2-style", "Norms before and after each branch, every second layer sees the last 64 only, soft-capped.",
        gemma2(4, 128, 4, 2, 32, 344, sliding_window=64, **_SIZES), 760_320, year=2024, source="arXiv:2408.00118",
    ),
)  # fmt: skip
