"""How a block's residual part joins its branches, found out by running it on symbols. Needs neither Qt nor torch.

The residual part is the only code that knows where its norms sit, so it is asked: `forward` runs with a symbol in place of
the stream and functions that only write down that they were called. A placement registered tomorrow is drawn today.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class TraceError(Exception):
    """The part does something that the symbols cannot follow."""


@dataclass(frozen=True, eq=False)
class Node:
    """One value inside the block: which operation made it, and from what. Compared by identity."""

    op: str
    inputs: tuple[Node, ...] = ()
    factor: float = 1.0

    def __add__(self, other: object) -> Node:
        return Node("add", (self, other)) if isinstance(other, Node) else NotImplemented

    def __mul__(self, factor: object) -> Node:
        return Node("scale", (self,), float(factor)) if isinstance(factor, (int, float)) else NotImplemented

    __rmul__ = __mul__

    @property
    def step(self) -> Step:
        return Step(self.op, self.factor)


@dataclass(frozen=True)
class Step:
    """One operation on a line: "norm", "attention", "mlp", or "scale" by `factor`."""

    op: str
    factor: float = 1.0


@dataclass(frozen=True)
class Join:
    """The stream forks; branches run from the fork and are added back. `shared` comes before the branches part, `stream` is
    what happens to the stream beside them."""

    branches: tuple[tuple[Step, ...], ...]
    shared: tuple[Step, ...] = ()
    stream: tuple[Step, ...] = ()


def without(steps: tuple[Step | Join, ...], op: str) -> tuple[Step | Join, ...]:
    """The same block with all steps of one operation left out."""

    def kept(line: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(step for step in line if step.op != op)

    found: list[Step | Join] = []
    for step in steps:
        if isinstance(step, Join):
            found.append(Join(tuple(kept(b) for b in step.branches), kept(step.shared), kept(step.stream)))
        elif step.op != op:
            found.append(step)
    return tuple(found)


def trace(make_residual: Callable[..., Any], depth: int) -> tuple[Step | Join, ...]:
    """The block from its input to its output. `make_residual(norm=…, depth=…)` builds the part. Raises `TraceError`."""

    def unary(op: str) -> Callable[[Any], Node]:
        def call(x: Any) -> Node:
            if not isinstance(x, Node):
                raise TraceError(f"{op} was given {type(x).__name__}")
            return Node(op, (x,))

        return call

    try:
        part = make_residual(norm=lambda: unary("norm"), depth=depth)
        out = part.forward(Node("input"), unary("attention"), unary("mlp"))
    except (TypeError, AttributeError) as error:  # it does more with its values than add, scale and pass on
        raise TraceError(str(error)) from error
    if not isinstance(out, Node):
        raise TraceError(f"the block returned {type(out).__name__}")
    return tuple(_unwind(out))


def _unwind(node: Node) -> list[Step | Join]:
    if node.op == "input":
        return []
    if node.op != "add":
        return [*_unwind(node.inputs[0]), node.step]
    join, fork = _join(node)
    return [*_unwind(fork), join]


def _join(node: Node) -> tuple[Join, Node]:
    """The additions that end at `node` and start at one fork."""
    chains: list[list[Node]] = []
    fork: Node | None = None
    current = node
    while current.op == "add":
        stream, branch = _split(current)
        path = _stream_path(stream)
        chain, root = _chain(branch, path)
        if fork is not None and root is not fork:
            break
        fork = root
        chains.insert(0, chain)
        current = stream
        if current is fork:
            break
    if fork is None:
        raise TraceError("an addition without a branch")
    beside = [n.step for n in _between(current, fork)]
    shared = 0
    while len(chains) > 1 and all(len(c) > shared for c in chains) and len({id(c[shared]) for c in chains}) == 1:
        shared += 1
    branches = tuple(tuple(n.step for n in chain[shared:]) for chain in chains)
    return Join(branches, tuple(n.step for n in chains[0][:shared]), tuple(beside)), fork


def _is_branch(node: Node) -> bool:
    """Whether attention or MLP was passed since the last addition."""
    while len(node.inputs) == 1:
        if node.op in ("attention", "mlp"):
            return True
        node = node.inputs[0]
    return False


def _split(add: Node) -> tuple[Node, Node]:
    """(the stream, the branch) of an addition."""
    first, second = add.inputs
    if _is_branch(first) == _is_branch(second):
        raise TraceError("an addition whose stream cannot be told from its branch")
    return (second, first) if _is_branch(first) else (first, second)


def _stream_path(node: Node) -> list[Node]:
    """The stream from `node` back to the input."""
    path = [node]
    while path[-1].inputs:
        path.append(_split(path[-1])[0] if path[-1].op == "add" else path[-1].inputs[0])
    return path


def _chain(branch: Node, path: list[Node]) -> tuple[list[Node], Node]:
    """The branch's nodes from its fork upwards, and the fork: the first of its values that lies on the stream."""
    chain: list[Node] = []
    node = branch
    while not any(node is p for p in path):
        if len(node.inputs) != 1:
            raise TraceError("a branch that does not start at the stream")
        chain.insert(0, node)
        node = node.inputs[0]
    return chain, node


def _between(top: Node, fork: Node) -> list[Node]:
    """What happens to the stream from the fork up to `top`."""
    found: list[Node] = []
    while top is not fork:
        if len(top.inputs) != 1:
            raise TraceError("the stream and its branches do not meet")
        found.insert(0, top)
        top = top.inputs[0]
    return found
