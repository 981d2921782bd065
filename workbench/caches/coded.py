"""A layer whose older tokens are encoded: exact sinks, codes, an exact tail; attention reads each as it lies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.caches.base import Codec, LayerCache, LayerShape, Planes, SlotMap
from workbench.caches.layout import Layout
from workbench.numerics.attention import Frame, Scoring, attend
from workbench.numerics.kv_kernels import Attention, Span
from workbench.numerics.online import OnlineAttention

TILE = 512
"""Encoded tokens that are decoded at a time where codes cannot be used as they are."""


class CodedLayerCache(LayerCache):
    """`keys` and `values` are this layer's codecs. See `Layout` for which slots are encoded.

    A chunk of a prompt attends to its own keys and values as they came and to what was stored before; then it is stored.
    A single token attends to everything stored, its own key and value included.
    """

    def __init__(self, shape: LayerShape, keys: Codec, values: Codec, *, sinks: int = 0, window: int = 0, track: bool = False) -> None:
        super().__init__(shape)
        self.keys, self.values = keys, values
        self.layout = Layout.of(
            keys, values, batch=shape.batch, heads=shape.heads, width=shape.width, itemsize=shape.dtype.itemsize,
            sinks=sinks, window=window, track=track,
        )  # fmt: skip
        self.group = self.layout.group
        self._first = sinks
        self.count = self.coded = 0
        self._calibrated = False
        self._sinks = self._exact(sinks)
        self._tail = self._exact(self.layout.room)
        self._codes = [self._planes(codec) for codec in (keys, values)]
        self._errors = torch.empty((2, shape.capacity), dtype=torch.float16, device=shape.device) if track else None
        self._attention: Attention | None = None
        self._prepared = False

    def _exact(self, tokens: int) -> list[Tensor]:
        """Room for keys and for values of so many tokens as they come."""
        s = self.shape
        size = (s.batch, s.heads, min(tokens, s.capacity), s.width)
        return [torch.empty(size, dtype=s.dtype, device=s.device) for _ in range(2)]

    def _planes(self, codec: Codec) -> dict[str, Tensor]:
        """Room for the codes of all tokens."""
        s = self.shape
        size = (s.batch, s.heads, s.capacity // codec.group)
        return {name: torch.empty((*size, *plane.shape), dtype=plane.dtype, device=s.device) for name, plane in codec.planes().items()}

    # ---- sizes -------------------------------------------------------------------------------------------------------

    def nbytes(self, length: int) -> int:
        return self.layout.nbytes(length, min(self.coded, max(0, length - self.layout.sinks)))

    @property
    def allocated_nbytes(self) -> int:
        held = [*self._sinks, *self._tail, *(t for codes in self._codes for t in codes.values())]
        side = self.layout.batch * self.layout.side if self._calibrated or self.coded else 0
        return sum(int(t.nbytes) for t in held) + side + (0 if self._errors is None else int(self._errors.nbytes))

    def constants(self) -> tuple[Tensor, ...]:
        return (*self.keys.constants(), *self.values.constants()) if self.coded else ()

    # ---- storing -----------------------------------------------------------------------------------------------------

    def store(self, k: Tensor, v: Tensor, start: int) -> None:
        self._rewind(start)
        sinks = self.layout.sinks
        fresh = min(max(0, sinks - self.count), k.shape[2])
        if fresh:
            for held, new in zip(self._sinks, (k, v), strict=True):
                held[:, :, self.count : self.count + fresh] = new[:, :, :fresh]
        behind = max(0, self.count - sinks - self.coded)
        self.count += k.shape[2]
        leaving = max(0, self.layout.coded(self.count) - self.coded)
        pending = [new[:, :, fresh:].to(tail.dtype) for tail, new in zip(self._tail, (k, v), strict=True)]
        if leaving and behind:
            pending = [torch.cat((tail[:, :, :behind], new), 2) for tail, new in zip(self._tail, pending, strict=True)]
        if leaving:
            self._encode([p[:, :, :leaving] for p in pending])
            behind = 0
        for tail, new in zip(self._tail, pending, strict=True):
            left = new[:, :, leaving:]
            tail[:, :, behind : behind + left.shape[2]] = left

    def _push(self, k: Tensor, v: Tensor) -> None:
        """One token to the end, which has room for it; nothing is encoded yet."""
        at, where = self.count, self._sinks
        if at >= self.layout.sinks:
            at, where = at - self.layout.sinks - self.coded, self._tail
        for held, new in zip(where, (k, v), strict=True):
            held[:, :, at : at + 1] = new
        self.count += 1

    def _flush(self) -> None:
        """Encode what has to leave the tail."""
        leaving = self.layout.coded(self.count) - self.coded
        if leaving <= 0:
            return
        behind = self.count - self.layout.sinks - self.coded
        self._encode([tail[:, :, :leaving] for tail in self._tail])
        for tail in self._tail:
            tail[:, :, : behind - leaving] = tail[:, :, leaving:behind].clone()

    def _encode(self, pair: list[Tensor]) -> None:
        """Append keys and values [B, G, T, D] to the codes; in float32 even where a prompt is read in less, so that the codes of a
        token never depend on how it came."""
        with torch.autocast(self.shape.device.type, enabled=False):
            self._encode_all(pair)

    def _encode_all(self, pair: list[Tensor]) -> None:
        if not self._calibrated:
            for codec, x in zip((self.keys, self.values), pair, strict=True):
                if codec.wants:
                    codec.calibrate(x[:, :, : codec.wants].float())
            self._calibrated, self._prepared = True, False
        tokens = pair[0].shape[2]
        for side, (codec, held, x) in enumerate(zip((self.keys, self.values), self._codes, pair, strict=True)):
            made = codec.encode(x.float())
            at, groups = self.coded // codec.group, tokens // codec.group
            for name, plane in made.items():
                held[name][:, :, at : at + groups] = plane
            if self._errors is not None:
                self._errors[side, self.coded : self.coded + tokens] = _relative_error(x.float(), codec.decode(made))
        self.coded += tokens

    # ---- forgetting --------------------------------------------------------------------------------------------------

    def truncate(self, length: int) -> None:
        self._rewind(length)

    def _rewind(self, length: int) -> None:
        """Forget slots from `length` on. A group that is cut goes back to the tail as it was decoded."""
        if length >= self.count:
            return
        left = max(0, length - self.layout.sinks)
        if left < self.coded:
            whole = left // self.layout.group * self.layout.group
            cut = left - whole
            if cut:
                for codec, codes, tail in zip((self.keys, self.values), self._codes, self._tail, strict=True):
                    group = codec.decode(_part(codes, codec, whole, whole + self.layout.group))
                    tail[:, :, :cut] = group[:, :, :cut].to(tail.dtype)
            self.coded = whole
        self.count = length
        if length == 0:
            self._calibrated = False
            self.layout = replace(self.layout, sinks=self._first)
            self.keys.forget()
            self.values.forget()

    def drop(self, start: int, count: int, length: int) -> None:
        self._rewind(length)
        if start < self.layout.sinks:
            count -= self._drop_sinks(start, count)
        first, sinks = start - self.layout.sinks, self.layout.sinks
        encoded = min(max(0, self.coded - first), count)
        if first % self.layout.group or encoded % self.layout.group:
            raise ValueError(f"groups of {self.layout.group} tokens cannot be cut at {first} or {first + encoded}")
        for codec, codes in zip((self.keys, self.values), self._codes, strict=True):
            a, b, end = first // codec.group, (first + encoded) // codec.group, self.coded // codec.group
            for plane in codes.values() if encoded else ():
                plane[:, :, a : a + end - b] = plane[:, :, b:end].clone()
        if self._errors is not None and encoded:
            self._errors[:, first : self.coded - encoded] = self._errors[:, first + encoded : self.coded].clone()
        behind, exact = self.count - sinks - self.coded, count - encoded
        at = max(0, first - self.coded)
        self.coded -= encoded
        for tail in self._tail if exact else ():
            tail[:, :, at : behind - exact] = tail[:, :, at + exact : behind].clone()
        self.count -= count

    def _drop_sinks(self, start: int, count: int) -> int:
        """Go on without sinks until the cache is emptied; how many there were."""
        sinks = self.layout.sinks
        if start or count < sinks:
            raise ValueError(f"slots {start} … {start + count - 1} are only a part of the {sinks} sinks")
        self.layout = replace(self.layout, sinks=0)
        self.count -= sinks
        return sinks

    def resize(self, capacity: int, length: int) -> None:
        self._rewind(length)
        self.shape = replace(self.shape, capacity=capacity)
        sinks, tail, codes, errors = self._sinks, self._tail, self._codes, self._errors
        self._sinks, self._tail = self._exact(self._first), self._exact(self.layout.room)
        self._codes = [self._planes(codec) for codec in (self.keys, self.values)]
        self._prepared = False
        near = min(self.layout.sinks, self.count)
        behind = max(0, self.count - self.layout.sinks - self.coded)
        for new, old, used in [*zip(self._sinks, sinks, (near, near), strict=True), *zip(self._tail, tail, (behind, behind), strict=True)]:
            new[:, :, :used] = old[:, :, :used]
        for codec, made, held in zip((self.keys, self.values), self._codes, codes, strict=True):
            for name, plane in _part(held, codec, 0, self.coded).items():
                made[name][:, :, : plane.shape[2]] = plane
        if errors is not None:
            self._errors = errors.new_empty((2, capacity))
            self._errors[:, : self.coded] = errors[:, : self.coded]

    def turn(self, stop: int, rotate: Callable[[Tensor], Tensor]) -> None:
        if stop > self.layout.sinks:
            raise ValueError(f"only the {self.layout.sinks} sinks are exact, not the first {stop} slots")
        keys = self._sinks[0][:, :, :stop]
        keys.copy_(rotate(keys))

    # ---- reading -----------------------------------------------------------------------------------------------------

    def read(self, end: int) -> tuple[Tensor, Tensor]:
        pieces = [(keys, values) for _, keys, values in self._pieces(end)]
        keys, values = (torch.cat([piece[side] for piece in pieces], 2) for side in (0, 1)) if pieces else self._nothing()
        return keys, values

    def _nothing(self) -> tuple[Tensor, Tensor]:
        return self._tail[0][:, :, :0], self._tail[1][:, :, :0]

    def _pieces(self, end: int, since: int = 0) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(first slot, keys, values) of slots 0 … end−1 in order, decoded tile by tile, in float32; without tiles that end before slot
        `since`."""
        sinks, coded = self.layout.sinks, self.coded
        if sinks and end:
            yield 0, self._sinks[0][:, :, : min(sinks, end)].float(), self._sinks[1][:, :, : min(sinks, end)].float()
        stop = min(coded, end - sinks)
        for at in range(0, stop, TILE):
            upto = min(at + TILE, stop)
            if sinks + upto <= since:
                continue
            whole = math.ceil(upto / self.layout.group) * self.layout.group
            k = self.keys.decode(_part(self._codes[0], self.keys, at, whole))
            v = self.values.decode(_part(self._codes[1], self.values, at, whole))
            yield sinks + at, k[:, :, : upto - at], v[:, :, : upto - at]
        left = end - sinks - coded
        if left > 0:
            yield sinks + coded, self._tail[0][:, :, :left].float(), self._tail[1][:, :, :left].float()

    def slots(self, length: int) -> SlotMap:
        exact = np.ones(length, dtype=bool)
        sinks = self.layout.sinks
        stop = min(length, sinks + self.coded)
        exact[sinks:stop] = False
        errors = np.where(exact, np.float32(0), np.float32(np.nan)) * np.ones((2, 1), dtype=np.float32)
        if self._errors is not None and stop > sinks:
            errors[:, sinks:stop] = self._errors[:, : stop - sinks].float().cpu().numpy()
        return SlotMap(exact, errors[0], errors[1])

    # ---- attention ---------------------------------------------------------------------------------------------------

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, frame: Frame) -> Tensor:
        self._rewind(frame.start)
        if frame.start == 0:
            out = attend(q, k, v, scoring, frame)
            self.store(k, v, 0)
        elif q.shape[2] == 1 and frame.plain and scoring.causal and scoring.bias is None and scoring.softcap is None:
            self._push(k, v)
            out = self._single(q, scoring)
            self._flush()
        else:
            online = OnlineAttention(q, scoring, frame)
            since = 0 if scoring.window is None or not frame.plain else max(0, frame.start - scoring.window + 1)
            for at, keys, values in self._pieces(frame.start, since):
                online.add(keys, values, at)
            online.add(k, v, frame.start)
            out = online.result()
            self.store(k, v, frame.start)
        return out

    def _single(self, q: Tensor, scoring: Scoring) -> Tensor:
        """q [B, H, 1, D] sees all slots, or the last `scoring.window`; the query heads of a group are query rows."""
        rows = q.reshape(q.shape[0], self.shape.heads, -1, q.shape[3]).float()
        sinks = min(self.layout.sinks, self.count)
        seen_from = 0 if scoring.window is None else max(0, self.count - scoring.window)
        behind = self.count - sinks - self.coded
        near = ((min(seen_from, sinks), sinks), (max(0, seen_from - sinks - self.coded), behind))
        seen = (min(max(0, seen_from - sinks), self.coded), self.coded)
        attention = self._whole() if seen[0] < seen[1] and not rows.requires_grad else None
        if attention is not None:
            return attention(rows, scoring.scale, seen, near).view(q.shape).to(q.dtype)
        return self._step_by_step(rows * scoring.scale, seen, near).reshape(q.shape).to(q.dtype)

    def _whole(self) -> Attention | None:
        """Attention as one call, where both codecs and this machine offer it; made anew after the tensors were."""
        if not self._prepared:
            packed = [codec.packed(codes) for codec, codes in zip((self.keys, self.values), self._codes, strict=True)]
            near = ((self._sinks[0], self._sinks[1]), (self._tail[0], self._tail[1]))
            self._attention = Attention.of(packed[0], packed[1], near)
            self._prepared = True
        return self._attention

    @property
    def compiles(self) -> bool:
        attention = self._whole() if self.coded else None
        return attention is not None and not attention.kept

    def __getstate__(self) -> dict[str, Any]:
        """Copies have tensors of their own."""
        return {**self.__dict__, "_attention": None, "_prepared": False}

    def _step_by_step(self, rows: Tensor, seen: Span, near: tuple[Span, Span]) -> Tensor:
        """Scores, softmax and sums one after the other: rows [B, G, R, D] -> the same."""
        exact = [(k[:, :, i:j].float(), v[:, :, i:j].float()) for (k, v), (i, j) in zip((self._sinks, self._tail), near, strict=True)]
        start = seen[0] // self.layout.group * self.layout.group
        skipped = seen[0] - start
        parts = [rows @ keys.transpose(-1, -2) for keys, _ in exact]
        if seen[0] < seen[1]:
            parts.append(self.keys.scores(rows, _part(self._codes[0], self.keys, start, seen[1]))[..., skipped:])
        p = torch.softmax(torch.cat(parts, -1), -1)
        shares = torch.split(p, [part.shape[-1] for part in parts], -1)
        out: Tensor = shares[0] @ exact[0][1] + shares[1] @ exact[1][1]
        if seen[0] < seen[1]:
            weights = torch.nn.functional.pad(shares[2], (skipped, 0)) if skipped else shares[2]
            out = out + self.values.weighted_sum(weights, _part(self._codes[1], self.values, start, seen[1]))
        return out


def _part(codes: Planes, codec: Codec, start: int, stop: int) -> dict[str, Tensor]:
    """The planes of encoded tokens start … stop−1, views."""
    a, b = start // codec.group, stop // codec.group
    return {name: plane[:, :, a:b] for name, plane in codes.items()}


def _relative_error(x: Tensor, decoded: Tensor) -> Tensor:
    """‖x − x̃‖² / ‖x‖² per token over batch, heads and width: [B, G, T, D] -> [T]; 0 for a zero vector."""
    size = x.square().sum((0, 1, 3))
    return (x - decoded).square().sum((0, 1, 3)) / size.clamp_min(torch.finfo(size.dtype).tiny)
