"""Values from a file into the parameters of a built model, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from workbench.checkpoints.table import Move
from workbench.checkpoints.tensors import Rows, TensorFile
from workbench.core.errors import ModelError
from workbench.model import ModelConfig

CHUNK = 1 << 16
"""Numbers decoded at once: small enough to stay out of the peak, large enough that Python does not show."""
_FORGET_BYTES = 1 << 20


def fill(model: nn.Module, file: TensorFile, moves: Sequence[Move], config: ModelConfig, where: str) -> Iterator[int]:
    """Copy every move into `model`, yielding the bytes of the file that were used, step by step.

    The parameters' own dtype and device decide what is stored. Raises `ModelError` naming a tensor that holds a NaN or an
    infinity, or numbers too large for the dtype.
    """
    parameters = dict(model.named_parameters())
    since_forget = 0
    for move in moves:
        targets = [parameters[to].detach() for to in move.to]
        used = 0
        total = sum(t.numel() for t in targets)
        nbytes = file.infos[move.source].nbytes
        for target, rows in zip(targets, move.take.rows(config, [t.shape[0] for t in targets]), strict=True):
            for start, end in _chunks(target):
                part: Rows = slice(start, end) if rows is None else rows[start:end]
                values = file.rows(move.source, part, move.take.transposed)
                _store(target[start:end], values, move.source, where)
                used += values.numel()
                since_forget += values.numel() * nbytes // total
                if since_forget > _FORGET_BYTES:
                    file.forget()
                    since_forget = 0
                yield values.numel() * nbytes // total
    file.forget()


def _chunks(target: Tensor) -> Iterator[tuple[int, int]]:
    rows = target.shape[0]
    step = max(1, CHUNK * rows // max(1, target.numel()))
    step = step // 64 * 64 or step  # round numbers of rows let the decoder of quantized blocks work on wide pieces
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def _store(target: Tensor, values: Tensor, source: str, where: str) -> None:
    target.copy_(values)
    # One pass instead of three: a sum is finite unless a term is not (or the sum itself overflows, which is looked at closely).
    if torch.isfinite(target.sum(dtype=torch.float32 if target.dtype != torch.float64 else None)):
        return
    if bool(torch.isfinite(target).all()):
        return
    if bool(torch.isfinite(values).all()):
        raise ModelError(
            f"{where}: {source} holds {values.abs().max().item():g}, more than {target.dtype} can express.".replace("torch.", ""),
            hint="Load the model as bfloat16 or float32.",
        )
    kind = "NaN" if bool(torch.isnan(values).any()) else "an infinity"
    raise ModelError(f"{where}: {source} holds {kind}.", hint="The weights are damaged or their training diverged; get another copy.")


def same_values(file: TensorFile, one: str, other: str) -> bool:
    """True when two tensors of the file hold equal numbers."""
    a, b = file.infos[one], file.infos[other]
    if a.shape != b.shape:
        return False
    step = max(1, CHUNK // max(1, a.shape[-1]))
    for start in range(0, a.shape[0], step):
        part = slice(start, start + step)
        if not torch.equal(file.rows(one, part), file.rows(other, part)):
            return False
    file.forget()
    return True
