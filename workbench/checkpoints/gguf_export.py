"""Writing GGUF files that llama.cpp runs: which architecture, how each tensor is stored, the header, the numbers.

Header and metadata are written by the `gguf` package; tensors are rounded and written a few rows at a time, so that no second
copy of the model is made. As in llama.cpp's converter, one-dimensional tensors and the position table stay in F32, and rows that
Q8_0's blocks of 32 do not divide are stored in F16.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_SIZES, GGML_QUANT_VERSION, GGMLQuantizationType, LlamaFileType
from gguf.quants import dequantize, quantize
from torch import Tensor

from workbench.checkpoints.families import GGUF_FAMILIES, Family
from workbench.checkpoints.families.rope import without_ntk
from workbench.checkpoints.fitting import fitting_family
from workbench.checkpoints.formats import Content, Writing
from workbench.checkpoints.load import parameters_of
from workbench.checkpoints.safetensors_file import Outgoing, rounded
from workbench.checkpoints.table import match, outgoing
from workbench.core.store import atomic_path
from workbench.model import ModelConfig
from workbench.tokenizers.to_gguf import gguf_tokenizer

_Kind = GGMLQuantizationType
TYPES: Mapping[str, tuple[_Kind, LlamaFileType]] = {
    "f32": (_Kind.F32, LlamaFileType.ALL_F32),
    "f16": (_Kind.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (_Kind.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (_Kind.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
_OF_DTYPE = {torch.float16: "f16", torch.bfloat16: "bf16"}
_ALWAYS_SINGLE = ("position_embd.weight",)
_ROWS_AT_ONCE = 1 << 22
"""Numbers that are rounded and written at once."""
_HINT = "Export it as a Hugging Face folder (hf), or keep it as a workbench checkpoint, which holds every architecture."


@dataclass(frozen=True)
class _Stored:
    """A tensor of the file and how its numbers are stored."""

    tensor: Outgoing
    kind: _Kind

    @property
    def nbytes(self) -> int:
        block, size = GGML_QUANT_SIZES[self.kind]
        return prod(self.tensor.shape) // block * size


def prepare_gguf(content: Content, wanted: str | None) -> Writing:
    """See `Format.prepare`."""
    model = content.model
    type = content.type or _OF_DTYPE.get(model.dtype, "f32")
    config, notices = _expressible(model.config)
    name, family = fitting_family(GGUF_FAMILIES, config, wanted, who="GGUF's architecture", hint=_HINT, prefix=lambda name: f"{name}.")
    vocabulary = gguf_tokenizer(content.tokenizer, config.vocab_size)
    tensors = [_stored(t, type) for t in outgoing(family.table, config, parameters_of(model))]
    kinds = _kinds(family, tensors)
    extras = family.extras(config) if family.extras else {}
    tensors += [_Stored(Outgoing(key, tuple(v.shape), v.dtype, lambda v=v: v), _Kind.F32) for key, v in extras.items()]  # type: ignore[misc]

    def write(path: Path) -> Generator[int, None, None]:
        metadata = {**_metadata(content, name, family, config, type, path.stem), **vocabulary.fields}
        with atomic_path(path) as temporary:
            yield from _write(temporary, name, metadata, tensors)

    def as_stored(parameter: str, rows: Tensor) -> Tensor:
        return _decoded(_encoded(rows, kinds[parameter], parameter), kinds[parameter], rows.shape).to(rows.device)

    return Writing(name, type, sum(t.nbytes for t in tensors), write, as_stored, (*notices, *vocabulary.notices))


def _expressible(config: ModelConfig) -> tuple[ModelConfig, list[str]]:
    """The same function in words that llama.cpp has, where there are any, and what a person should know about it."""
    config = without_ntk(config)
    config = replace(config, position=_spelled_out(config))  # before the context is cut, from which YaRN would follow
    if config.sliding_window is None or (config.sliding_window < config.max_positions and _follows_context(config)):
        return config, []
    notices: list[str] = []
    context = min(config.max_positions, config.sliding_window)
    if context < config.max_positions:
        notices.append(
            f"llama.cpp runs this architecture without a sliding window, so the file's context is the window's {context:,} tokens, "
            "within which both agree."
        )
    return replace(config, sliding_window=None, full_attention_every=None, max_positions=context), notices


def _follows_context(config: ModelConfig) -> bool:
    """Whether rotation rates depend on how many positions the model has, so that cutting them changes it."""
    scaling = getattr(config.position.options, "scaling", None)
    return scaling is not None and scaling.kind != "none" and getattr(scaling.options, "original", 0) is None


def _spelled_out(config: ModelConfig) -> Any:
    """The position; YaRN with the original context that it leaves open."""
    if config.position.kind != "rope" or config.position.options.scaling.kind != "yarn":
        return config.position
    rope = config.position.options
    options = rope.scaling.options
    if options.original is not None or config.max_positions % options.factor:
        return config.position
    original = replace(options, original=int(config.max_positions / options.factor))
    return replace(config.position, options=replace(rope, scaling=replace(rope.scaling, options=original)))


def _stored(tensor: Outgoing, type: str) -> _Stored:
    kind = TYPES[type][0]
    if len(tensor.shape) < 2 or tensor.name in _ALWAYS_SINGLE:
        kind = _Kind.F32
    elif tensor.shape[-1] % GGML_QUANT_SIZES[kind][0]:
        kind = _Kind.F16
    return _Stored(tensor, kind)


def _kinds(family: Family, tensors: Sequence[_Stored]) -> dict[str, _Kind]:
    """How each parameter is stored."""
    stored = {t.tensor.name: t.kind for t in tensors}
    return {to: stored[move.source] for move in match(family.table, stored, family.prefix).moves for to in move.to}


def _metadata(content: Content, name: str, family: Family, config: ModelConfig, type: str, label: str) -> dict[str, Any]:
    assert family.write is not None
    about = {
        "general.type": "model",
        "general.name": label,
        "general.file_type": int(TYPES[type][1]),
        "general.quantization_version": GGML_QUANT_VERSION,
        **{f"{name}.{key}": value for key, value in family.write(config).items()},
    }
    template = content.chat_template
    return about if template is None or content.tokenizer is None else {**about, "tokenizer.chat_template": template}


# ---- numbers -----------------------------------------------------------------------------------------------------


def _encoded(rows: Tensor, kind: _Kind, name: str) -> np.ndarray[Any, Any]:
    """`rows` as they lie in the file, flat; raises `ModelError` when a number is too large for `kind`."""
    plain = rows.detach().to("cpu").contiguous()
    if kind == _Kind.F32:
        return plain.float().reshape(-1).numpy()
    if kind == _Kind.F16:
        return rounded(plain, torch.float16, name).reshape(-1).numpy()
    if kind == _Kind.BF16:
        return plain.to(torch.bfloat16).reshape(-1).view(torch.int16).numpy()
    # The package works through 16 rows at a time whatever their width; one wide row keeps it out of the interpreter.
    return quantize(plain.float().reshape(1, -1).numpy(), kind).reshape(-1)


def _decoded(raw: np.ndarray[Any, Any], kind: _Kind, shape: Sequence[int]) -> Tensor:
    """What numbers of `_encoded` read back as."""
    if kind == _Kind.BF16:
        return torch.from_numpy(raw).view(torch.bfloat16).reshape(*shape)
    if kind in (_Kind.F32, _Kind.F16):
        return torch.from_numpy(raw).reshape(*shape)
    return torch.from_numpy(dequantize(raw.reshape(1, -1), kind)).reshape(*shape)


def _write(path: Path, architecture: str, metadata: Mapping[str, Any], tensors: Sequence[_Stored]) -> Generator[int, None, None]:
    writer = GGUFWriter(path, architecture)
    try:
        for key, value in metadata.items():
            _adder(writer, value)(key, value)
        for stored in tensors:
            writer.add_tensor_info(stored.tensor.name, stored.tensor.shape, np.dtype(np.float32), stored.nbytes, stored.kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        file = writer.fout[0]
        for stored in tensors:
            file.write(bytes(-file.tell() % writer.data_alignment))
            yield from _write_tensor(file, stored)
        file.write(bytes(-file.tell() % writer.data_alignment))
        file.flush()
        os.fsync(file.fileno())
    finally:
        writer.close()


def _write_tensor(file: Any, stored: _Stored) -> Iterator[int]:
    whole = stored.tensor.make()
    step = max(1, _ROWS_AT_ONCE * len(whole) // whole.numel())
    for start in range(0, len(whole), step):
        raw = _encoded(whole[start : start + step], stored.kind, stored.tensor.name)
        file.write(raw.data)
        yield raw.nbytes


def _adder(writer: GGUFWriter, value: Any) -> Callable[[str, Any], None]:
    """The writer's method for a value of this type."""
    if isinstance(value, bool):  # before int, which it is too
        return writer.add_bool
    methods: dict[type, Callable[[str, Any], None]] = {
        int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, list: writer.add_array,
    }  # fmt: skip
    return methods[type(value)]
