"""Steps of the loops in `kv_kernels` that are written in vectors of sixteen numbers, for compilers that do not find them in a loop.

Each function here makes a numba intrinsic, and imports numba to do so. LLVM turns the vectors into what the processor has: one
instruction where its registers hold sixteen numbers (AVX-512), several elsewhere. Arrays are dense; positions in them are counted in
elements from their first one.
"""

from __future__ import annotations

from typing import Any

from workbench.numerics.packing import fields


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
