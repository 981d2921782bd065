"""PEFT's folder format: what is written, what is read back, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.adapters import LoraConfig, adapter_names, adapters_of, attach, detach, trainable_parameters
from workbench.adapters.peft import load_adapter, save_adapter
from workbench.core.errors import ConfigError, FileError, ModelError
from workbench.model import Transformer

GPT2 = dict(
    position="learned", norm="layernorm", mlp="gelu_tanh", attention_bias=True, attention_out_bias=True, mlp_bias=True, n_kv_heads=None
)
Make = Callable[..., Transformer]
Stir = Callable[..., None]


def write(model: Transformer, folder: Path, **changes: Any) -> Path:
    """An adapter folder whose settings are then changed by hand; None deletes a key."""
    save_adapter(model, "default", folder, "llama")
    path = folder / "adapter_config.json"
    data = json.loads(path.read_text())
    data.update(changes)
    path.write_text(json.dumps({k: v for k, v in data.items() if v != "absent"}))
    return folder


@pytest.fixture
def tuned(model: Transformer, trained: Stir) -> Transformer:
    attach(model, LoraConfig(r=4, lora_alpha=8))
    trained(model)
    return model


@pytest.mark.parametrize("family", ["llama", "workbench"])
@pytest.mark.parametrize("method", ["lora", "rslora"])
def test_round_trip_keeps_every_bit(make_model: Make, trained: Stir, tmp_path: Path, family: str, method: str) -> None:
    model = make_model()
    config = LoraConfig(method=method, r=3, lora_alpha=7.5, lora_dropout=0.1, target_modules=("q_proj", "down_proj"))
    attach(model, config)
    trained(model)
    save_adapter(model, "default", tmp_path / "a", family)
    other = make_model()
    found = load_adapter(other, tmp_path / "a", "again")
    assert (found.method, found.r, found.lora_alpha, found.lora_dropout) == (method, 3, 7.5, 0.1)
    assert set(found.target_modules) == {"q_proj", "down_proj"}
    wanted, got = trainable_parameters(model), trainable_parameters(other, "again")
    assert wanted.keys() == got.keys()
    assert all(torch.equal(wanted[k], got[k]) for k in wanted)
    assert {a.scaling for a in adapters_of(other, "again").values()} == {a.scaling for a in adapters_of(model, "default").values()}


def test_files_say_what_peft_needs(tuned: Transformer, tmp_path: Path) -> None:
    save_adapter(tuned, "default", tmp_path / "a", "llama", base_model="some/base")
    data = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert data["peft_type"] == "LORA"
    assert data["inference_mode"] is True
    assert (data["r"], data["lora_alpha"], data["use_rslora"], data["rank_pattern"], data["alpha_pattern"]) == (4, 8, False, {}, {})
    assert sorted(data["target_modules"]) == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert data["base_model_name_or_path"] == "some/base"
    tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert len(tensors) == 2 * 14
    assert tensors["base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight"].shape == (16, 4)
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"adapter_config.json", "adapter_model.safetensors", "README.md"}


def test_ranks_that_differ_are_written_as_patterns(
    model: Transformer, make_model: Make, trained: Stir, tmp_path: Path, ids: torch.Tensor
) -> None:
    from workbench.adapters.attach import AdapterSpec, attach_specs

    names = attach(model, LoraConfig(r=2))
    detach(model, "default")
    specs = {n: AdapterSpec("lora", 4, 8.0) for n in names}
    specs["blocks.1.attention.q_proj"] = AdapterSpec("lora", 6, 8.0)
    specs |= {n: AdapterSpec("lora", 2, 5.0) for n in names if n.endswith("up_proj")}
    attach_specs(model, specs, "default", lambda _, adapter: adapter.reset("kaiming", torch.Generator(), torch.empty(0)))
    trained(model)
    save_adapter(model, "default", tmp_path / "a", "llama")
    data = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert data["rank_pattern"] == {"layers.1.self_attn.q_proj": 6, "up_proj": 2}
    assert data["alpha_pattern"] == {"up_proj": 5}
    other = make_model()
    load_adapter(other, tmp_path / "a")
    assert torch.equal(other(ids), model(ids))


class TestGpt2:
    """c_attn is query, key and value in one; ours has three layers."""

    def test_different_halves_become_block_diagonal_and_come_back(
        self, make_model: Make, trained: Stir, tmp_path: Path, ids: torch.Tensor
    ) -> None:
        model, other = make_model(**GPT2), make_model(**GPT2)
        attach(model, LoraConfig(r=2, lora_alpha=6))
        trained(model)
        save_adapter(model, "default", tmp_path / "a", "gpt2")
        data = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
        assert (data["rank_pattern"], data["alpha_pattern"], data["fan_in_fan_out"]) == ({"c_attn": 6}, {"c_attn": 18}, True)
        assert sorted(data["target_modules"]) == ["c_attn", "c_fc", "c_proj"]
        b = load_file(tmp_path / "a" / "adapter_model.safetensors")["base_model.model.transformer.h.0.attn.c_attn.lora_B.weight"]
        assert b.shape == (96, 6)
        assert not b[:32, 2:].any()
        load_adapter(other, tmp_path / "a")
        assert {a.r for a in adapters_of(other, "default").values()} == {2}
        assert torch.equal(other(ids), model(ids))

    def test_a_shared_first_matrix_stays_compact(self, make_model: Make, trained: Stir, tmp_path: Path, ids: torch.Tensor) -> None:
        model = make_model(**GPT2)
        attach(model, LoraConfig(r=2))
        trained(model)
        for block in model.blocks:
            attention: Any = block.attention
            with torch.no_grad():
                for layer in (attention.k_proj, attention.v_proj):
                    layer.adapters["default"].A.copy_(attention.q_proj.adapters["default"].A)
        save_adapter(model, "default", tmp_path / "a", "gpt2")
        tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")
        assert tensors["base_model.model.transformer.h.1.attn.c_attn.lora_A.weight"].shape == (2, 32)
        other = make_model(**GPT2)
        load_adapter(other, tmp_path / "a")
        assert torch.equal(other(ids), model(ids))

    def test_a_part_may_be_missing(self, make_model: Make, trained: Stir, tmp_path: Path, ids: torch.Tensor) -> None:
        model, other = make_model(**GPT2), make_model(**GPT2)
        attach(model, LoraConfig(method="rslora", r=2, target_modules=("q_proj", "v_proj")))
        trained(model)
        save_adapter(model, "default", tmp_path / "a", "gpt2")
        load_adapter(other, tmp_path / "a")
        assert set(adapters_of(other, "default")) == set(adapters_of(model, "default"))
        torch.testing.assert_close(other(ids), model(ids))

    def test_an_untrained_one_keeps_its_rank(self, make_model: Make, tmp_path: Path) -> None:
        model = make_model(**GPT2)
        attach(model, LoraConfig(r=3, target_modules=("q_proj",)))
        save_adapter(model, "default", tmp_path / "a", "gpt2")
        other = make_model(**GPT2)
        load_adapter(other, tmp_path / "a")
        assert {a.r for a in adapters_of(other, "default").values()} == {3}


class TestRefused:
    """Each with a sentence that names what is wrong, and with the model left as it was."""

    @pytest.mark.parametrize(
        ("changes", "kind", "words"),
        [
            ({"use_dora": True}, ModelError, "use_dora"),
            ({"bias": "lora_only"}, ModelError, "bias"),
            ({"modules_to_save": ["lm_head"]}, ModelError, "modules_to_save"),
            ({"trainable_token_indices": [1, 2]}, ModelError, "trainable_token_indices"),
            ({"some_future_switch": True}, ModelError, "some_future_switch"),
            ({"init_lora_weights": "pissa"}, ModelError, "pissa"),
            ({"peft_type": "IA3"}, ModelError, "IA3"),
            ({"target_modules": ["q_proj"]}, ModelError, "12 unexpected"),
            ({"layers_to_transform": [0]}, ModelError, "7 unexpected"),
            ({"exclude_modules": ["q_proj"]}, ModelError, "2 unexpected"),
            ({"r": 5}, ModelError, "rank 5"),
            ({"rank_pattern": {"k_proj": 3}}, ModelError, "k_proj.*rank 3"),
            ({"r": "many"}, FileError, "wrong type"),
            ({"rank_pattern": ["k_proj"]}, FileError, "wrong type"),
            ({"target_modules": 5}, FileError, "target_modules = 5"),
            ({"exclude_modules": [5]}, FileError, "exclude_modules"),
            ({"layers_to_transform": {"a": 1}}, FileError, "layers_to_transform"),
            ({"layers_pattern": 3}, FileError, "layers_pattern"),
            ({"r": 0}, FileError, "rank 0.*between 1"),
            ({"r": 2.5}, FileError, "r = 2.5"),
            ({"r": 0, "rank_pattern": {".*": 4}}, FileError, "rank 0"),
            ({"r": -3, "rank_pattern": {".*": 4}}, FileError, "rank -3"),
            ({"r": 10**400}, FileError, "wrong type"),
            ({"rank_pattern": {"k_proj": 0}}, FileError, "k_proj the rank 0"),
            ({"lora_alpha": float("inf")}, FileError, "alpha inf.*finite"),
            ({"lora_alpha": float("nan")}, FileError, "alpha nan.*finite"),
            ({"alpha_pattern": {"k_proj": float("nan")}}, FileError, "k_proj the alpha nan"),
            ({"lora_dropout": 3}, FileError, "lora_dropout = 3.*below 1"),
            ({"target_modules": "([a-z._0-9]+)+!"}, ModelError, "a-z.*repeat.*within a repeat"),
            ({"target_modules": "("}, ModelError, "no regular expression"),
            ({"exclude_modules": "(a|aa)*!"}, ModelError, "within a repeat"),
            ({"rank_pattern": {"(": 4}}, ModelError, "no regular expression"),
            ({"alpha_pattern": {"(?i)k_proj": 4}}, ModelError, "no regular expression"),
            ({"layers_to_transform": [0], "layers_pattern": "(x+)+"}, ModelError, "within a repeat"),
            ({"target_modules": "(" * 3000 + ")" * 3000}, ModelError, "characters long"),
        ],
    )
    def test_settings(
        self, tuned: Transformer, make_model: Make, tmp_path: Path, changes: dict[str, Any], kind: type[Exception], words: str
    ) -> None:
        folder, other = write(tuned, tmp_path / "a", **changes), make_model()
        with pytest.raises(kind, match=words):
            load_adapter(other, folder)
        assert adapter_names(other) == ()
        assert all(p.requires_grad for p in other.parameters())

    def test_json_that_is_nested_without_end(self, tuned: Transformer, make_model: Make, tmp_path: Path) -> None:
        folder = write(tuned, tmp_path / "a")
        (folder / "adapter_config.json").write_text('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}")
        with pytest.raises(FileError, match="nested too deeply"):
            load_adapter(make_model(), folder)

    def test_settings_without_effect_are_taken(self, tuned: Transformer, make_model: Make, tmp_path: Path) -> None:
        folder = write(
            tuned, tmp_path / "a", revision="main", peft_version="0.99", some_future_switch=False, loftq_config={}, qalora_group_size=16,
            megatron_core="megatron.core", target_modules="absent", task_type=None, init_lora_weights="gaussian",
        )  # fmt: skip
        load_adapter(make_model(), folder)

    @pytest.mark.parametrize("targets", ["all-linear", r"model\.layers\.\d+\.(self_attn|mlp)\.\w+"])
    def test_targets_as_text_are_taken(self, tuned: Transformer, make_model: Make, tmp_path: Path, targets: str) -> None:
        load_adapter(make_model(), write(tuned, tmp_path / "a", target_modules=targets))

    def test_strange_layers_where_no_targets_are_named(self, tuned: Transformer, make_model: Make, tmp_path: Path) -> None:
        folder = write(tuned, tmp_path / "a", target_modules="absent")
        self.change(folder, lambda t: t.update({f"base_model.model.lm_head.lora_{x}.weight": torch.zeros(4) for x in "AB"}))
        with pytest.raises(ModelError, match=r"1 unexpected.*lm_head"):
            load_adapter(make_model(), folder)

    def change(self, folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
        path = folder / "adapter_model.safetensors"
        tensors = load_file(path)
        edit(tensors)
        save_file(tensors, path)

    @pytest.mark.parametrize(
        ("edit", "words"),
        [
            (lambda t: [t.pop(k) for k in list(t) if "layers.1.mlp.up_proj" in k], "1 missing.*layers.1.mlp.up_proj"),
            (lambda t: t.pop("base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"), "lacks one of the two"),
            (lambda t: t.update({f"base_model.model.lm_head.lora_{x}.weight": torch.zeros(4) for x in "AB"}), "1 unexpected.*lm_head"),
            (lambda t: t.update({"base_model.model.model.layers.0.mlp.lora_magnitude_vector": torch.zeros(4)}), "lora_magnitude_vector"),
            (lambda t: t["base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"].fill_(float("nan")), "not finite"),
            (lambda t: t.clear(), "no adapter weights"),
        ],
    )  # fmt: skip
    def test_tensors(self, tuned: Transformer, make_model: Make, tmp_path: Path, edit: Callable[..., None], words: str) -> None:
        folder = save_adapter(tuned, "default", tmp_path / "a", "llama")
        self.change(folder, edit)
        with pytest.raises(ModelError, match=words):
            load_adapter(make_model(), folder)

    def test_an_adapter_of_another_model(self, tuned: Transformer, make_model: Make, tmp_path: Path) -> None:
        folder = save_adapter(tuned, "default", tmp_path / "a", "llama")
        with pytest.raises(ModelError, match=r"A \[4, 48\] and B \[32, 4\]; this model and rank 4 need \[4, 48\] and \[64, 4\]"):
            load_adapter(make_model(d_model=64), folder)
        for layers in (1, 3):
            with pytest.raises(ModelError, match="do not match"):
                load_adapter(make_model(n_layers=layers), folder)
        with pytest.raises(ModelError, match="do not match"):
            load_adapter(make_model(), folder, family="gpt2")
        path = folder / "adapter_model.safetensors"
        save_file({k.replace("model.layers", "decoder.blocks"): v for k, v in load_file(path).items()}, path)
        with pytest.raises(ModelError, match="fits no layer"):
            load_adapter(make_model(), folder)

    def test_damaged_or_missing_files(self, tuned: Transformer, make_model: Make, tmp_path: Path) -> None:
        folder = save_adapter(tuned, "default", tmp_path / "a", "llama")
        weights = folder / "adapter_model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(FileError, match="cannot be read"):
            load_adapter(make_model(), folder)
        weights.unlink()
        with pytest.raises(FileError, match="does not exist"):
            load_adapter(make_model(), folder)
        (folder / "adapter_model.bin").write_bytes(b"pickle")
        with pytest.raises(FileError, match="pickle"):
            load_adapter(make_model(), folder)
        (folder / "adapter_config.json").write_text("{")
        with pytest.raises(FileError, match="damaged"):
            load_adapter(make_model(), folder)
        with pytest.raises(FileError, match="does not exist"):
            load_adapter(make_model(), tmp_path / "nowhere")

    def test_saving_where_it_must_not(self, tuned: Transformer, make_model: Make, tmp_path: Path) -> None:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "thesis.txt").write_text("years of work")
        with pytest.raises(FileError, match="other things"):
            save_adapter(tuned, "default", tmp_path / "home", "llama")
        assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"
        with pytest.raises(ConfigError, match="mamba"):
            save_adapter(tuned, "default", tmp_path / "b", "mamba")
        with pytest.raises(ModelError, match="no place for"):
            save_adapter(tuned, "default", tmp_path / "b", "gpt2")
        assert not (tmp_path / "b").exists()

    def test_saving_again_replaces(self, tuned: Transformer, make_model: Make, trained: Stir, tmp_path: Path, ids: torch.Tensor) -> None:
        save_adapter(tuned, "default", tmp_path / "a", "llama")
        trained(tuned, seed=9)
        save_adapter(tuned, "default", tmp_path / "a", "llama")
        other = make_model()
        load_adapter(other, tmp_path / "a")
        assert torch.equal(other(ids), tuned(ids))
        assert [p.name for p in tmp_path.iterdir()] == ["a"]
