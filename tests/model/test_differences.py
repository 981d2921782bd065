"""What two architectures differ in."""

from __future__ import annotations

from workbench.core.fields import with_text
from workbench.model import PRESETS, ModelConfig
from workbench.model.differences import Difference, differences


def test_equal_architectures_have_none() -> None:
    assert differences(ModelConfig(), ModelConfig()) == []


def test_fields_kinds_and_options_are_named_as_set_takes_them() -> None:
    a = ModelConfig(position={"kind": "rope", "base": 1e4}, norm="rmsnorm")
    b = ModelConfig(position={"kind": "rope", "base": 5e5}, norm="layernorm", n_layers=2, n_kv_heads=3)
    found = differences(a, b)
    assert found == [
        Difference("n_layers", 6, 2), Difference("n_kv_heads", None, 3), Difference("position.base", 1e4, 5e5),
        Difference("norm", "rmsnorm", "layernorm"),
    ]  # fmt: skip


def test_nested_options_have_dotted_names() -> None:
    a = ModelConfig()
    b = with_text(a, "position.scaling=linear")
    assert [d.field for d in differences(a, b)] == ["position.scaling"]
    c = with_text(b, "position.scaling.factor=8")
    assert [d.field for d in differences(b, c)] == ["position.scaling.factor"]


def test_applying_them_gives_the_other_architecture() -> None:
    a, b = PRESETS["tiny-llama"].config, ModelConfig(n_layers=3, d_model=64, n_heads=4, tie_embeddings=False, sliding_window=32)
    changed = a
    for field, _, value in differences(a, b):
        changed = with_text(changed, f"{field}={'none' if value is None else value}")
    assert changed == b
