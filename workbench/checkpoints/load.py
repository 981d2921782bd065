"""From a path to a running model."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from workbench.checkpoints.fill import fill, same_values
from workbench.checkpoints.formats import FORMATS, Header, Loaded, Opened, find_format, foreign
from workbench.checkpoints.quantized import Form
from workbench.checkpoints.table import EMBEDDING, HEAD, Matched, check, in_force, match
from workbench.core.control import Control
from workbench.core.errors import ConfigError, ModelError, OutOfMemoryError, WorkbenchError
from workbench.core.events import Event, Notice, Progress
from workbench.core.fields import from_dict
from workbench.model import ModelConfig, Transformer, build_model
from workbench.tokenizers import Tokenizer


def load_checkpoint(
    path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = torch.float32,
    control: Control | None = None,
) -> Loaded:
    """Load a GGUF file, a Hugging Face folder, or a checkpoint of our own; what it is, is found out.

    `dtype` None keeps the file's own (float32 for quantized files). Peak memory is the weights in that dtype and little
    more. Raises `FileError` or `ModelError`, each with the way out; `WorkbenchError` when `control` stopped it.
    """
    events = load_events(path, device, dtype, control)
    while True:
        try:
            next(events)
        except StopIteration as end:
            if end.value is None:
                raise WorkbenchError(f"Loading {Path(path).name} was stopped.") from None
            loaded: Loaded = end.value
            return loaded


def load_events(
    path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = torch.float32,
    control: Control | None = None,
) -> Generator[Event, None, Loaded | None]:
    """`load_checkpoint`, yielding `Progress` in bytes and `Notice`s; returns None when `control` stopped it."""
    name, place = find_format(Path(path).expanduser())
    opened = FORMATS[name].make().open(place)
    try:
        loaded = yield from _assemble(opened, device, dtype, control or Control())
    finally:
        opened.file.close()
    return loaded


def read_config(path: str | Path) -> ModelConfig:
    """The architecture of a checkpoint, from its headers alone. Raises as `inspect_checkpoint` does."""
    return inspect_checkpoint(path).config


def inspect_checkpoint(path: str | Path) -> Header:
    """What a checkpoint holds, from its headers: checked as for loading, and no weight is kept in memory.

    Raises as `load_checkpoint` does, except for faults that only show in the weights themselves or in the tokenizer.
    """
    name, place = find_format(Path(path).expanduser())
    opened = FORMATS[name].make().open(place)
    try:
        matched, config = _fitted(opened)
        return Header(config, opened.source, _own_dtype(opened, matched), opened.chat_template, tuple(opened.notices))
    finally:
        opened.file.close()


def _fitted(opened: Opened) -> tuple[Matched, ModelConfig]:
    """Names, architecture and shapes, proven to belong together; nothing of the claimed size was allocated."""
    matched = match(opened.table, opened.file.infos, opened.prefix)
    config = _config(opened, matched)
    expected = _expected(config, opened.form)
    shapes = {name: tuple(p.shape) for name, p in expected.items()}
    check(in_force(opened.table, config), matched, opened.file.infos, shapes, opened.source.path.name)
    if opened.form is not None:
        _check_types(matched, opened, expected)
    return matched, config


def _check_types(matched: Matched, opened: Opened, expected: Mapping[str, torch.Tensor]) -> None:
    """Codes are whole numbers of one type, and are not made from others."""
    for move in matched.moves:
        wanted, found = expected[move.to[0]].dtype, opened.file.infos[move.source].dtype
        if found != wanted and not (found.is_floating_point and wanted.is_floating_point):
            raise ModelError(
                f"{opened.source.path.name}: {move.source} is stored as {found}, its scheme keeps {wanted}.".replace("torch.", ""),
                hint="The file is damaged; restore it.",
            )


def _own_dtype(opened: Opened, matched: Matched) -> torch.dtype:
    """The dtype of the file's embedding, once decoded."""
    if opened.form is not None:
        return opened.form.dtype
    move = matched.move_to(EMBEDDING)
    return opened.file.infos[move.source].dtype if move else torch.float32


def _assemble(
    opened: Opened, device: torch.device | str, dtype: torch.dtype | None, control: Control
) -> Generator[Event, None, Loaded | None]:
    where = opened.source.path.name
    matched, config = _fitted(opened)
    with foreign("tokenizer", opened.source.path):
        tokenizer = opened.read_tokenizer()
    if tokenizer is not None:
        opened.notices += [*tokenizer.notes, *_vocabulary_notice(tokenizer, config)]
    for message in opened.notices:
        yield Notice(message=message)
    model = _build(config, opened.form, device, dtype or _own_dtype(opened, matched), where)
    total = sum(opened.file.infos[m.source].nbytes for m in matched.moves)
    message, done = f"Loading {opened.source.name}", 0
    yield Progress(message=message, done=0, total=total, unit="B")
    for nbytes in _with_progress(fill(model, opened.file, matched.moves, config, where)):
        done += nbytes
        if control.stopping:
            return None
        yield Progress(message=message, done=min(done, total), total=total, unit="B")
    return Loaded(model, tokenizer, config, opened.chat_template, opened.source, tuple(opened.notices))


def _vocabulary_notice(tokenizer: Tokenizer, config: ModelConfig) -> list[str]:
    if tokenizer.vocab_size <= config.vocab_size:
        return []
    return [f"The tokenizer has {tokenizer.vocab_size} tokens, the model only {config.vocab_size}; text that needs the others fails."]


def _with_progress(parts: Iterator[int], every: int = 2 << 20) -> Iterator[int]:
    """Fewer, larger steps: small tensors do not each make an event."""
    waiting = 0
    for nbytes in parts:
        waiting += nbytes
        if waiting >= every:
            yield waiting
            waiting = 0
    yield waiting


def _config(opened: Opened, matched: Matched) -> ModelConfig:
    """The architecture, with the tie decided: no head in the file ties; a head beside a tied configuration is compared."""
    where = opened.source.path.name
    head, embedding = matched.move_to(HEAD), matched.move_to(EMBEDDING)
    tied = opened.tied
    if head is None and opened.form is None:
        if tied is False:
            opened.notices.append("The file has no output head, so the token embedding is used for it (tied).")
        tied = True
    elif tied and embedding is not None and head is not None:
        if same_values(opened.file, embedding.source, head.source):
            matched.moves.remove(head)
            matched.dropped.append(head.source)
        else:
            tied = False
            opened.notices.append("The configuration ties embedding and output head, but the file's differ; they are kept apart.")
    try:
        with foreign("configuration", opened.source.path):
            config = from_dict(ModelConfig, {**opened.fields, "tie_embeddings": bool(tied)})
            problems = config.problems()
    except ConfigError as error:
        raise ModelError(f"{where}: {error.message}", hint=error.hint) from error
    if problems:
        raise ModelError(
            f"{where}: {problems[0].message}",
            hint="The configuration is damaged, or the model is of a kind that is not supported.",
            details="\n".join(str(p) for p in problems),
        )
    return config


def expected_shapes(config: ModelConfig, form: Form | None = None) -> dict[str, tuple[int, ...]]:
    """Every parameter of that architecture in that form and its shape, a tied head left out; nothing is allocated."""
    return {name: tuple(p.shape) for name, p in _expected(config, form).items()}


def _expected(config: ModelConfig, form: Form | None) -> dict[str, torch.Tensor]:
    return parameters_of(_formed(build_model(config, device="meta", init=False), form))


def _formed(model: Transformer, form: Form | None) -> Transformer:
    if form is not None:
        form.install(model)
    return model


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory could not be had, however that was reported."""
    said = isinstance(error, RuntimeError) and any(word in str(error) for word in ("alloc", "memory"))
    return said or isinstance(error, (MemoryError, OutOfMemoryError))


def _build(config: ModelConfig, form: Form | None, device: torch.device | str, dtype: torch.dtype, where: str) -> Transformer:
    if not dtype.is_floating_point:
        raise ModelError(f"{where} cannot be loaded as {dtype}.".replace("torch.", ""), hint="Use float32, bfloat16 or float16.")
    try:
        return _formed(build_model(config, device=device, dtype=dtype, init=False), form)
    except (MemoryError, RuntimeError) as error:  # torch reports both allocators' failures as RuntimeError
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"{where} does not fit into memory as {dtype}.".replace("torch.", ""),
            hint="Close other programs, load it as bfloat16, or choose a smaller model.",
            details=str(error),
        ) from error


def parameters_of(model: Any) -> dict[str, torch.Tensor]:
    """The parameters of `model` by name, a tied head left out."""
    return {name: p.detach() for name, p in model.named_parameters()}
