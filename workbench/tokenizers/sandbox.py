"""Jinja templates from strangers, run so that they can neither reach Python nor use up the machine.

Chat templates come inside model files. On top of Jinja's immutable sandbox: reading an internal attribute is an error at
once, every loop step and call is counted against a limit and a deadline, every operation is charged for the size of what
it reads, and every one that can make a value larger than its inputs (repetition, joining, formatting, nesting) is measured
before or as it happens.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import ext, nodes, sandbox
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, Undefined
from jinja2.utils import Namespace, _PassArg, pass_context
from jinja2.visitor import NodeTransformer

from workbench.core.errors import ModelError

MAX_SOURCE = 400_000
MAX_STEPS = 500_000
MAX_SECONDS = 5.0
MAX_WORK = 4_000_000_000
"""Characters that all operations together may read: no single one may run for long after the clock was looked at."""
_ABSOLUTE_CHARACTERS = 64_000_000
_MAX_NUMBER = 1_000_000
_MAX_BITS = 4096
_MAX_DEPTH = 64
_BUDGET = "the budget of this rendering"  # no template can spell a variable with spaces
_UNSAFE_FIX = "Use the built-in ChatML template, or take the model's template from a source you trust."
_REMOVED_FILTERS = ("pprint", "urlize", "random", "striptags", "xmlattr", "wordwrap", "center", "filesizeformat", "forceescape", "attr")
_STEP, _BOUND, _CHAIN, _READ = "workbench_step", "workbench_bound", "workbench_chain", "workbench_read"
# Python looks for each character of one text in the other here, or compares at every place from the end.
_PRODUCTS = frozenset(("strip", "lstrip", "rstrip", "trim", "rfind", "rindex", "rsplit", "rpartition"))
_SORTING = frozenset(("sort", "dictsort", "groupby", "unique"))


class ConversationError(ModelError):
    """The template does not take this conversation, though it may take others."""


class _Refused(jinja2.TemplateError):
    """`raise_exception` was called: the template's own words about the conversation."""


class _Budget:
    """What one rendering may use up."""

    def __init__(self, characters: int) -> None:
        self.characters = min(1_000_000 + 8 * characters, _ABSOLUTE_CHARACTERS)
        self._steps = self._work = 0
        self._deadline = time.monotonic() + MAX_SECONDS

    def step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise SecurityError(f"it takes more than {MAX_STEPS} steps")
        self._look_at_clock()

    def work(self, size: int) -> None:
        """Charge an operation that reads `size` characters, before it does."""
        self._work += size
        if self._work > MAX_WORK:
            raise SecurityError(f"it works through more than {MAX_WORK} characters")
        self._look_at_clock()

    def read(self, value: Any) -> Any:
        """`value`, once reading all of it is charged; iterators are left as they are."""
        if not isinstance(value, (bool, float, type(None), _Steps)):
            self.work(self._weight(value, 0, 0))
        return value

    def _look_at_clock(self) -> None:
        if time.monotonic() > self._deadline:
            raise SecurityError(f"it takes longer than {MAX_SECONDS:g} seconds")

    def allow(self, size: int) -> None:
        if size > self.characters:
            raise SecurityError(f"it makes more than {self.characters} characters of text")

    def bound(self, value: Any) -> Any:
        """`value`, once its size is known to be allowed; iterators become lists on the way."""
        if isinstance(value, Iterator):
            value = self._drain(value)
        if not isinstance(value, (bool, float, type(None))):
            size = self._weight(value, 0, 0)
            self.allow(size)
            self.work(size)
        return value

    def _drain(self, values: Iterator[Any]) -> list[Any]:
        kept: list[Any] = []
        weight = 0
        for value in values:
            self.step()
            weight = self._weight(value, weight, 0)
            kept.append(value)
        return kept

    def _weight(self, value: Any, so_far: int, depth: int) -> int:
        """`so_far` and the characters in `value`, parts counted as often as they appear; stops at the limit."""
        so_far += 1
        if isinstance(value, (str, bytes, range)):
            return so_far + (len(value) if not isinstance(value, range) else 0)
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise SecurityError(f"it makes a number of more than {_MAX_BITS} bits")
        if isinstance(value, Namespace):
            value = object.__getattribute__(value, "_Namespace__attrs")
        parts: Iterable[Any]
        if isinstance(value, Mapping):
            parts = (part for pair in value.items() for part in pair)
        elif isinstance(value, (list, tuple, set, frozenset)):
            parts = value
        else:
            return so_far
        so_far += 16  # an empty container takes room too
        self._look_at_clock()  # measuring takes time as well
        if depth > _MAX_DEPTH:
            raise SecurityError(f"it nests values more than {_MAX_DEPTH} deep")
        for part in parts:
            so_far = self._weight(part, so_far, depth + 1)
            self.allow(so_far)
        return so_far


class _Steps:
    """What a `for` goes through: every element costs a step. Keeps its length for `loop.length`."""

    def __init__(self, budget: _Budget, values: Iterable[Any]) -> None:
        self._budget, self._values = budget, values

    def __len__(self) -> int:
        return len(self._values)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        for value in self._values:
            self._budget.step()
            yield value


def _budget_of(context: Context) -> _Budget:
    found = context.parent.get(_BUDGET)
    if not isinstance(found, _Budget):
        raise SecurityError("it runs outside its limits")
    return found


def _length(value: Any) -> int:
    if isinstance(value, (str, bytes, list, tuple, dict, range)):
        return len(value)
    if isinstance(value, int):
        return abs(value)
    return 1


def _growth(name: str, values: Sequence[Any]) -> int:
    """An upper bound of the text that an operation makes of `values` (its subject first) where it can outgrow them."""
    numbers = [abs(v) for v in values if isinstance(v, int) and not isinstance(v, bool)]
    if name in ("ljust", "rjust", "center", "zfill"):
        return max([0, *numbers])
    if name == "expandtabs":
        return _length(values[0]) * max([8, *numbers])
    if name in ("replace", "translate"):
        return _length(values[0]) + (_length(values[0]) + 1) * max([0, *(_length(v) for v in values[2:3])])
    if name == "join" and len(values) > 1:
        subject, other = values[0], values[1]
        return _length(subject) * _length(other) + 1
    if name == "indent":
        return (_length(values[0]) + 1) * max([4, *(_length(v) for v in values[1:2])])
    if name in ("format", "format_map", "%") and isinstance(values[0], str):
        widths = [int(n[:18]) for n in re.findall(r"\d+", values[0])]
        asks = "*" in values[0] or "{" in values[0]
        return _length(values[0]) + sum(widths) + (sum(n for n in numbers) if asks else 0)
    return 0


def _effort(name: str, values: Sequence[Any]) -> int:
    """Characters that an operation on `values` (its subject first) reads beyond each of them once."""
    size = _length(values[0]) if values else 0
    if name in _PRODUCTS:
        return size * max([0, *(_length(v) for v in values[1:] if isinstance(v, str))])
    if name in _SORTING:
        return size * size.bit_length()
    if name == "sum" and any(isinstance(v, (list, tuple)) for v in values[1:]):
        return size * size  # every partial sum is a new list
    return 0


class _Environment(sandbox.ImmutableSandboxedEnvironment):
    """The sandbox with limits. Templates cannot load other templates."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))
    concat = staticmethod(lambda parts: _joined(parts))  # blocks, macros and set-blocks

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=[ext.loopcontrols, _Generation])
        self.finalize = pass_context(lambda context, value: _budget_of(context).bound(value))
        self.globals.pop("lipsum", None)
        self.globals["raise_exception"] = _raise
        self.globals["strftime_now"] = lambda form: datetime.now().strftime(str(form)[:200])
        for name in _REMOVED_FILTERS:
            self.filters.pop(name, None)
        self.filters["tojson"] = _to_json
        self.filters = {name: _guarded_filter(self, name, function) for name, function in self.filters.items()}
        self.filters[_STEP] = pass_context(lambda context, values: _Steps(_budget_of(context), values))
        self.filters[_BOUND] = pass_context(lambda context, value: _budget_of(context).bound(value))
        self.filters[_CHAIN] = pass_context(_chain)
        self.filters[_READ] = pass_context(lambda context, value: _budget_of(context).read(value))
        self.tests = {name: _guarded_test(self, function) for name, function in self.tests.items()}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Guard().visit(super()._parse(source, name, filename))
        return tree

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        kind = type(obj).__name__
        if attribute.startswith("_"):
            raise SecurityError(f"it tries to read {attribute!r} of a {kind}, which leads into Python's internals")
        raise SecurityError(f"it uses {attribute!r} of a {kind}, which templates may not")

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        budget = _budget_of(__context)
        budget.step()
        budget.bound([*args, *kwargs.values()])
        subject = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)  # `format` comes wrapped by the sandbox
        if isinstance(subject, (str, list, tuple, dict)):
            budget.read(subject)
        if isinstance(subject, str):
            name, values = getattr(__obj, "__name__", ""), [subject, *args, *kwargs.values()]
            budget.allow(_growth(name, values))
            budget.work(_effort(name, values))
        return budget.bound(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        budget = _budget_of(context)
        if operator == "%" and isinstance(left, str):
            budget.bound(right)
            values = list(right) if isinstance(right, tuple) else [right]
            budget.allow(_growth("%", [left, *values]))
        elif operator in ("*", "**"):
            _allow_power(budget, operator, left, right)
        return budget.bound(super().call_binop(context, operator, left, right))


def _allow_power(budget: _Budget, operator: str, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * max(right, 0) if operator == "**" else left.bit_length() + right.bit_length()
        if bits > _MAX_BITS:
            raise SecurityError(f"it makes a number of more than {_MAX_BITS} bits")
    elif operator == "*" and (isinstance(left, int) or isinstance(right, int)):
        times, thing = (left, right) if isinstance(left, int) else (right, left)
        if isinstance(thing, (str, bytes, list, tuple)):
            budget.allow(times * max(1, budget._weight(thing, 0, 0)))


def _joined(parts: Iterable[str]) -> str:
    parts = list(parts)
    if sum(map(len, parts)) > _ABSOLUTE_CHARACTERS:
        raise SecurityError(f"it makes more than {_ABSOLUTE_CHARACTERS} characters of text")
    return "".join(parts)


def _raise(message: object = "") -> None:
    raise _Refused(str(message)[:500])


def _chain(context: Context, first: Any, *rest: Any) -> str:
    """The `~` operator."""
    budget = _budget_of(context)
    budget.bound([first, *rest])
    return "".join(str(value) for value in (first, *rest))


def _to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False, separators: Any = None, sort_keys: bool = False) -> str:
    """JSON as models were trained on it: not escaped for HTML, letters kept."""
    return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii, separators=separators, sort_keys=sort_keys)


def _guarded_filter(environment: jinja2.Environment, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with its inputs, its growth and its result measured."""
    wants = _PassArg.from_obj(function)

    @pass_context
    def guarded(context: Context, *args: Any, **kwargs: Any) -> Any:
        budget = _budget_of(context)
        budget.step()
        args = tuple(budget.bound(list(a) if isinstance(a, _Steps) else a) for a in args)
        values = [*args, *(budget.bound(v) for v in kwargs.values())]
        if any(isinstance(v, int) and abs(v) > _MAX_NUMBER for v in values[1:]):
            raise SecurityError(f"it gives the filter {name!r} a number beyond {_MAX_NUMBER}")
        budget.allow(_growth(name, values))
        budget.work(_effort(name, values))
        if name in ("batch", "slice") and len(values) > 1:
            budget.allow(_length(values[0]) + _length(values[1]))
        if name == "tojson":
            budget.allow(budget._weight(values[0], 0, 0) * (1 + max([0, *(_length(v) for v in values[1:] if isinstance(v, int))])))
        first = {_PassArg.context: (context,), _PassArg.eval_context: (context.eval_ctx,), _PassArg.environment: (environment,)}
        return budget.bound(function(*(first[wants] if wants else ()), *args, **kwargs))

    return guarded


def _guarded_test(environment: jinja2.Environment, function: Any) -> Callable[..., Any]:
    """A test (`is …`, `select(…)`) that counts as a step and is charged for what it reads."""
    wants = _PassArg.from_obj(function)

    @pass_context
    def guarded(context: Context, *args: Any, **kwargs: Any) -> Any:
        budget = _budget_of(context)
        budget.step()
        for value in (*args, *kwargs.values()):
            budget.read(value)
        first = {_PassArg.context: (context,), _PassArg.eval_context: (context.eval_ctx,), _PassArg.environment: (environment,)}
        return function(*(first[wants] if wants else ()), *args, **kwargs)

    return guarded


class _Guard(NodeTransformer):
    """Puts the limits into the template's tree: loops count, nested values and `~` are measured, comparisons and slices paid."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filtered(node.iter, _STEP)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node.nodes[0], _CHAIN, node.nodes[1:])

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        sides: list[Any] = [node, *node.ops]
        for side in sides:
            if not isinstance(side.expr, nodes.Const):
                side.expr = _filtered(side.expr, _READ)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, _BOUND) if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, _BOUND)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, _BOUND)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, _BOUND) if node.ctx == "load" else node


def _filtered(node: nodes.Node, name: str, arguments: Sequence[nodes.Expr] = ()) -> nodes.Filter:
    assert isinstance(node, nodes.Expr)
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)


class _Generation(ext.Extension):
    """`{% generation %} … {% endgeneration %}`, with which some templates mark replies: its body is kept as it is."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> list[nodes.Node]:
        next(parser.stream)
        body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return body


@lru_cache(maxsize=1)
def _environment() -> _Environment:
    return _Environment()


@lru_cache(maxsize=32)
def _compiled(source: str) -> jinja2.Template:
    if len(source) > MAX_SOURCE:
        raise ModelError(f"The chat template has {len(source)} characters; the most is {MAX_SOURCE}.", hint=_UNSAFE_FIX)
    try:
        return _environment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise ModelError(
            f"The chat template has an error in line {error.lineno}: {(error.message or '').rstrip('. ')}.",
            hint="Correct the template, or use the built-in ChatML template.",
        ) from error
    except (SyntaxError, RecursionError, MemoryError, OverflowError, ValueError, jinja2.TemplateError) as error:
        raise ModelError(f"The chat template cannot be compiled: {error or type(error).__name__}.", hint=_UNSAFE_FIX) from error


def render(source: str, variables: Mapping[str, Any]) -> str:
    """The text that the template `source` makes of `variables` (plain values: str, list, dict, bool, None).

    Raises `ModelError`: the template is wrong, refuses the values, reaches for Python's internals, or exceeds the limits.
    """
    template = _compiled(source)
    budget = _Budget(sum(_text_in(value) for value in variables.values()))
    pieces: list[str] = []
    size = 0
    try:
        for piece in template.generate({**variables, _BUDGET: budget}):
            size += len(piece)
            budget.allow(size)
            budget.step()
            pieces.append(piece)
    except _Refused as error:
        raise ConversationError(
            f"The chat template refuses this conversation: {str(error).rstrip('. ')}.",
            hint="Change the conversation (roles, their order), or use another template.",
        ) from error
    except SecurityError as error:
        raise ModelError(f"The chat template was stopped: {error}.", hint=_UNSAFE_FIX) from error
    except RecursionError as error:
        raise ModelError("The chat template was stopped: it calls itself without end.", hint=_UNSAFE_FIX) from error
    except Exception as error:  # whatever the template's own code runs into is the template's fault
        raise ConversationError(
            f"The chat template fails: {str(error).rstrip('. ') or type(error).__name__}.",
            hint="Correct the template, or use the built-in ChatML template.",
        ) from error
    return "".join(pieces)


def _text_in(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_text_in(v) for v in value.values())
    return sum(_text_in(v) for v in value) if isinstance(value, (list, tuple)) else 0
