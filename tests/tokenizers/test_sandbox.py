"""Templates from strangers: no way into Python, no way to use up the machine, and every failure a sentence with a fix."""

from __future__ import annotations

import time

import pytest

from workbench.core.errors import ModelError
from workbench.tokenizers import sandbox

GROW = "{% set ns = namespace(x='ab') %}{% for i in range(80) %}{% set ns.x = GROWN %}{% endfor %}{{ ns.x }}"
LONG = "{% set x = 'a' * 500000 %}"

REACHING = {
    "attribute": "{{ ''.__class__ }}",
    "item": "{{ ''['__class__'] }}",
    "chain": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "format": "{{ '{0.__class__}'.format(1) }}",
    "format_map": "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "map": "{{ messages | map(attribute='__class__') | list }}",
    "globals": "{{ raise_exception.__globals__ }}",
    "helper": "{{ cycler.__init__.__globals__ }}",
    "self": "{{ self.__init__ }}",
    "code": "{{ strftime_now.__code__ }}",
    "macro": "{% macro f() %}{% endmacro %}{{ f._func }}",
}
GROWING = {
    "repeat": "{{ 'a' * 10**9 }}",
    "power": "{{ 7 ** 10000000 }}",
    "add": GROW.replace("GROWN", "ns.x + ns.x"),
    "chain": GROW.replace("GROWN", "ns.x ~ ns.x"),
    "join": GROW.replace("GROWN", "[ns.x, ns.x] | join"),
    "list": GROW.replace("GROWN", "[ns.x, ns.x]"),
    "tuple": GROW.replace("GROWN", "(ns.x, ns.x)"),
    "mapping": GROW.replace("GROWN", "{'a': ns.x, 'b': ns.x}"),
    "dict": GROW.replace("GROWN", "dict(a=ns.x, b=ns.x)"),
    "capture": GROW.replace("{% set ns.x = GROWN %}", "{% set b %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = b %}"),
    "arguments": "{% set ns = namespace(x=1) %}{% macro f() %}{% set ns.x = varargs %}{% endmacro %}"
    "{% for i in range(80) %}{{ f(ns.x, ns.x) }}{% endfor %}{{ ns.x }}",
    "replace": LONG + "{{ x | replace('a', x) }}",
    "replace method": LONG + "{{ x.replace('a', x) }}",
    "join method": LONG + "{{ x.join(x) }}",
    "join filter": LONG + "{{ x | join(x) }}",
    "lazy": LONG + "{{ range(90000) | map('replace', '1', x) | join }}",
    "ljust": "{{ 'a'.ljust(10**9) }}",
    "tabs": "{{ ('\t' * 10**5).expandtabs(10**5) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent star": "{{ '%*d' % (10**9, 1) }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "format width": "{{ '{:{w}}'.format(1, w=10**9) }}",
    "format filter": "{{ '%1000000000d' | format(1) }}",
    "indent": "{{ ('\n' * 10**5) | indent(10**5) }}",
    "batch": "{{ [1] | batch(10**9, 'x') | list }}",
    "tojson": "{{ {'a': ['x'] * 1000} | tojson(indent=10**5) }}",
    "output": LONG + "{% for i in range(90000) %}{{ x }}{% endfor %}",
    "cycle": "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
}
ENDLESS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "range": "{% for i in range(10**9) %}{% endfor %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "recursive loop": "{% for i in range(50) recursive %}{{ loop(range(50)) }}{% endfor %}",
    "calls": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
}
WRONG = {
    "syntax": "{% for %}",
    "nesting": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "undefined": "{{ nothing() }}",
    "include": "{% include 'x' %}",
    "import": "{% import 'os' as os %}",
    "division": "{{ 1 / 0 }}",
    "changing": "{% set x = [] %}{{ x.append(1) }}",
    "removed filter": "{{ 'a' | center(9) }}",
    "too long": "x" * 400_001,
}


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_STEPS", 20_000)


def refused(source: str) -> ModelError:
    begin = time.perf_counter()
    with pytest.raises(ModelError) as caught:
        sandbox.render(source, {"messages": [{"role": "user", "content": "hi"}]})
    assert time.perf_counter() - begin < 10
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("name", REACHING)
def test_reaching_for_pythons_internals_is_an_error(name: str) -> None:
    assert "Python's internals" in refused(REACHING[name]).message


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("name", GROWING)
def test_values_cannot_grow_without_bound(name: str) -> None:
    assert "was stopped" in refused(GROWING[name]).message


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("name", ENDLESS)
def test_nothing_runs_without_end(name: str) -> None:
    refused(ENDLESS[name])


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_template_is_an_error_with_a_fix(name: str) -> None:
    refused(WRONG[name])


def test_the_deadline_stops_what_the_steps_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.0)
    assert "longer than" in refused("{% for i in range(5000) %}{% endfor %}").message


BIG = "{% set b = 'ab' * 200000 %}{% set c = 'b' * 100000 %}{% set l = b | list %}"
MANY = "{% for i in range(100000) %}WORK{% endfor %}"
SLOW = {
    "filter": BIG + MANY.replace("WORK", "{% set y = b | sort | length %}"),
    "test": BIG + MANY.replace("WORK", "{% set y = 'c' is in l %}"),
    "select": BIG + "{{ (['c'] * 99999) | select('in', l) | list }}",
    "comparison": BIG + MANY.replace("WORK", "{% set y = 'c' in l %}"),
    "equality": BIG + "{% set m = b | list %}" + MANY.replace("WORK", "{% set y = l == m %}"),
    "slice": BIG + MANY.replace("WORK", "{% set y = l[::-1] %}"),
    "method": BIG + MANY.replace("WORK", "{% set y = b.count('c') %}"),
    "list method": BIG + MANY.replace("WORK", "{% set y = l.count('c') %}"),
    "from the end": BIG + "{{ b.rfind('a' ~ c) }}",
    "strip": BIG + "{{ b.strip('c' ~ c ~ 'a') }}",
    "trim": BIG + "{{ b | trim('c' ~ c ~ 'a') }}",
    "sum": "{{ (['ab' | list] * 20000) | sum(start=[]) | sum(start=[]) }}",
}


@pytest.mark.parametrize("name", SLOW)
def test_no_single_operation_outruns_the_clock(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.2)
    monkeypatch.setattr(sandbox, "MAX_WORK", 400_000_000)
    begin = time.perf_counter()
    refused(SLOW[name])
    assert time.perf_counter() - begin < 2


def test_the_templates_own_refusal_is_told() -> None:
    assert "refuses this conversation: No system role, please." in refused("{{ raise_exception('No system role, please.') }}").message


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ m.content | trim }}{% endfor %}", "1/1hi"),
        ("{% for m in messages if m.role == 'user' %}{{ m['role'] }}{% else %}none{% endfor %}", "user"),
        ("{% for i in range(5) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}!", "hi!"),
        ("{{ {'a': 'é<'} | tojson }}", '{"a": "é<"}'),
        ("{{ messages | map(attribute='role') | join(', ') }}{{ messages | length }}", "user1"),
        ("{{ messages | selectattr('role', 'equalto', 'tool') | list | length }}", "0"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "1"),
        ("{% macro f(x, y='b') %}[{{ x }}{{ y }}]{% endmacro %}{{ f('a') }}", "[ab]"),
        ("{{ 'a</think>b'.split('</think>')[-1] }}{{ 'x' if tools else 'y' }}", "by"),
        ("{{ '%s-%03d' % ('a', 7) }}{{ '{}|{:>3}'.format('b', 1) }}", "a-007b|  1"),
        ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
        ("{{ messages[1:] }}{{ messages[0] is mapping }}{{ 'u' in messages[0]['role'] }}", "[]TrueTrue"),
    ],
)
def test_what_real_templates_use_works(source: str, text: str) -> None:
    assert sandbox.render(source, {"messages": [{"role": "user", "content": "hi"}], "tools": None}) == text


def test_long_conversations_are_no_attack() -> None:
    messages = [{"role": "user", "content": "word " * 20_000}] * 40
    text = sandbox.render("{% for m in messages %}{{ '<' + m.role + '>' + m.content }}{% endfor %}", {"messages": messages})
    assert len(text) == 40 * (100_000 + 6)
