"""GPT-NeoX's architecture in the sizes of Pythia."""

from __future__ import annotations

from functools import partial
from typing import Any

from workbench.model.config import ModelConfig
from workbench.model.presets.base import Preset


def neox(layers: int, width: int, heads: int, vocabulary: int = 50304, **changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "vocab_size": vocabulary, "n_layers": layers, "d_model": width, "n_heads": heads, "max_positions": 2048,
        "position": {"kind": "rope", "rotary_fraction": 0.25}, "norm": "layernorm", "residual": "parallel", "mlp": "gelu",
        "attention_bias": True, "attention_out_bias": True, "mlp_bias": True, "tie_embeddings": False,
    }  # fmt: skip
    return ModelConfig(**{**fields, **changes})


_preset = partial(Preset, family="Pythia (GPT-NeoX)", year=2023, source="arXiv:2304.01373")
_IDEA = "Attention and MLP side by side with a norm each, a quarter of each head rotated, untied"

MEMBERS = (
    _preset("pythia-70m", "Pythia 70M", f"{_IDEA}; 6 layers of width 512.", neox(6, 512, 8), 70_426_624),
    _preset("pythia-160m", "Pythia 160M", f"{_IDEA}; 12 layers of width 768.", neox(12, 768, 12), 162_322_944),
    _preset("pythia-410m", "Pythia 410M", f"{_IDEA}; 24 layers of width 1024.", neox(24, 1024, 16), 405_334_016),
    _preset("pythia-1b", "Pythia 1B", f"{_IDEA}; 16 layers of width 2048.", neox(16, 2048, 8), 1_011_781_632),
    _preset("pythia-1.4b", "Pythia 1.4B", f"{_IDEA}; 24 layers of width 2048.", neox(24, 2048, 16), 1_414_647_808),
    _preset("pythia-2.8b", "Pythia 2.8B", f"{_IDEA}; 32 layers of width 2560.", neox(32, 2560, 32), 2_775_208_960),
    _preset("pythia-6.9b", "Pythia 6.9B", f"{_IDEA}; 32 layers of width 4096.", neox(32, 4096, 32, 50432), 6_857_302_016),
    _preset("pythia-12b", "Pythia 12B", f"{_IDEA}; 36 layers of width 5120.", neox(36, 5120, 40, 50688), 11_846_072_320),
)
