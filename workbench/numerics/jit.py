"""Small loops compiled to machine code by numba, where it is installed, on the threads torch computes with.

numba is imported when the first kernel runs, never at import of this room: it costs half a second and tens of megabytes.
Compiled code is kept on disk beside the source (or in the user's cache folder) and reused by later processes.
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError

Function = Callable[..., Any]

FAST = {"reassoc", "contract", "arcp", "nsz"}
"""What compiled code may do to float arithmetic: sums in any order and fused, which lets it use wide registers. NaN and
infinities keep their meaning."""


@cache
def available() -> bool:
    """Whether kernels can be compiled here: numba is installed and compiles a small function rightly. The first call imports
    numba and takes a second."""
    if importlib.util.find_spec("numba") is None:
        return False
    try:
        import numba

        return bool(numba.njit(_add)(1, 2) == 3)
    except Exception:  # a numba that does not fit this Python, numpy or processor fails in ways of its own
        return False


def kernel(function: Function) -> Kernel:
    """Decorator: `function(a, b, ...)` in the part of Python that numba compiles, run on the calling thread.

    Called with torch tensors on the CPU (contiguous ones compile to the fastest code), numpy arrays and numbers; returns
    what the function returns. Raises `WorkbenchError` where `available()` is False: have a twin in torch for that.
    """
    return Kernel(function, shared=False)


def shared_kernel(function: Function) -> Kernel:
    """Decorator: `function(begin, end, a, b, ...)` works on the items begin … end − 1 of a whole; call it as
    `kernel(count, a, b, ...)` and the threads of torch share the `count` items. Writes into its arguments, returns nothing.

    The threads are torch's own (`torch.get_num_threads()`), so that no second pool fights with it for the cores. Where torch
    brings no GNU OpenMP along (Windows, macOS) the calling thread does it all.
    """
    return Kernel(function, shared=True)


def part(function: Function) -> Function:
    """`function` for kernels to call: compiled into their code wherever they do. Imports numba, so that it is made as late as they
    are, and only where `available()`."""
    return _compile(function, inline=True)


class Kernel:
    """A function that is compiled when it is first called, once per combination of argument types."""

    def __init__(self, function: Function, shared: bool) -> None:
        self.function = function
        self.shared = shared
        self.__doc__ = function.__doc__
        self._run: Function | None = None
        self._lock = threading.Lock()

    def __call__(self, *arguments: Any) -> Any:
        run = self._run or self._prepared()
        plain = [a.numpy() if isinstance(a, Tensor) else a for a in arguments]
        return run(torch.get_num_threads(), *plain) if self.shared else run(*plain)

    def alone(self, *arguments: Any) -> None:
        """A shared kernel on the calling thread only: for work that takes less time than waking the others."""
        run = self._run or self._prepared()
        run(1, *[a.numpy() if isinstance(a, Tensor) else a for a in arguments])

    @property
    def compiled(self) -> bool:
        """Whether it ran before in this process, for at least one combination of types: the next call will probably not wait."""
        return self._run is not None and bool(getattr(self._run, "signatures", ()))

    @property
    def kept(self) -> bool:
        """Whether the next call does not wait for the compiler: it ran before, or an earlier process left its code on disk."""
        if self.compiled or not available():
            return True
        files = getattr(getattr(self._prepared(), "_cache", None), "_cache_file", None)  # private parts of numba
        return Path(str(getattr(files, "_index_path", ""))).is_file()

    def _prepared(self) -> Function:
        with self._lock:
            if self._run is None:
                if not available():
                    raise WorkbenchError("numba is not usable here.", hint="Install it with: pip install numba")
                inner = _compile(self.function, inline=self.shared)
                self._run = _compile(_driver(self.function, inner)) if self.shared else inner
            return self._run


def _add(a: int, b: int) -> int:
    return a + b


def _compile(function: Function, inline: bool = False) -> Function:
    """With the code kept on disk, unless no folder for it can be written. `inline`: part of another function's code."""
    import numba

    options: dict[str, Any] = {"nogil": True, "fastmath": FAST, "error_model": "numpy"}
    if inline:
        return numba.njit(**options)(function)  # type: ignore[no-any-return]
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # "no locator available"
        return numba.njit(**options)(function)  # type: ignore[no-any-return]


# ---- sharing a kernel among torch's threads --------------------------------------------------------------------------


def _driver(function: Function, inner: Function) -> Function:
    """`run(threads, count, *arguments)`: a copy of one of the two templates that calls `inner`, with the name and place of
    `function`, because numba finds compiled code on disk by these."""
    share = _share()
    template = _alone if share is None else _together
    code: CodeType = template.__code__.replace(
        co_filename=function.__code__.co_filename,
        co_firstlineno=function.__code__.co_firstlineno,
        co_name=f"{function.__name__}{template.__name__}_{_edition()}",
        co_qualname=f"{function.__qualname__}.{template.__name__}_{_edition()}",
    )
    run = FunctionType(code, {"_share": share, "_inner": inner, "__builtins__": __builtins__, "__name__": function.__module__})
    run.__module__ = function.__module__
    return run


@cache
def _edition() -> str:
    """Changes with this file, so that code compiled with an older one is not taken."""
    return f"{zlib.crc32(Path(__file__).read_bytes()):08x}"


def _alone(threads, count, *arguments):  # type: ignore[no-untyped-def]  # compiled by numba
    _inner(0, count, *arguments)  # type: ignore[name-defined]  # noqa: F821 - given by _driver


def _together(threads, count, *arguments):  # type: ignore[no-untyped-def]
    if threads > 1 and count > 1:
        _share(_inner, threads, count, arguments)  # type: ignore[name-defined]  # noqa: F821
    else:
        _inner(0, count, *arguments)  # type: ignore[name-defined]  # noqa: F821


_SYMBOLS = {
    "workbench_omp_parallel": "GOMP_parallel",
    "workbench_omp_thread": "omp_get_thread_num",
    "workbench_omp_threads": "omp_get_num_threads",
}


@cache
def _share() -> Any:
    """The numba intrinsic that calls a kernel on all threads of torch's pool, proven on a small sum; None where there is no
    such pool or this numba's inner workings differ."""
    try:
        import llvmlite.binding as llvm
        import numba

        library = _gnu_openmp()
        if library is None:
            return None
        for ours, theirs in _SYMBOLS.items():
            llvm.add_symbol(ours, ctypes.cast(getattr(library, theirs), ctypes.c_void_p).value)
        share = _make_share()
        done = torch.zeros(7).numpy()
        namespace = {"_share": share, "_inner": numba.njit(nogil=True)(_count), "__builtins__": __builtins__}
        numba.njit(FunctionType(_together.__code__, namespace))(3, 7, done)
        return share if done.tolist() == [1.0] * 7 else None
    except Exception:  # private parts of numba may change with any version; one thread is the answer then
        return None


def _count(begin, end, done):  # type: ignore[no-untyped-def]
    for i in range(begin, end):
        done[i] += 1


def _gnu_openmp() -> ctypes.CDLL | None:
    """The OpenMP library that torch's wheel brings along and has loaded."""
    folder = Path(torch.__file__).parent
    for found in (*(folder / "lib").glob("libgomp*.so*"), *folder.with_name("torch.libs").glob("libgomp*.so*")):
        return ctypes.CDLL(str(found))
    return None


def _make_share() -> Any:
    """`_share(inner, threads, count, arguments)`: makes a function that each thread of the pool runs, which finds its part of
    the items and calls `inner` on it, and hands it to OpenMP."""
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    @intrinsic  # type: ignore[untyped-decorator]
    def share(typing: Any, inner: Any, threads: Any, count: Any, arguments: Any) -> Any:
        wanted = (types.int64, types.int64, *arguments.types)

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            compiled = inner.dispatcher.get_compile_result(inner.get_call_type(typing, wanted, {}))
            context.active_code_library.add_linking_library(compiled.library)
            module, size = builder.module, ir.IntType(64)
            number, address = ir.IntType(32), ir.IntType(8).as_pointer()
            packed_type = context.get_value_type(types.Tuple([types.int64, arguments]))
            task = ir.Function(module, ir.FunctionType(ir.VoidType(), [address]), module.get_unique_name("workbench_task"))
            task.linkage = "internal"
            inside = ir.IRBuilder(task.append_basic_block("entry"))
            asked = ir.FunctionType(number, [])
            me = inside.sext(inside.call(cgutils.get_or_insert_function(module, asked, "workbench_omp_thread"), []), size)
            all_ = inside.sext(inside.call(cgutils.get_or_insert_function(module, asked, "workbench_omp_threads"), []), size)
            packed = inside.load(inside.bitcast(task.args[0], packed_type.as_pointer()))
            total = inside.extract_value(packed, 0)
            begin = inside.sdiv(inside.mul(total, me), all_)
            end = inside.sdiv(inside.mul(total, inside.add(me, size(1))), all_)
            unpacked = cgutils.unpack_tuple(inside, inside.extract_value(packed, 1))
            called = context.declare_function(module, compiled.fndesc)
            context.call_conv.call_function(inside, called, types.none, wanted, [begin, end, *unpacked])
            inside.ret_void()

            given = context.make_tuple(builder, types.Tuple([types.int64, arguments]), [values[2], values[3]])
            place = builder.bitcast(cgutils.alloca_once_value(builder, given), address)
            kind = ir.FunctionType(ir.VoidType(), [task.type, address, number, number])
            parallel = cgutils.get_or_insert_function(module, kind, "workbench_omp_parallel")
            builder.call(parallel, [task, place, builder.trunc(values[1], number), number(0)])
            return context.get_dummy_value()

        return types.none(inner, types.int64, types.int64, arguments), generate

    return share
