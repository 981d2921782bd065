"""Adapters written here load in PEFT, and the reverse, with the same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.adapters import LoraConfig, adapters_of, attach
from workbench.adapters.peft import load_adapter, save_adapter
from workbench.adapters.peft_names import naming_of, recognise
from workbench.checkpoints import load_checkpoint
from workbench.checkpoints.families import HF_FAMILIES
from workbench.checkpoints.families.settings import Settings
from workbench.core.fields import from_dict
from workbench.model import ModelConfig, Transformer, build_model
from workbench.model.surgery import linears

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
LIMIT = 1e-5
TARGETS = {
    "gpt2": (["c_attn"], ["c_attn", "c_proj", "c_fc"]),
    "llama": (["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    "gpt_neox": (["query_key_value"], ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]),
    "falcon": (["query_key_value"], ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]),
    "phi": (["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"]),
}
FAMILIES = list(TARGETS)


def theirs(family: str, folder: Path) -> Any:
    """A tiny random model of transformers, saved to `folder` as well."""
    import transformers

    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    configs: dict[str, tuple[Any, dict[str, Any]]] = {
        "gpt2": (transformers.GPT2Config, dict(vocab_size=61, n_positions=32, n_embd=24, n_layer=2, n_head=4)),
        "llama": (transformers.LlamaConfig, {**sizes, "intermediate_size": 48, "num_key_value_heads": 2}),
        "gpt_neox": (transformers.GPTNeoXConfig, {**sizes, "intermediate_size": 48}),
        "falcon": (transformers.FalconConfig, {**sizes, "new_decoder_architecture": True, "num_kv_heads": 2}),
        "phi": (transformers.PhiConfig, {**sizes, "intermediate_size": 48}),
    }
    make, settings = configs[family]
    model: Any = transformers.AutoModelForCausalLM.from_config(make(**settings))
    model.save_pretrained(folder)
    return model.eval()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, 61, (2, 11), generator=torch.Generator().manual_seed(2))


def ours(folder: Path) -> Transformer:
    model: Transformer = load_checkpoint(folder, dtype=torch.float32).model
    return model


def difference(mine: torch.Tensor, reference: torch.Tensor) -> float:
    return float((mine - reference).abs().max())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["lora", "rslora"])
@pytest.mark.parametrize("targets", [("all-linear",), ("attention",), ("blocks.1.attention.q_proj", "blocks.0.mlp.down_proj")])
def test_ours_loads_in_peft(family: str, method: str, targets: tuple[str, ...], tmp_path: Path, ids: torch.Tensor) -> None:
    import peft

    reference = theirs(family, tmp_path / "base")
    model = ours(tmp_path / "base")
    attach(model, LoraConfig(method=method, r=3, lora_alpha=5, target_modules=targets))
    with torch.no_grad():
        bare = model(ids)
        for adapter in adapters_of(model, "default").values():
            adapter.B.normal_(0, 0.3)
    save_adapter(model, "default", tmp_path / "adapter", family)
    wrapped = peft.PeftModel.from_pretrained(reference, tmp_path / "adapter").eval()
    with torch.no_grad():
        mine, expected = model(ids), wrapped(ids).logits
    assert difference(mine, bare) > 0.01, "the adapter does something"
    assert difference(mine, expected) <= LIMIT


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
def test_peft_loads_in_ours(family: str, rslora: bool, which: int, tmp_path: Path, ids: torch.Tensor) -> None:
    import peft

    reference = theirs(family, tmp_path / "base")
    config = peft.LoraConfig(
        r=4, lora_alpha=6, use_rslora=rslora, target_modules=TARGETS[family][which], task_type="CAUSAL_LM",
        rank_pattern={"c_attn|q_proj|query_key_value": 2}, alpha_pattern={r"h\.1\.attn\.c_attn|1.self_attn.v_proj|1.*query_key_value": 3},
    )  # fmt: skip
    wrapped = peft.get_peft_model(reference, config).eval()
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
        expected = wrapped(ids).logits
    wrapped.save_pretrained(tmp_path / "adapter")
    model = ours(tmp_path / "base")
    with torch.no_grad():
        bare = model(ids)
        load_adapter(model, tmp_path / "adapter")
        mine = model(ids)
    assert difference(mine, bare) > 0.01
    assert difference(mine, expected) <= LIMIT


@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back_keeps_every_bit(family: str, tmp_path: Path, ids: torch.Tensor) -> None:
    """PEFT -> ours -> PEFT."""
    import peft
    from safetensors.torch import load_file

    reference = theirs(family, tmp_path / "base")
    config = peft.LoraConfig(r=4, target_modules=TARGETS[family][1], task_type="CAUSAL_LM", fan_in_fan_out=family == "gpt2")
    wrapped = peft.get_peft_model(reference, config)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    wrapped.save_pretrained(tmp_path / "one")
    model = ours(tmp_path / "base")
    load_adapter(model, tmp_path / "one", "x")
    save_adapter(model, "x", tmp_path / "two", family)
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("family", [entry.name for entry in HF_FAMILIES])
def test_every_family_has_module_names_for_all_its_layers(family: str) -> None:
    write = HF_FAMILIES[family].make().write
    assert write is not None
    fields = HF_FAMILIES[family].make().read(Settings(write(ModelConfig(vocab_size=32, n_layers=2, d_model=16, n_heads=2)), "config.json"))
    model = build_model(from_dict(ModelConfig, {**fields, "tie_embeddings": True}), device="meta", init=False)
    layout = naming_of(family).layout(model)
    assert sorted(part for parts in layout.values() for part in parts) == sorted(linears(model))
    assert recognise(model, list(layout)) == naming_of(family)
