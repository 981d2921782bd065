"""OpenAI's GPT-1, GPT-2 and GPT-3."""

from __future__ import annotations

from functools import partial
from typing import Any

from workbench.model.config import ModelConfig
from workbench.model.presets.base import Preset


def gpt2(layers: int, width: int, heads: int, **changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "vocab_size": 50257, "n_layers": layers, "d_model": width, "n_heads": heads, "max_positions": 1024,
        "position": "learned", "norm": "layernorm", "mlp": "gelu_tanh",
        "attention_bias": True, "attention_out_bias": True, "mlp_bias": True, "tie_embeddings": True,
    }  # fmt: skip
    return ModelConfig(**{**fields, **changes})


_GPT1 = gpt2(12, 768, 12, vocab_size=40478, max_positions=512, residual="post", init={"kind": "gpt2", "std": 0.02, "scale_residual": False})
_gpt1 = partial(Preset, family="GPT", year=2018, source="Radford et al. 2018 (GPT-1)")
_gpt2 = partial(Preset, family="GPT", year=2019, source="Radford et al. 2019")
_gpt3 = partial(Preset, family="GPT", year=2020, source="arXiv:2005.14165")

_PRE = "Pre-norm with learned positions, GELU and biases everywhere"
_DENSE = "Every layer attends densely here; the original alternates with locally banded sparse attention"


def _third(layers: int, width: int, heads: int) -> ModelConfig:
    return gpt2(layers, width, heads, max_positions=2048)


MEMBERS = (
    _gpt1(
        "gpt1", "GPT-1 (117M)", "The last of the post-norm decoders: learned positions, GELU and tied embeddings, 512 tokens.",
        _GPT1, 116_534_784,
    ),
    _gpt2("gpt2", "GPT-2 (124M)", f"{_PRE}; 12 layers of width 768.", gpt2(12, 768, 12), 124_439_808),
    _gpt2("gpt2-medium", "GPT-2 Medium (355M)", f"{_PRE}; 24 layers of width 1024.", gpt2(24, 1024, 16), 354_823_168),
    _gpt2("gpt2-large", "GPT-2 Large (774M)", f"{_PRE}; 36 layers of width 1280.", gpt2(36, 1280, 20), 774_030_080),
    _gpt2("gpt2-xl", "GPT-2 XL (1.6B)", f"{_PRE}; 48 layers of width 1600.", gpt2(48, 1600, 25), 1_557_611_200),
    _gpt3("gpt3-125m", "GPT-3 Small (125M)", f"{_DENSE}.", _third(12, 768, 12), 125_226_240),
    _gpt3("gpt3-350m", "GPT-3 Medium (350M)", f"{_DENSE}.", _third(24, 1024, 16), 355_871_744),
    _gpt3("gpt3-760m", "GPT-3 Large (760M)", f"{_DENSE}.", _third(24, 1536, 16), 760_300_032),
    _gpt3(
        "gpt3-1.3b", "GPT-3 XL (1.3B)", f"{_DENSE}; it has 16 heads of 128, because the printed 24 fit neither width 2048 nor 1.3 B.",
        _third(24, 2048, 16), 1_315_723_264,
    ),
    _gpt3("gpt3-2.7b", "GPT-3 2.7B", f"{_DENSE}.", _third(32, 2560, 32), 2_651_553_280),
    _gpt3("gpt3-6.7b", "GPT-3 6.7B", f"{_DENSE}.", _third(32, 4096, 32), 6_658_404_352),
    _gpt3(
        "gpt3-13b", "GPT-3 13B", f"{_DENSE}; its width is 40 heads of 128 = 5120, where the table prints 5140.",
        _third(40, 5120, 40), 12_853_386_240,
    ),
    _gpt3("gpt3-175b", "GPT-3 175B", f"{_DENSE}.", _third(96, 12288, 96), 174_604_259_328),
)  # fmt: skip
