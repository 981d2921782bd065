"""What a model costs, from its config alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from workbench.caches import KVCache
from workbench.core.errors import ConfigError
from workbench.model import PRESETS, ModelConfig, account, build_model, compare
from workbench.model.accounting import PARTS

Make = Callable[..., ModelConfig]
GIB = 2**30


@pytest.mark.parametrize("name", ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"])
def test_gpt2_formula(name: str) -> None:
    """V·d + n_ctx·d + L(12d² + 13d) + 2d (facts §3)."""
    c = PRESETS[name].config
    d = c.d_model
    assert account(c).parameters == c.vocab_size * d + c.max_positions * d + c.n_layers * (12 * d * d + 13 * d) + 2 * d


GPT3 = {"125m": 125, "350m": 350, "760m": 760, "1.3b": 1300, "2.7b": 2700, "6.7b": 6700, "13b": 13000, "175b": 175000}


@pytest.mark.parametrize(("size", "millions"), GPT3.items())
def test_gpt3_formula_and_the_sizes_of_its_table(size: str, millions: int) -> None:
    """The formula of GPT-2 with 2048 positions; arXiv:2005.14165, table 2.1, which rounds."""
    c = PRESETS[f"gpt3-{size}"].config
    d = c.d_model
    assert c.max_positions == 2048
    assert account(c).parameters == c.vocab_size * d + 2048 * d + c.n_layers * (12 * d * d + 13 * d) + 2 * d
    assert account(c).parameters == pytest.approx(millions * 1e6, rel=0.025)


@pytest.mark.parametrize("name", ["transformer-2017", "transformer-2017-big", "tiny-transformer-2017"])
def test_transformer_2017_formula(name: str) -> None:
    """V·d + L(4d² + 2·d·f + f + d + 4d): no biases in attention, two in the MLP, two LayerNorms, no final norm."""
    c = PRESETS[name].config
    d, f = c.d_model, c.hidden
    assert account(c).parameters == c.vocab_size * d + c.n_layers * (4 * d * d + 2 * d * f + f + d + 4 * d)


def test_the_original_transformer_has_65_million_parameters_with_its_encoder() -> None:
    """arXiv:1706.03762, table 3: an encoder of as many blocks, and cross-attention with its norm in the decoder."""
    c = PRESETS["transformer-2017"].config
    blocks = account(c).parameters - c.vocab_size * c.d_model
    cross = c.n_layers * (4 * c.d_model**2 + 2 * c.d_model)
    assert account(c).parameters + blocks + cross == pytest.approx(65e6, rel=0.035)


@pytest.mark.parametrize("name", ["smollm2-135m", "smollm2-360m", "smollm2-1.7b"])
def test_llama_formula(name: str) -> None:
    """V·d + L(2d² + 2·d·d_kv + 3·d·f + 2d) + d (facts §3)."""
    c = PRESETS[name].config
    d, kv, f = c.d_model, c.kv_heads * c.head_width, c.hidden
    assert account(c).parameters == c.vocab_size * d + c.n_layers * (2 * d * d + 2 * d * kv + 3 * d * f + 2 * d) + d


@pytest.mark.parametrize(
    ("name", "untied", "embedding", "block"),
    [
        ("gpt2", 163_037_184, 38_597_376, 7_087_872),
        ("gpt2-medium", 406_286_336, 51_463_168, 12_596_224),
        ("gpt2-large", 838_359_040, 64_328_960, 19_677_440),
        ("gpt2-xl", 1_638_022_400, 80_411_200, 30_740_800),
        ("smollm2-135m", 162_826_560, 28_311_552, 3_540_096),
    ],
)
def test_the_table_of_the_facts(name: str, untied: int, embedding: int, block: int) -> None:
    import dataclasses

    tied = account(PRESETS[name].config)
    assert tied.tied_saving == tied.by_part["Token embedding"] == embedding
    assert sum(n for t, n in tied.by_tensor.items() if t.startswith("blocks.0.")) == block
    loose = account(dataclasses.replace(PRESETS[name].config, tie_embeddings=False))
    assert loose.parameters == untied == tied.parameters + tied.tied_saving
    assert loose.by_part["Output head"] == embedding
    assert "Output head" not in tied.by_part


VARIANTS: list[dict[str, Any]] = [
    {}, {"tie_embeddings": False}, {"position": "learned"}, {"norm": "layernorm", "qk_norm": "head"}, {"residual": "double"},
    {"residual": {"kind": "parallel", "shared_norm": True}}, {"residual": "post"}, {"n_kv_heads": 1, "head_dim": 6},
    {"attention_bias": True, "attention_out_bias": True, "mlp_bias": True}, {"mlp": "relu"}, {"final_norm": False}, {"n_layers": 5},
    {"causal": False, "segment_types": 2, "embedding_norm": True, "head_transform": True, "head_bias": True, "norm": "layernorm"},
    {"qk_norm": "full", "n_kv_heads": 2, "residual": "reordered"}, {"norm": "none"}, {"logit_softcap": 5.0, "scale_embeddings": True},
]  # fmt: skip


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_counts_equal_a_real_build_tensor_by_tensor(config: Make, changes: dict[str, Any]) -> None:
    model, found = build_model(config(**changes)), account(config(**changes))
    assert found.by_tensor == {n: p.numel() for n, p in model.named_parameters()}
    assert found.parameters == sum(p.numel() for p in model.parameters()) == sum(found.by_part.values())
    assert found.parameter_bytes(4) == sum(p.nbytes for p in model.parameters())


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_parts_are_the_modules_of_that_name(config: Make, changes: dict[str, Any]) -> None:
    model, found = build_model(config(**changes)), account(config(**changes))

    def count(wanted: Callable[[str], bool]) -> int:
        return sum(p.numel() for n, p in model.named_parameters() if wanted(n))

    assert found.by_part["MLP"] == count(lambda n: ".mlp." in n)
    assert found.by_part["Attention"] == count(lambda n: ".attention." in n and "norm" not in n)
    assert found.by_part.get("Norms", 0) == count(lambda n: "norm" in n)
    assert found.by_part["Token embedding"] == 61 * 16
    assert found.by_part.get("Position embedding", 0) == count(lambda n: n == "position.weight")
    assert "Other" not in found.by_part


def test_kv_bytes_of_the_facts() -> None:
    """Facts §6: GPT-2 36,864 B and SmolLM2-135M 23,040 B per token in 16 bits; the 32 × 4096 example 16 GiB at 32,768."""
    assert account(PRESETS["gpt2"].config).kv_bytes_per_token(2) == 36_864
    assert account(PRESETS["smollm2-135m"].config).kv_bytes_per_token(2) == 23_040
    seven = ModelConfig(vocab_size=32000, n_layers=32, d_model=4096, n_heads=32, d_ff=11008)
    for bits, gib in ((32, 32.0), (16, 16.0), (8, 8.0), (4, 4.0), (3, 3.0)):
        assert account(seven).kv_bytes_per_token(bits / 8) * 32768 / GIB == gib


@pytest.mark.parametrize(
    "changes", [{}, {"n_kv_heads": 1}, {"sliding_window": 4}, {"sliding_window": 4, "full_attention_every": 2}], ids=str
)
def test_kv_bytes_are_what_a_cache_holds(config: Make, changes: dict[str, Any]) -> None:
    """Measured: a window narrows what is attended to; the cache keeps every token."""
    model = build_model(config(**changes))
    cache = KVCache.for_model(model)
    with torch.no_grad():
        model(torch.zeros(1, 11, dtype=torch.int64), cache)
    found = account(model.config)
    assert found.kv_bytes(11) == cache.nbytes == 11 * found.kv_bytes_per_token()
    assert found.kv_bytes(24) == cache.allocated_nbytes


def test_a_bidirectional_model_has_no_cache_to_pay_for(config: Make) -> None:
    found = account(config(causal=False))
    assert (found.kv_bytes_per_token(), found.kv_bytes(100)) == (0, 0)


def test_flops_are_counted_as_torch_counts_them(config: Make) -> None:
    """The products of one forward pass over T tokens, measured by torch; ours per token: everything sees T keys there."""
    from torch.utils.flop_counter import FlopCounterMode

    tokens = 8
    variants: tuple[dict[str, Any], ...] = (
        {}, {"n_kv_heads": 2, "tie_embeddings": False, "mlp": "relu"}, {"head_dim": 6, "residual": "double"},
        {"causal": False, "head_transform": True, "head_bias": True}, {"qk_norm": "full", "residual": "parallel"},
    )  # fmt: skip
    for changes in variants:
        model = build_model(config(**changes))
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, tokens, dtype=torch.int64))
        ours = account(config(**changes)).flops_per_token(tokens) * tokens
        bare = account(config(**changes)).flops_per_token(0) * tokens
        assert counter.get_total_flops() in (ours, bare), "the kernel of CPU attention is not counted by every torch"


def test_flops_formula(config: Make) -> None:
    c = config(n_kv_heads=2)  # d 16, 2 layers, 4 heads of 4, 2 kv heads, f 24, V 61
    matrices = 2 * (2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24) + 61 * 16
    found = account(c)
    assert found.flops_per_token() == 2 * matrices
    assert found.flops_per_token(100) - found.flops_per_token() == 4 * 2 * 4 * 4 * 100
    assert account(config(n_kv_heads=2, sliding_window=10)).flops_per_token(100) == found.flops_per_token(10)
    assert account(config(n_kv_heads=2, tie_embeddings=False)).flops_per_token() == found.flops_per_token()


def test_a_config_that_cannot_be_built_has_no_price(config: Make) -> None:
    with pytest.raises(ConfigError, match="cannot be split"):
        account(config(d_model=18))


def test_nothing_is_allocated_however_large() -> None:
    """A model that no machine holds is priced while the form is being typed in."""
    giant = ModelConfig(n_layers=200, d_model=16384, n_heads=128, vocab_size=500_000, position="learned", max_positions=1_000_000)
    assert account(giant).parameters > 10**11


def test_types_are_plain(config: Make) -> None:
    found = account(config())
    counts = (found.parameters, found.parameter_bytes(0.5), found.kv_bytes_per_token(0.375), found.flops_per_token(3))
    assert {type(n) for n in counts} == {int}


# ---- two side by side ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "bert-base", "phi-2", "qwen3-0.6b", "tiny-neox"])
def test_parts_stand_in_one_order(name: str) -> None:
    parts = list(account(PRESETS[name].config).by_part)
    assert parts == [p for p in PARTS if p in parts]


def test_a_comparison_has_a_row_for_every_part_of_either(config: Make) -> None:
    a, b = config(position="learned", tie_embeddings=True), config(position="rope", tie_embeddings=False)
    found = compare(a, b)
    assert (found.a, found.b) == (account(a), account(b))
    rows = {r.label: r for r in found.rows}
    assert (rows["Position embedding"].a, rows["Position embedding"].b) == (24 * 16, 0)
    assert (rows["Output head"].a, rows["Output head"].difference) == (0, 61 * 16)
    assert sum(r.a for r in found.rows if r.is_part) == rows["All parameters"].a == account(a).parameters
    assert sum(r.b for r in found.rows if r.is_part) == rows["All parameters"].b == account(b).parameters
    assert [r.label for r in found.rows if r.is_part] == [p for p in PARTS if p in rows]
    assert {d.field for d in found.differences} == {"position", "tie_embeddings"}


def test_a_comparison_is_at_one_context_that_both_can_read(config: Make) -> None:
    short, long = config(max_positions=16), config(max_positions=64, n_kv_heads=1)
    assert compare(short, long).context == 16
    rows = {r.label: r for r in compare(short, long, 10).rows}
    assert rows["KV at 10"][1:4] == (account(short).kv_bytes(10), account(long).kv_bytes(10), "bytes")
    assert rows["FLOPs at 10"][1:4] == (account(short).flops_per_token(10), account(long).flops_per_token(10), "FLOPs")
    assert all(r.difference == 0 for r in compare(short, short).rows)


def test_a_comparison_with_what_cannot_be_built_is_refused(config: Make) -> None:
    with pytest.raises(ConfigError, match="cannot be split"):
        compare(config(), config(d_model=18))
