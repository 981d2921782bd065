"""What a run trains, as short fingerprints: a checkpoint goes on only in the model and the parameters it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor

from workbench.core.fields import to_dict
from workbench.model import Transformer

_SAMPLES = 16
"""Signs taken along each dimension of a weight: 256 of a matrix, some ten thousand of a model."""


def identity(model: Transformer, trained: Mapping[str, Tensor]) -> dict[str, str]:
    """`parameters`: names and shapes of what is trained; `base`: the model's settings and, of its frozen weights, the signs of
    an even sample. Signs are the same in every precision, so a run may go on with the model loaded in another one."""
    shapes = sorted((name, list(tensor.shape)) for name, tensor in trained.items())
    own = {id(tensor) for tensor in trained.values()}
    frozen = [p for name, p in model.named_parameters() if id(p) not in own and ".adapters." not in name]
    described = [to_dict(model.config), sorted(_signs(p) for p in frozen)]  # sorted: adapters wrap layers and change names
    size = f"{model.config.n_layers} blocks of {model.config.d_model}"
    return {"parameters": f"{len(shapes)} tensors {_short(shapes)}", "base": f"{size} {_short(described)}"}


def _signs(weight: Tensor) -> str:
    sample = weight.detach()
    for dim, size in enumerate(weight.shape):
        sample = sample[(slice(None),) * dim + (slice(None, None, max(1, size // _SAMPLES)),)]
    bits = torch.signbit(sample).flatten().cpu().numpy().tobytes()
    return f"{tuple(weight.shape)} {hashlib.sha256(bits).hexdigest()}"


def _short(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:12]
