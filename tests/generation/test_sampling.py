"""The sampler: every rule by hand, against transformers' processors, and against its own plain twin."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from workbench.core.errors import ModelError
from workbench.core.fields import describe, require_usable
from workbench.generation.config import GenerationConfig
from workbench.generation.sampling import (
    Sampler,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
    process,
)

PLAIN = GenerationConfig(temperature=1.0, top_k=0, top_p=1.0)


def config(**changes: object) -> GenerationConfig:
    return dataclasses.replace(PLAIN, **changes)  # type: ignore[arg-type]


def random_logits(size: int = 300, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 3


def kept(scores: torch.Tensor) -> list[int]:
    return (scores > -torch.inf).nonzero().flatten().tolist()


def test_top_k_keeps_ties_of_the_kth() -> None:
    assert kept(keep_top_k(torch.tensor([1.0, 5.0, 3.0, 3.0, 0.0]), 2)) == [1, 2, 3]


def test_top_p_keeps_the_token_that_crosses_the_bound() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert kept(keep_top_p(logits, 0.6)) == [0, 1]
    assert kept(keep_top_p(logits, 0.4)) == [0]
    assert kept(keep_top_p(logits, 0.0)) == [0]


def test_min_p_is_relative_to_the_likeliest() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert kept(keep_min_p(logits, 0.25)) == [0, 1, 2]
    assert kept(keep_min_p(logits, 1.0)) == [0]


def test_repetition_penalty_divides_positive_and_multiplies_negative() -> None:
    seen = torch.tensor([True, True, False])
    out = penalize_repetition(torch.tensor([2.0, -2.0, 2.0]), seen, 2.0)
    assert out.tolist() == [1.0, -4.0, 2.0]


CASES = [
    {},
    {"temperature": 0.6},
    {"top_k": 7},
    {"top_k": 1000},
    {"top_p": 0.8},
    {"top_p": 0.999},
    {"min_p": 0.05},
    {"repetition_penalty": 1.3},
    {"do_sample": False, "repetition_penalty": 1.3},
    {"temperature": 1.7, "top_k": 40, "top_p": 0.85, "min_p": 0.1, "repetition_penalty": 0.8},
]


def seen_mask(seen: list[int], size: int) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.bool).index_fill(0, torch.tensor(seen), True)


@pytest.mark.parity
@pytest.mark.parametrize("case", CASES, ids=str)
def test_process_equals_transformers(case: dict[str, float]) -> None:
    transformers = pytest.importorskip("transformers", reason="parity needs transformers")
    settings = config(**case)
    seen = [3, 5, 5, 120]
    for seed in range(5):
        logits = random_logits(seed=seed)
        processors = transformers.LogitsProcessorList()
        p = transformers.generation.logits_process
        if settings.repetition_penalty != 1.0:
            processors.append(p.RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
        if settings.do_sample:
            processors.append(p.TemperatureLogitsWarper(settings.temperature))
            if settings.top_k:
                processors.append(p.TopKLogitsWarper(settings.top_k))
            processors.append(p.TopPLogitsWarper(settings.top_p))
            processors.append(p.MinPLogitsWarper(settings.min_p))
        theirs = processors(torch.tensor([seen]), logits[None].clone())[0]
        torch.testing.assert_close(process(logits, seen_mask(seen, 300), settings), theirs, rtol=0, atol=1e-6)


@pytest.mark.parity
def test_the_order_of_processors_is_that_of_transformers_generate() -> None:
    """Builds the list as `generate` does, so that a new order in transformers is noticed."""
    transformers = pytest.importorskip("transformers", reason="parity needs transformers")
    tiny = transformers.LlamaConfig(vocab_size=300, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    model = transformers.LlamaForCausalLM(tiny)
    case = CASES[-1]
    asked = transformers.GenerationConfig(do_sample=True, **case)
    processors = model._get_logits_processor(asked, input_ids_seq_length=4, device="cpu")
    seen, logits = [3, 5, 5, 120], random_logits(seed=9)
    theirs = processors(torch.tensor([seen]), logits[None].clone())[0]
    torch.testing.assert_close(process(logits, seen_mask(seen, 300), config(**case)), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [300, 5000])
@pytest.mark.parametrize("case", [c for c in CASES if c.get("do_sample", True)], ids=str)
def test_candidates_equal_the_plain_twin(case: dict[str, float], size: int) -> None:
    settings = config(**case)
    for flatness in (0.02, 1.0):  # nearly uniform logits need the whole vocabulary sorted
        logits = random_logits(size) * flatness
        seen = [1, 2, 250]
        twin = process(logits.double(), seen_mask(seen, size), settings).softmax(-1).float()
        sampler = Sampler(settings, seen)
        ids, probabilities = sampler.candidates(sampler._penalized(logits))
        fast = torch.zeros(size).index_copy(0, ids, probabilities)
        assert float((fast - twin).abs().max()) < 1e-5
        unlike = (fast > 0) != (twin > 0)
        assert int(unlike.sum()) <= 1  # rounding may tip the one token on the border of the nucleus


def test_greedy_takes_the_largest_and_reports_the_models_own_logprob() -> None:
    logits = random_logits()
    for settings in (config(do_sample=False), config(temperature=0.0)):
        token, logprob = Sampler(settings)(logits)
        assert token == int(logits.argmax())
        assert logprob == pytest.approx(float(logits.log_softmax(-1)[token]), abs=1e-5)


def test_repetition_penalty_counts_prompt_and_reply() -> None:
    logits = torch.tensor([3.0, 2.9, 2.8])
    sampler = Sampler(config(do_sample=False, repetition_penalty=1.5), seen=[0])
    assert [sampler(logits)[0] for _ in range(3)] == [1, 2, 0]  # once all are seen, the largest leads again


def test_frequencies_follow_the_distribution() -> None:
    """Pearson's chi-squared over 6 tokens; the bound is the 99.99 % point of 5 degrees of freedom."""
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -2.0])
    expected = (logits / 0.8).softmax(-1) * 4000
    sampler = Sampler(config(temperature=0.8, seed=7))
    counts = torch.bincount(torch.tensor([sampler(logits)[0] for _ in range(4000)]), minlength=6)
    assert float(((counts - expected) ** 2 / expected).sum()) < 25.7


def test_excluded_tokens_are_never_drawn() -> None:
    sampler = Sampler(config(top_k=2, seed=1))
    logits = torch.tensor([0.0, 1.0, 0.9, -torch.inf])
    assert {sampler(logits)[0] for _ in range(300)} == {1, 2}


def test_a_seed_repeats_and_no_seed_does_not() -> None:
    logits = random_logits() * 0.1

    def draw(settings: GenerationConfig) -> list[int]:
        sampler = Sampler(settings)
        return [sampler(logits)[0] for _ in range(20)]

    assert draw(config(seed=5)) == draw(config(seed=5))
    assert draw(config(seed=5)) != draw(config(seed=6))
    assert draw(config()) != draw(config())


def test_an_unseeded_sampler_tells_the_seed_that_repeats_it() -> None:
    first = Sampler(config())
    again = Sampler(config(seed=first.seed))
    assert [first(random_logits())[0] for _ in range(8)] == [again(random_logits())[0] for _ in range(8)]


def test_global_random_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    Sampler(config(seed=1))(random_logits())
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_logits_are_an_error_that_says_so(bad: float) -> None:
    logits = random_logits()
    logits[4] = bad
    with pytest.raises(ModelError, match="not finite"):
        Sampler(PLAIN)(logits)


def test_defaults_are_usable_and_bounds_are_named() -> None:
    require_usable(GenerationConfig())
    assert {i.name for i in describe(GenerationConfig)} == {f.name for f in dataclasses.fields(GenerationConfig)}
    broken = GenerationConfig(temperature=-1.0, top_p=1.5, max_new_tokens=0, stop=("",), seed=-1)
    assert {p.field for p in broken.problems()} == {"temperature", "top_p", "max_new_tokens", "stop", "seed"}
