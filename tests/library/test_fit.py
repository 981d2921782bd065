"""Whether a model fits, estimated: words, bounds, and what the estimate was made of."""

from __future__ import annotations

import pytest

from workbench.library import fit_of_parameters, fit_of_size


@pytest.mark.parametrize(
    ("name", "dtype", "need"),
    [("m.Q4_1.gguf", "float32", 8 * 4 / 4.5), ("m-F16.gguf", "float32", 2), ("m-q8_0.gguf", "bfloat16", 16 / 8.5),
     ("folder", "float32", 2), ("odd.gguf", "float32", 2)],
)  # fmt: skip
def test_a_size_on_disk_is_read_with_the_quantization_in_the_name(name: str, dtype: str, need: float) -> None:
    assert fit_of_size(name, 1000, dtype, free=1e9).need == pytest.approx(1000 * need, rel=1e-3)
    assert fit_of_size(name, 1000, dtype, free=1e9).word == "fits"
    assert fit_of_size(name, 1000, dtype, free=need * 1100).word == "tight"
    assert fit_of_size(name, 1000, dtype, free=need * 900).word == "too large"


def test_parameters_come_with_the_cache_of_a_stated_context() -> None:
    known = fit_of_parameters(1000, "bfloat16", kv_values_per_token=10, context=8192, free=1e9)
    assert known.need == 2 * (1000 + 10 * 2048)
    assert known.text == "needs about 43.0 kB of 1.0 GB free (estimated from its parameters as bfloat16 and a cache of 2,048 tokens)"
    assert fit_of_parameters(1000, kv_values_per_token=10, context=100, free=1e9).need == 4 * (1000 + 10 * 100)
    assert "without a cache" in fit_of_parameters(1000, free=1e9).text
