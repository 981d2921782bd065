"""Which regular expressions of a stranger's adapter are used."""

from __future__ import annotations

import pytest

from workbench.adapters.peft_patterns import problem_of

NAMES = "k_proj|v_proj|o_proj|q_proj|gate_proj|up_proj|down_proj"


@pytest.mark.parametrize(
    "pattern",
    [
        "q_proj",
        r".*\.(q_proj|v_proj)",
        r"model\.layers\.\d+\.(self_attn|mlp)\.\w+",
        r"^(?!.*vision).*layers\.[0-9]{1,2}\.mlp\.(up|down)_proj$".replace("(?!.*vision)", ""),
        rf"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:{NAMES}).*?)"
        rf"|(?:\bmodel\.layers\.[\d]{{1,}}\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\.(?:(?:{NAMES})))",
    ],
)
def test_patterns_in_use_are_taken(pattern: str) -> None:
    assert problem_of(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("([a-z._0-9]+)+!", "within a repeat"),
        ("(a?){50}a", "within a repeat"),
        ("(?:a|aa)+!", "within a repeat"),
        ("((a*)?b?){3,}", "within a repeat"),
        (".*" * 8 + "!", "too many"),
        ("a?" * 40 + "a" * 40, "too many"),
        ("(.|[a-z])" * 30 + "!", "too many"),
        (r"(a+)\1", "back-reference"),
        ("(?=.*a)b", "look-around"),
        ("(", "no regular expression"),
        ("a{99999999999}", "repeats too often"),
        ("(" * 1500 + ")" * 1500, "nested too deeply|no regular expression"),
    ],
)
def test_slow_or_broken_ones_are_refused_at_once(pattern: str, words: str) -> None:
    found = problem_of(pattern)
    assert found is not None
    assert any(w in found for w in words.split("|")), found
