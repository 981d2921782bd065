"""From a path to a model: values, ties, dtypes, progress, and what is said about paths that hold none."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf.constants import GGMLQuantizationType

from workbench.checkpoints import Loaded, inspect_checkpoint, load_checkpoint, load_events
from workbench.core.control import Control
from workbench.core.errors import FileError, ModelError, WorkbenchError
from workbench.core.events import Notice, Progress
from workbench.model import Transformer

Make = Callable[..., tuple[Path, Transformer]]


def drained(events: Generator[Any, None, Any]) -> Any:
    """What the generator returns when it is run to its end."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value


def same(loaded: Loaded, model: Transformer, ids: torch.Tensor) -> bool:
    with torch.no_grad():
        return torch.equal(loaded.model(ids), model(ids))


# ---- values ------------------------------------------------------------------------------------------------------


def test_a_gguf_gives_the_very_weights(make_gguf: Make, ids: torch.Tensor) -> None:
    path, model = make_gguf()
    loaded = load_checkpoint(path)
    assert same(loaded, model, ids)
    assert loaded.config == loaded.model.config
    assert (loaded.source.format, loaded.source.family, loaded.source.name, loaded.source.path) == ("gguf", "llama", "tiny", path)
    assert loaded.source.nbytes == sum(p.nbytes for p in model.parameters())
    assert not loaded.model.training
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("he said 12")) == "he said 12"


@pytest.mark.parametrize("kind", [GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_1, GGMLQuantizationType.BF16], ids=lambda k: k.name)
def test_quantized_rows_are_unpermuted_like_plain_ones(make_gguf: Make, kind: GGMLQuantizationType) -> None:
    from gguf.quants import dequantize, quantize

    path, model = make_gguf(quantization=kind)
    loaded = load_checkpoint(path).model.state_dict()
    for name, tensor in model.state_dict().items():
        if tensor.dim() == 2:  # rows are quantized one by one, so their order does not change their values
            tensor = torch.from_numpy(dequantize(quantize(tensor.contiguous().numpy(), kind), kind))
        assert torch.equal(loaded[name], tensor), name


def test_an_untied_head_is_kept_apart(make_gguf: Make, ids: torch.Tensor) -> None:
    path, model = make_gguf({"tie_embeddings": False})
    loaded = load_checkpoint(path)
    assert not loaded.config.tie_embeddings
    assert same(loaded, model, ids)


def test_a_gguf_without_a_tokenizer_loads(make_gguf: Make) -> None:
    loaded = load_checkpoint(make_gguf(tokenizer=False)[0])
    assert loaded.tokenizer is None
    assert loaded.chat_template is None


def test_a_gguf_brings_its_chat_template(make_gguf: Make) -> None:
    assert load_checkpoint(make_gguf(metadata={"tokenizer.chat_template": "{{ messages }}"})[0]).chat_template == "{{ messages }}"


@pytest.mark.parametrize("shards", [1, 3])
def test_a_folder_gives_the_very_weights(make_folder: Make, ids: torch.Tensor, shards: int) -> None:
    folder, model = make_folder(shards=shards)
    loaded = load_checkpoint(str(folder))
    assert same(loaded, model, ids)
    assert (loaded.source.format, loaded.source.family, loaded.source.name) == ("hf", "llama", "tiny")
    assert loaded.tokenizer is None
    assert loaded.model.lm_head.weight is loaded.model.embedding.weight


def test_files_inside_a_model_open_the_model(make_folder: Make, make_gguf: Make, tmp_path: Path) -> None:
    folder, _ = make_folder()
    assert load_checkpoint(folder / "model.safetensors").source.path == folder
    assert load_checkpoint(folder / "config.json").source.path == folder
    (tmp_path / "one").mkdir()
    path = make_gguf()[0].rename(tmp_path / "one" / "m.gguf")
    assert load_checkpoint(tmp_path / "one").source.path == path


def test_names_without_the_outermost_module_are_understood(make_folder: Make, ids: torch.Tensor) -> None:
    def strip(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    folder, model = make_folder(change=strip)
    assert same(load_checkpoint(folder), model, ids)


def test_old_buffers_are_dropped(make_folder: Make, ids: torch.Tensor) -> None:
    folder, model = make_folder(change=lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}))
    assert same(load_checkpoint(folder), model, ids)


# ---- ties --------------------------------------------------------------------------------------------------------


def head_of(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.update({"lm_head.weight": change(tensors["model.embed_tokens.weight"].clone())})


@pytest.mark.parametrize(
    ("says", "head", "tied", "notice"),
    [
        (True, None, True, ""),
        (True, lambda e: e, True, ""),
        (True, lambda e: e + 1, False, "they are kept apart"),
        (False, lambda e: e, False, ""),
        (False, None, True, "is used for it (tied)"),
        (None, None, True, "is used for it (tied)"),
    ],
)
def test_what_is_tied(make_folder: Make, says: bool | None, head: Any, tied: bool, notice: str) -> None:
    loaded = load_checkpoint(make_folder(settings={"tie_word_embeddings": says}, change=head and head_of(head))[0])
    assert loaded.config.tie_embeddings is tied
    assert (loaded.model.lm_head.weight is loaded.model.embedding.weight) is tied
    assert any(notice in n for n in loaded.notices) if notice else not loaded.notices


# ---- dtypes ------------------------------------------------------------------------------------------------------


def to_bfloat16(tensors: dict[str, torch.Tensor]) -> None:
    for name in tensors:
        tensors[name] = tensors[name].bfloat16()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_weights_arrive_in_the_dtype_asked_for(make_folder: Make, dtype: torch.dtype) -> None:
    folder, model = make_folder()
    loaded = load_checkpoint(folder, dtype=dtype)
    assert {p.dtype for p in loaded.model.parameters()} == {dtype}
    assert torch.equal(loaded.model.embedding.weight, model.embedding.weight.to(dtype))


def test_none_keeps_the_files_dtype(make_folder: Make, make_gguf: Make) -> None:
    assert load_checkpoint(make_folder(change=to_bfloat16)[0], dtype=None).model.dtype == torch.bfloat16
    assert load_checkpoint(make_gguf(quantization=GGMLQuantizationType.Q4_1)[0], dtype=None).model.dtype == torch.float32


def test_a_dtype_that_holds_no_fractions_is_refused(make_folder: Make) -> None:
    with pytest.raises(ModelError, match="cannot be loaded as int8"):
        load_checkpoint(make_folder()[0], dtype=torch.int8)


# ---- damaged weights ---------------------------------------------------------------------------------------------

UP = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "an infinity"), (float("-inf"), "an infinity")])
def test_a_value_that_is_not_finite_names_its_tensor(make_folder: Make, value: float, word: str) -> None:
    def poison(tensors: dict[str, torch.Tensor]) -> None:
        tensors[UP][40, 7] = value

    with pytest.raises(ModelError, match=rf"{UP} holds {word}") as caught:
        load_checkpoint(make_folder(change=poison)[0])
    assert "another copy" in caught.value.hint


def test_opposite_infinities_do_not_cancel(make_folder: Make) -> None:
    def poison(tensors: dict[str, torch.Tensor]) -> None:
        tensors[UP][0, 0], tensors[UP][0, 1] = float("inf"), float("-inf")

    with pytest.raises(ModelError, match="an infinity"):
        load_checkpoint(make_folder(change=poison)[0])


def test_finite_values_whose_sum_overflows_are_fine(make_folder: Make) -> None:
    def swell(tensors: dict[str, torch.Tensor]) -> None:
        tensors[UP][:] = 3e38

    loaded = load_checkpoint(make_folder(change=swell)[0])
    assert bool((loaded.model.state_dict()["blocks.1.mlp.up_proj.weight"] == 3e38).all())


def test_a_value_too_large_for_float16_says_so(make_folder: Make) -> None:
    def swell(tensors: dict[str, torch.Tensor]) -> None:
        tensors[UP][0, 0] = 1e6

    folder, _ = make_folder(change=swell)
    with pytest.raises(ModelError, match=r"holds 1e\+06, more than float16 can express") as caught:
        load_checkpoint(folder, dtype=torch.float16)
    assert "bfloat16" in caught.value.hint
    load_checkpoint(folder, dtype=torch.bfloat16)


def test_nan_in_a_gguf_names_its_tensor(make_gguf: Make) -> None:
    def poison(tensors: dict[str, torch.Tensor]) -> None:
        tensors["blk.0.attn_q.weight"][3, 3] = float("nan")

    with pytest.raises(ModelError, match=r"tiny\.gguf: blk\.0\.attn_q\.weight holds NaN"):
        load_checkpoint(make_gguf(change=poison)[0])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"num_hidden_layers": 3}, "lacks tensors that its configuration asks for: model.layers.2.input_layernorm.weight"),
        ({"num_hidden_layers": 1}, "has no place for: model.layers.1."),
        ({"hidden_size": 48}, "has shape [272, 32]; the configuration asks for [272, 48]"),
        ({"attention_bias": True}, "lacks tensors that its configuration asks for: model.layers.0.self_attn.k_proj.bias"),
        ({"num_hidden_layers": 10**9}, "Layers is 1e+09; the most is"),
        ({"hidden_size": 10**12}, "the most is"),
        ({"vocab_size": 1_500_000}, "has shape [272, 32]; the configuration asks for [1500000, 32]"),
        ({"num_attention_heads": 0}, "the least is 1"),
        ({"model_type": "mamba"}, "is of the model type 'mamba', which is not known"),
        ({"model_type": None}, "is of the model type None, which is not known"),
        ({"quantization_config": {"quant_method": "gptq"}}, "is quantized (method gptq), which cannot be decoded"),
    ],
)
def test_a_configuration_that_does_not_belong(make_folder: Make, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_checkpoint(make_folder(settings=settings)[0])
    assert says in caught.value.message
    assert caught.value.hint


def test_settings_of_any_type_are_understood_or_refused(make_folder: Make) -> None:
    folder, _ = make_folder()
    plain = json.loads((folder / "config.json").read_text())
    more = ("head_dim", "rope_scaling", "rope_parameters", "attention_bias", "hidden_act", "quantization_config", "auto_map", "layer_types")
    scaled: tuple[Any, ...] = ({"rope_type": "default"}, {"rope_type": ["a"]}, {"rope_type": "linear", "factor": 10**400})
    values = (None, True, -1, 0, 7, 10**30, 10**400, 1.5, "x", "", [], [1], ["a"], {}, {"a": 1}, *scaled)
    refused = 0
    for kind in ("llama", "mistral", "qwen2", "qwen3"):
        for key in (*plain, *more):
            for value in values:
                (folder / "config.json").write_text(json.dumps({**plain, "model_type": kind, key: value}))
                try:
                    inspect_checkpoint(folder)
                except (FileError, ModelError):
                    refused += 1
    assert refused > 300


def test_unknown_architectures_list_the_known(make_gguf: Make, make_folder: Make) -> None:
    with pytest.raises(ModelError, match="is of the architecture 'mamba', which is not known") as caught:
        load_checkpoint(make_gguf(architecture="mamba")[0])
    assert "llama" in caught.value.hint
    with pytest.raises(ModelError) as caught:
        load_checkpoint(make_folder(settings={"model_type": "mamba"})[0])
    assert "falcon, llama, mistral" in caught.value.hint


def test_scaled_rope_frequencies_of_a_gguf_are_refused_and_ones_dropped(make_gguf: Make, ids: torch.Tensor) -> None:
    path, model = make_gguf(change=lambda t: t.update({"rope_freqs.weight": torch.ones(4)}))
    assert same(load_checkpoint(path), model, ids)
    path.unlink()
    path, _ = make_gguf(change=lambda t: t.update({"rope_freqs.weight": torch.tensor([1.0, 1.0, 2.0, 8.0])}))
    with pytest.raises(ModelError, match="scales its RoPE frequencies"):
        load_checkpoint(path)


def test_one_part_of_a_split_gguf(make_gguf: Make) -> None:
    with pytest.raises(FileError, match="is one of 3 parts") as caught:
        load_checkpoint(make_gguf(metadata={"split.count": 3})[0])
    assert "--merge" in caught.value.hint


def test_code_in_a_folder_is_not_run(make_folder: Make, ids: torch.Tensor, tmp_path: Path) -> None:
    folder, model = make_folder(settings={"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}})
    (folder / "modeling_evil.py").write_text(f"open({str(tmp_path / 'was_here')!r}, 'w')")
    loaded = load_checkpoint(folder)
    assert any("auto_map" in n for n in loaded.notices)
    assert not (tmp_path / "was_here").exists()
    assert same(loaded, model, ids)


def test_a_tokenizer_larger_than_the_model_is_noticed(make_folder: Make) -> None:
    folder, _ = make_folder()
    entries = [{"id": 300, "content": "<|far|>", "special": True}]
    letters = {chr(0x100 + i): i for i in range(68)}
    pipeline = {
        "added_tokens": entries,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "model": {"type": "BPE", "vocab": {**letters, "ĀĀ": 68}, "merges": [["Ā", "Ā"]]},
    }
    (folder / "tokenizer.json").write_text(json.dumps(pipeline))
    assert any("has 301 tokens, the model only 272" in n for n in load_checkpoint(folder).notices)


# ---- before loading ----------------------------------------------------------------------------------------------


def test_inspecting_tells_what_loading_would_give(make_gguf: Make, make_folder: Make) -> None:
    for path, dtype in ((make_gguf()[0], torch.float32), (make_folder(change=to_bfloat16)[0], torch.bfloat16)):
        header, loaded = inspect_checkpoint(path), load_checkpoint(path)
        assert (header.config, header.source, header.chat_template) == (loaded.config, loaded.source, loaded.chat_template)
        assert header.dtype == dtype


def test_inspecting_finds_what_does_not_belong_together(make_folder: Make) -> None:
    with pytest.raises(ModelError, match="lacks tensors"):
        inspect_checkpoint(make_folder(settings={"num_hidden_layers": 3})[0])


# ---- progress and stopping ---------------------------------------------------------------------------------------


def test_progress_ends_at_all_bytes(make_gguf: Make) -> None:
    path, model = make_gguf()
    events = list(load_events(path))
    progress = [e for e in events if isinstance(e, Progress)]
    assert progress[0].done == 0
    assert progress[-1].done == progress[-1].total == sum(p.nbytes for p in model.parameters())
    assert [p.done for p in progress] == sorted(p.done for p in progress)
    assert progress[0].unit == "B"


def test_notices_are_events_too(make_folder: Make) -> None:
    events = list(load_events(make_folder(settings={"tie_word_embeddings": False})[0]))
    assert any(isinstance(e, Notice) and "tied" in e.message for e in events)


def test_a_stop_ends_the_load_without_a_model(make_gguf: Make) -> None:
    path, _ = make_gguf()
    control = Control()
    events = load_events(path, control=control)
    next(events)
    control.stop()
    assert drained(events) is None
    with pytest.raises(WorkbenchError, match=r"Loading tiny\.gguf was stopped"):
        load_checkpoint(path, control=control)


def test_the_file_can_be_replaced_after_loading(make_gguf: Make, ids: torch.Tensor) -> None:
    path, model = make_gguf()
    loaded = load_checkpoint(path)
    path.write_bytes(b"\0" * 100)  # a live map would now read zeros, or end the process
    assert same(loaded, model, ids)


# ---- paths that hold no model ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "open_", "says", "hint"),
    [
        ({}, "nowhere", "nowhere does not exist", "path"),
        ({}, ".", "is empty", "Download"),
        ({"pytorch_model.bin": b""}, ".", "pytorch_model.bin is a Python pickle", "save_pretrained"),
        ({"config.json": b'{"model_type": "llama"}', "pytorch_model.bin": b""}, ".", "is a Python pickle", "save_pretrained"),
        ({"m.pt": b""}, "m.pt", "is a Python pickle", "save_pretrained"),
        ({"adapter_config.json": b"{}"}, ".", "holds an adapter, not a model", "attach"),
        ({"readme.md": b"hello"}, ".", "holds no model", "GGUF"),
        ({"notes.txt": b"hello"}, "notes.txt", "is no model that this program knows", "config.json"),
        ({"m.gguf": b"hello"}, "m.gguf", "is not a GGUF file: it begins with b'hell'", "another"),
        ({"a.gguf": b"", "b.gguf": b""}, ".", "holds 2 GGUF files", "a.gguf, b.gguf"),
        ({"config.json": b"{broken"}, ".", "config.json is not readable JSON", "again"),
        ({"config.json": b"[1]"}, ".", "config.json holds no table", "again"),
        ({"config.json": b'{"model_type": "llama"}'}, ".", "has a config.json but no weights", "model.safetensors"),
        ({"config.json": b'{"model_type": "llama"}', "model.safetensors": b""}, ".", "model.safetensors is empty", "again"),
        ({"config.json": b'{"model_type": "llama"}', "model.safetensors.index.json": b"{}"}, ".", "does not say which file", "again"),
        (
            {"config.json": b'{"model_type": "llama"}', "model.safetensors.index.json": b'{"weight_map": {"a": "model-1.safetensors"}}'},
            ".", "the shard model-1.safetensors is missing", "missing",
        ),
        (
            {"config.json": b'{"model_type": "llama"}', "model-00001-of-00002.safetensors": b"", "model-00002-of-00002.safetensors": b""},
            ".", "has 2 safetensors files but no model.safetensors.index.json", "Download",
        ),
        ({"workbench.json": b"{}"}, ".", "is not a workbench checkpoint file", "another"),
        ({"workbench.json": b'{"kind": "workbench checkpoint", "version": 99}'}, ".", "has version 99; this program", "Update"),
        ({"workbench.json": b'{"kind": "workbench checkpoint", "version": 1}'}, ".", "does not say the model's architecture", "damaged"),
    ],
)  # fmt: skip
def test_each_path_has_its_sentence(tmp_path: Path, files: dict[str, bytes], open_: str, says: str, hint: str) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with pytest.raises(FileError) as caught:
        load_checkpoint(folder / open_)
    assert says in caught.value.message
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message


class Bomb:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('a pickle was run')",))


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "model.safetensors", "m.gguf"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(pickle.dumps(Bomb()))
        (folder / "config.json").write_text('{"model_type": "llama"}')
        with pytest.raises(FileError):
            load_checkpoint(folder if name != "m.gguf" else folder / name)


def test_a_shard_that_is_missing_is_named(make_folder: Make) -> None:
    folder, _ = make_folder(shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FileError, match=r"the shard model-00002-of-00003\.safetensors is missing"):
        load_checkpoint(folder)


def test_a_truncated_shard_is_named(make_folder: Make) -> None:
    folder, _ = make_folder(shards=3)
    shard = folder / "model-00003-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(FileError, match=r"model-00003-of-00003\.safetensors is truncated"):
        load_checkpoint(folder)


def test_a_damaged_tokenizer_stops_the_load_before_the_weights_are_read(make_folder: Make) -> None:
    folder, _ = make_folder()
    (folder / "tokenizer.json").write_text("{broken")
    with pytest.raises(FileError, match=r"tokenizer\.json"):
        list(load_events(folder))


@pytest.mark.parametrize(
    "pipeline",
    [
        {"model": 3},
        {"model": {"type": "BPE", "vocab": 3, "merges": []}},
        {"added_tokens": [1], "model": {"type": "BPE", "vocab": {}, "merges": []}},
    ],
)
def test_a_tokenizer_of_nonsense_is_a_model_error(make_folder: Make, pipeline: Any) -> None:
    folder, _ = make_folder()
    (folder / "tokenizer.json").write_text(json.dumps(pipeline))
    with pytest.raises(ModelError) as caught:
        load_checkpoint(folder)
    assert "tiny" in caught.value.message
    assert caught.value.hint


def test_a_chat_template_that_is_no_text_is_a_model_error(make_folder: Make) -> None:
    folder, _ = make_folder()
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="The chat template of tiny cannot be understood"):
        load_checkpoint(folder)


@pytest.mark.parametrize("metadata", [{"tokenizer.ggml.tokens": 3}, {"tokenizer.ggml.merges": 7}, {"tokenizer.ggml.eos_token_id": "x"}])
def test_tokenizer_metadata_of_nonsense_is_a_model_error(make_gguf: Make, metadata: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"The tokenizer of tiny\.gguf cannot be understood"):
        load_checkpoint(make_gguf(metadata=metadata)[0])
