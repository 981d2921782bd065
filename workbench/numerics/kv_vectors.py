"""Steps of the loops in `kv_loops` that are written in vectors of sixteen numbers, for compilers that do not find them in a loop.

Each function here makes a numba intrinsic, and imports numba to do so. LLVM turns the vectors into what the processor has: one
instruction where its registers hold sixteen numbers (AVX-512), several elsewhere. Arrays are dense; positions in them are counted in
elements from their first one.
"""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path
from typing import Any

from workbench.numerics.packing import fields


@cache
def edition() -> str:
    """Changes with this file."""
    return f"{zlib.crc32(Path(__file__).read_bytes()):08x}"


def make_expand(bits: int) -> Any:
    """`_expand(codes, row, width, chunk, table, out, k)`: out[k, 16 chunk : 16 chunk + 16] = table[those codes of that row].

    Written in vectors of 16 because no loop is compiled to this: each plane's bits are spread over 16 numbers and shifted, all
    at once; and sixteen elements that are taken out of one vector of 16 LLVM turns into one instruction (vpermps) where there is one.
    bits 0: the bytes are int8 numbers, and there is no table.
    """
    from llvmlite import ir
    from numba.core import types
    from numba.extending import intrinsic

    byte, word, real = ir.IntType(8), ir.IntType(32), ir.FloatType()
    bytes_, words, reals = (ir.VectorType(kind, 16) for kind in (byte, word, real))

    @intrinsic  # type: ignore[untyped-decorator]
    def expand(typing: Any, codes: Any, row: Any, width: Any, chunk: Any, table: Any, out: Any, k: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            codes, table, out = (context.make_array(signature.args[i])(context, builder, values[i]) for i in (0, 4, 5))
            row, width, chunk, k = values[1], values[2], values[3], values[6]
            size = width.type
            start = builder.mul(row, builder.udiv(builder.mul(width, size(bits or 8)), size(8)))
            index = None
            for field in fields(bits or 8):
                here = builder.gep(codes.data, [builder.add(start, builder.mul(chunk, size(2 * field)))])
                found = _spread(builder, here, field)
                index = found if index is None else builder.or_(builder.shl(index, ir.Constant(words, [field] * 16)), found)
                start = builder.add(start, builder.udiv(builder.mul(width, size(field)), size(8)))
            if bits:
                found = _one_by_one(builder, table.data, index) if bits == 8 else _chosen(builder, table.data, index, bits)
            else:
                found = builder.sitofp(builder.sext(builder.trunc(index, bytes_), words), reals)
            to = builder.gep(out.data, [builder.add(builder.mul(k, width), builder.mul(chunk, size(16)))])
            builder.store(found, builder.bitcast(to, reals.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(codes, types.intp, types.intp, types.intp, table, out, types.intp), generate

    return expand


def _spread(builder: Any, start: Any, field: int) -> Any:
    """The 16 numbers of `field` bits at an address, as 32-bit words."""
    from llvmlite import ir

    word = ir.IntType(32)
    words = ir.VectorType(word, 16)
    if field == 8:
        return builder.zext(builder.load(builder.bitcast(start, ir.VectorType(ir.IntType(8), 16).as_pointer()), align=1), words)
    size = ir.IntType(16) if field == 1 else word
    count = max(1, field // 2)
    found = builder.load(builder.bitcast(start, ir.VectorType(size, count).as_pointer()), align=1)
    if field == 1:
        found = builder.zext(found, ir.VectorType(word, count))
    lanes = ir.Constant(words, [i * count // 16 for i in range(16)])
    found = builder.shuffle_vector(found, ir.Constant(found.type, ir.Undefined), lanes)
    shifts = ir.Constant(words, [i % (16 // count) * field for i in range(16)])
    return builder.and_(builder.lshr(found, shifts), ir.Constant(words, [2**field - 1] * 16))


def _chosen(builder: Any, table: Any, index: Any, bits: int) -> Any:
    """table[index], 16 levels of the table at a time."""
    from llvmlite import ir

    word = ir.IntType(32)
    words, reals = ir.VectorType(word, 16), ir.VectorType(ir.FloatType(), 16)
    low, found = builder.and_(index, ir.Constant(words, [15] * 16)), None
    for part in range(max(1, 2**bits // 16)):
        address = builder.bitcast(builder.gep(table, [word(16 * part)]), reals.as_pointer())
        level, taken = builder.load(address, align=4), ir.Constant(reals, ir.Undefined)
        for i in map(word, range(16)):
            taken = builder.insert_element(taken, builder.extract_element(level, builder.extract_element(low, i)), i)
        if found is None:
            found = taken
        else:
            found = builder.select(builder.icmp_unsigned("<", index, ir.Constant(words, [16 * part] * 16)), found, taken)
    return found


def _one_by_one(builder: Any, table: Any, index: Any) -> Any:
    """table[index], one after the other: of 256 levels that takes less time than 16 at a time."""
    from llvmlite import ir

    word = ir.IntType(32)
    taken = ir.Constant(ir.VectorType(ir.FloatType(), 16), ir.Undefined)
    for i in map(word, range(16)):
        taken = builder.insert_element(taken, builder.load(builder.gep(table, [builder.extract_element(index, i)])), i)
    return taken


class _Arrays:
    """Loads, stores and sums in vectors of sixteen float32 of the array arguments of an intrinsic."""

    def __init__(self, context: Any, builder: Any, signature: Any, values: Any) -> None:
        from llvmlite import ir

        self.ir, self.builder = ir, builder
        self.kind = ir.VectorType(ir.FloatType(), 16)
        self.zero = ir.Constant(self.kind, [0.0] * 16)
        self.data = [
            context.make_array(kind)(context, builder, value).data if hasattr(kind, "ndim") else None
            for kind, value in zip(signature.args, values, strict=True)
        ]

    def address(self, which: int, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(self.data[which], [at]), self.kind.as_pointer())

    def load(self, which: int, at: Any) -> Any:
        return self.builder.load(self.address(which, at), align=4)

    def one(self, which: int, at: Any) -> Any:
        return self.builder.load(self.builder.gep(self.data[which], [at]))

    def everywhere(self, number: Any) -> Any:
        word = self.ir.IntType(32)
        first = self.builder.insert_element(self.ir.Constant(self.kind, self.ir.Undefined), number, word(0))
        return self.mixed(first, first, [0] * 16)

    def mixed(self, a: Any, b: Any, lanes: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, self.ir.Constant(self.ir.VectorType(self.ir.IntType(32), len(lanes)), lanes))

    def plus(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b, flags=("fast",))

    def times(self, a: Any, b: Any) -> Any:
        return self.builder.fmul(a, b, flags=("fast",))

    def sums(self, found: list[Any]) -> list[Any]:
        """The sums of up to four vectors' elements, all in one tree."""
        a, b, c, d = (*found, *[self.zero] * (4 - len(found)))
        halves = [self.plus(self.mixed(x, y, _LOWER), self.mixed(x, y, _UPPER)) for x, y in ((a, b), (c, d))]
        quarters = self.plus(self.mixed(halves[0], halves[1], _EVEN), self.mixed(halves[0], halves[1], _ODD))
        pairs = self.plus(quarters, self.mixed(quarters, quarters, [i ^ 2 for i in range(16)]))
        whole = self.plus(pairs, self.mixed(pairs, pairs, [i ^ 1 for i in range(16)]))
        return [self.builder.extract_element(whole, self.ir.IntType(32)(4 * i)) for i in range(len(found))]


_LOWER, _UPPER = [*range(8), *range(16, 24)], [*range(8, 16), *range(24, 32)]
_EVEN = [i for at in (0, 8, 16, 24) for i in range(at, at + 4)]
_ODD = [i + 4 for i in _EVEN]


def make_dots(count: int) -> Any:
    """`dots(rows, at, vectors, of, width, factor, out, to, step)`: out[to + i · step] = factor · Σ rows[at + i · width + j] ·
    vectors[of + j] over j < width, for i < count ≤ 4. Each vector is read once for all rows."""
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    @intrinsic  # type: ignore[untyped-decorator]
    def dots(typing: Any, rows: Any, at: Any, vectors: Any, of: Any, width: Any, factor: Any, out: Any, to: Any, step: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            a = _Arrays(context, builder, signature, values)
            at, of, width, factor, to, step = (values[i] for i in (1, 3, 4, 5, 7, 8))
            totals = [cgutils.alloca_once_value(builder, a.zero) for _ in range(count)]
            with cgutils.for_range_slice(builder, width.type(0), width, width.type(16)) as (j, _):
                x = a.load(2, builder.add(of, j))
                for i, total in enumerate(totals):
                    row = builder.add(builder.add(at, j), builder.mul(width, width.type(i)))
                    builder.store(a.plus(builder.load(total), a.times(x, a.load(0, row))), total)
            for i, found in enumerate(a.sums([builder.load(total) for total in totals])):
                place = builder.gep(a.data[6], [builder.add(to, builder.mul(step, width.type(i)))])
                builder.store(a.times(found, factor), place)
            return context.get_dummy_value()

        size = types.intp
        return types.void(rows, size, vectors, size, size, types.float32, out, size, size), generate

    return dots


def make_add(chunks: int) -> Any:
    """`add(p, at, factors, count, vectors, of, width, out, to)`: out[to + j] += Σ p[at + i] · factors[i] · vectors[of + i · width + j]
    over i < count, for j < 16 · chunks. The sums stay in registers."""
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    @intrinsic  # type: ignore[untyped-decorator]
    def add(typing: Any, p: Any, at: Any, factors: Any, count: Any, vectors: Any, of: Any, width: Any, out: Any, to: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            a = _Arrays(context, builder, signature, values)
            at, count, of, width, to = (values[i] for i in (1, 3, 5, 6, 8))
            starts = [width.type(16 * c) for c in range(chunks)]
            totals = [cgutils.alloca_once_value(builder, a.load(7, builder.add(to, start))) for start in starts]
            with cgutils.for_range(builder, count) as loop:
                weight = a.everywhere(a.times(a.one(0, builder.add(at, loop.index)), a.one(2, loop.index)))
                row = builder.add(of, builder.mul(loop.index, width))
                for start, total in zip(starts, totals, strict=True):
                    builder.store(a.plus(builder.load(total), a.times(weight, a.load(4, builder.add(row, start)))), total)
            for start, total in zip(starts, totals, strict=True):
                builder.store(builder.load(total), a.address(7, builder.add(to, start)), align=4)
            return context.get_dummy_value()

        size = types.intp
        return types.void(p, size, factors, size, vectors, size, size, out, size), generate

    return add
