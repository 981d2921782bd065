"""Why INT8 skips the norms: the rounding, the stand-in model, the figures, and a verdict that follows from them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.adapters import LoraConfig, attach
from workbench.checkpoints import Loaded, save_checkpoint
from workbench.checkpoints.formats import Source
from workbench.core.control import Control
from workbench.core.errors import ConfigError, DataError, FileError, ModelError, WorkbenchError
from workbench.core.events import Phase, Progress
from workbench.devices import choose_compute
from workbench.model import ModelConfig, Transformer, build_model
from workbench.session import Session
from workbench.studies import STUDIES, StudyContext, StudyResult, write
from workbench.studies.int8_norms import Int8Parts, Seen, norms, parameter_bytes, rounded, stand_in, stand_ins
from workbench.studies.measure import Figures, compared, cut, read, together
from workbench.studies.norm_findings import Findings, NormSeen, Row, verdict
from workbench.studies.norm_int8 import NormInt8Options
from workbench.tokenizers import ByteTokenizer

PROMPT = [int(b) for b in b"It was a bright cold day in April."]
ALONE = {"contrast": False, "tokens": 64}


def drain(events: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    seen = []
    while True:
        try:
            seen.append(next(events))
        except StopIteration as end:
            return seen, end.value


def tiny(**changes: Any) -> Transformer:
    sizes: dict[str, Any] = {"vocab_size": 259, "n_layers": 2, "d_model": 32, "n_heads": 4, "n_kv_heads": 2, "max_positions": 64}
    model = build_model(ModelConfig(**{**sizes, **changes}), seed=3)
    with torch.no_grad():
        for parameter in model.parameters():  # gains that differ, and matrices large enough to matter
            parameter.copy_(parameter * 4 if parameter.dim() == 2 else parameter + 0.3 * torch.randn_like(parameter))
    return model


def loaded(model: Transformer | None = None, tokenizer: bool = True) -> Loaded:
    model = model or tiny()
    source = Source(Path("tiny"), "workbench", "workbench", 0, "tiny")
    return Loaded(model, ByteTokenizer(mask=False) if tokenizer else None, model.config, None, source)


def context(home: Path, of: Loaded | None) -> StudyContext:
    return StudyContext(of, home, choose_compute("cpu", "float32"))


def run(home: Path, of: Loaded | None, control: Control | None = None, **options: Any) -> tuple[list[Any], StudyResult]:
    return drain(STUDIES.choose("norm-int8", options).make().run(context(home, of), control or Control()))


# ---- rounding --------------------------------------------------------------------------------------------------------


def test_rounding_is_within_half_a_step_of_each_scale() -> None:
    x = torch.randn(5, 7, 16, generator=torch.Generator().manual_seed(0))
    x[0, 0] *= 100
    for scale, step in (("token", x.abs().amax(-1, keepdim=True) / 127), ("tensor", x.abs().amax() / 127)):
        assert ((rounded(x, scale) - x).abs() <= step / 2 * 1.001).all()  # type: ignore[arg-type]


def test_a_scale_per_token_leaves_tokens_alone_and_a_shared_one_does_not() -> None:
    x = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    loud = x.clone()
    loud[0] *= 1000
    assert torch.equal(rounded(x, "token")[1:], rounded(loud, "token")[1:])
    assert not rounded(loud, "tensor")[1:].any()  # all of a quiet token is below half a step


def test_a_cast_rounds_to_whole_numbers_and_saturates() -> None:
    assert rounded(torch.tensor([0.4, -1.6, 300.0, -300.0]), "none").tolist() == [0.0, -2.0, 127.0, -127.0]


@pytest.mark.parametrize("scale", ["token", "tensor", "none"])
def test_zeros_stay_zeros_and_the_dtype_stays(scale: Any) -> None:
    out = rounded(torch.zeros(2, 8, dtype=torch.bfloat16), scale)
    assert out.dtype == torch.bfloat16
    assert not out.any()


# ---- the stand-in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["rmsnorm", "layernorm"])
def test_a_stand_in_shares_every_weight_and_computes_the_same_until_it_is_told_to_round(norm: str) -> None:
    model = tiny(norm=norm, qk_norm="head")
    attach(model, LoraConfig(r=2))
    before = dict(model.named_modules())
    twin = stand_in(model)
    assert {id(p) for p in twin.parameters()} == {id(p) for p in model.parameters()}
    assert dict(model.named_modules()) == before
    assert len(stand_ins(twin)) == len(norms(model)) == 2 * 2 + 2 * 2 + 1  # two per block, two of its heads, the last
    ids = torch.tensor([PROMPT])
    with torch.inference_mode():
        exact = model(ids)
        assert torch.equal(twin(ids), exact)
        for module in stand_ins(twin).values():
            module.parts = Int8Parts(parameters=True, input=True, output=True, scale="tensor")
        assert not torch.equal(twin(ids), exact)
        assert torch.equal(model(ids), exact)


def test_each_part_rounds_what_its_name_says() -> None:
    twin = stand_in(tiny(norm="layernorm"))
    norm = stand_ins(twin)["final_norm"]
    base: Any = norm.base
    with torch.no_grad():
        base.bias.copy_(torch.linspace(-1, 1, 32))
    x = torch.randn(2, 3, 32)
    normal = torch.nn.functional.layer_norm

    def computed(parts: Int8Parts) -> torch.Tensor:
        norm.parts = parts
        return norm(x)

    with torch.inference_mode():
        weight, bias = rounded(base.weight, "tensor"), rounded(base.bias, "tensor")
        assert torch.equal(computed(Int8Parts(parameters=True)), normal(x, (32,), weight, bias, base.eps))
        assert torch.equal(computed(Int8Parts(input=True)), base(rounded(x, "token")))
        assert torch.equal(computed(Int8Parts(output=True, scale="none")), rounded(base(x), "none"))


def test_bytes_saved_are_counted_on_the_parameters() -> None:
    model = tiny(norm="layernorm")
    assert parameter_bytes(model) == (5 * 2 * 32 * 4, 5 * 2 * (32 + 4))


def test_ranges_of_inputs_are_those_of_the_tensors() -> None:
    norm = stand_ins(stand_in(tiny()))["final_norm"]
    x = torch.randn(1, 9, 32)
    x[0, 4, 7] = -500.0
    norm.watching = True
    norm(x)
    seen = norm.seen()
    size = x.abs().reshape(-1, 32)
    assert (seen.largest, seen.median) == (500.0, float(size.flatten().median()))
    assert seen.within_token == float((size.amax(-1) / size.median(-1).values).median())


# ---- figures ---------------------------------------------------------------------------------------------------------


def test_windows_predict_each_token_once_and_figures_add_up() -> None:
    windows = cut(list(range(10)), 4)
    assert windows == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    whole = together([Figures(3, 1.0, 0.1, 1.0, 0.5, 1.0), Figures(1, 5.0, 0.5, 0.0, -1.5, 3.0)])
    assert (whole.tokens, whole.nats, whole.top1, whole.delta) == (4, 2.0, 0.75, 0.0)
    assert whole.error == pytest.approx(math.sqrt(1.5 / 3))
    assert math.isinf(Figures(1, 800.0, 0, 0).perplexity)


def test_a_model_agrees_with_itself_and_its_loss_is_torchs() -> None:
    model = tiny()
    hidden = read(model, PROMPT)
    figures = compared(model, hidden, hidden, PROMPT)
    with torch.inference_mode():
        loss = torch.nn.functional.cross_entropy(model(torch.tensor([PROMPT]))[0, :-1], torch.tensor(PROMPT[1:]))
    assert figures.nats == pytest.approx(float(loss), rel=1e-5)
    assert (figures.kl, figures.top1, figures.delta, figures.error) == (0.0, 1.0, 0.0, 0.0)
    moved = compared(model, hidden * 0.5, hidden, PROMPT)
    assert moved.delta == pytest.approx(moved.nats - figures.nats, abs=1e-6)
    assert moved.error > 0


# ---- the study -------------------------------------------------------------------------------------------------------


def test_every_switch_decides_which_rows_are_measured(tmp_path: Path) -> None:
    assert len(NormInt8Options().variants()) == 2 + 3 + 3 + 3
    only = NormInt8Options(parameters=False, together=True, per_tensor=False)
    assert [(v.input, v.output, v.scale) for v in only.variants()] == [
        (True, False, "token"), (True, False, "none"), (False, True, "token"), (False, True, "none"), (True, True, "token"),
        (True, True, "none"),
    ]  # fmt: skip
    one = NormInt8Options(input=False, output=False, per_token=False, unscaled=False)
    assert one.variants() == (Int8Parts(parameters=True, scale="tensor"),)
    with pytest.raises(ConfigError, match="No scale"):
        run(tmp_path, loaded(), per_token=False, per_tensor=False, unscaled=False)
    with pytest.raises(ConfigError, match="Nothing of the norms"):
        run(tmp_path, loaded(), parameters=False, input=False, output=False)


def knowing(alphabet: bytes) -> Transformer:
    """A model that knows each letter's successor by heart, from the letter alone: its blocks add nothing to the stream."""
    model = tiny(tie_embeddings=False, d_model=64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
        for here, follows in zip(alphabet, alphabet[1:] + alphabet[:1], strict=True):
            model.lm_head.weight[follows] = model.embedding.weight[here] * 5
    return model


def test_a_stream_with_one_massive_token_makes_a_shared_scale_fatal_and_only_that(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Xabcdefgh" + "abcdefgh" * 5, encoding="utf-8")
    calm, massive = knowing(b"abcdefgh"), knowing(b"abcdefgh")
    with torch.no_grad():
        massive.embedding.weight[ord("X"), 3] = 3e5  # the first token only
    kept = {name: p.clone() for name, p in massive.named_parameters()}
    answers = {}
    for name, model in (("calm", calm), ("massive", massive)):
        _, answers[name] = run(tmp_path, loaded(model), **ALONE, text=str(text))
    rows = {name: {(r["quantized"], r["scale"]): r for r in answer.rows} for name, answer in answers.items()}
    assert rows["massive"]["input", "shared"]["delta"] > 1 > 0.05 > rows["massive"]["input", "per token"]["delta"]
    assert rows["calm"]["input", "shared"]["delta"] < 0.05
    assert "massive activations" in answers["massive"].verdict
    assert "massive activations" not in answers["calm"].verdict
    assert all(torch.equal(p, kept[name]) for name, p in massive.named_parameters())
    norm = {r["norm"]: r for r in answers["massive"].tables[1].rows}["blocks.0.residual.attention_norm"]
    assert norm["largest"] == 3e5
    assert norm["ratio"] > 1000 > norm["within_token"]


def test_the_table_begins_with_the_unquantized_model_and_holds_every_rounding(tmp_path: Path) -> None:
    _, answer = run(tmp_path, loaded(), **ALONE)
    first = answer.rows[0]
    assert (first["quantized"], first["delta"], first["kl"], first["top1"]) == ("nothing", 0.0, 0.0, 100.0)
    assert len(answer.rows) == 1 + len(NormInt8Options().variants())
    assert {c.name for c in answer.columns} == set(first)
    assert answer.options == {**answer.options, "contrast": False, "tokens": 64}


def test_files_hold_the_table_the_answer_and_a_figure(tmp_path: Path) -> None:
    _, answer = run(tmp_path, loaded(), **ALONE)
    paths = write(answer, tmp_path / "out")
    assert [p.name for p in paths] == ["table.csv", "norms.csv", "bytes.csv", "table.json", "figure.svg"]
    rows = list(csv.DictReader(paths[0].read_text(encoding="utf-8").splitlines()))
    assert len(rows) == len(answer.rows)
    assert float(rows[3]["Perplexity"]) == answer.rows[3]["perplexity"]
    kept = json.loads(paths[3].read_text(encoding="utf-8"))
    assert kept["verdict"] == answer.verdict
    assert len(kept["tables"]["norms"]["rows"]) == 5
    assert paths[4].read_text(encoding="utf-8").count("<rect") == 1 + len(answer.rows) - 1


def test_a_stop_ends_it_without_an_answer(tmp_path: Path) -> None:
    control = Control()
    steps = STUDIES.choose("norm-int8", ALONE).make().run(context(tmp_path, loaded()), control)
    for event in steps:
        if isinstance(event, Progress) and event.done == 2:
            control.stop()
            assert drain(steps) == ([], None)


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    for of, error, words, options in (
        (None, WorkbenchError, "no model", {}), (loaded(tokenizer=False), ModelError, "no tokenizer", {}),
        (loaded(tiny(causal=False)), ModelError, "sees the tokens", {}), (loaded(tiny(norm="none")), ModelError, "no norms", {}),
        (loaded(), FileError, "cannot be read", {"text": str(tmp_path / "none.txt")}),
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            run(tmp_path, of, **{**ALONE, **options})
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="0 tokens"):
        run(tmp_path, loaded(), **ALONE, text=str(tmp_path / "empty.txt"))


def test_the_small_model_is_trained_once(tmp_path: Path) -> None:
    options = {"steps": 2, "tokens": 32, "parameters": False, "output": False}
    events, first = run(tmp_path, None, **options)
    assert any(isinstance(e, Progress) and e.unit == "steps" for e in events)
    assert [r["model"] for r in first.rows] == ["the small model"] * 4
    events, second = run(tmp_path, None, **options)
    assert not any(isinstance(e, Phase) and e.word == "Training" for e in events)
    assert second.rows == first.rows
    place = next(tmp_path.glob("tiny-gpt2-*"))
    for file in place.glob("*.safetensors"):
        file.write_bytes(b"damaged")
    events, third = run(tmp_path, None, **options)
    assert any(isinstance(e, Phase) and e.word == "Training" for e in events)
    assert third.rows == first.rows


def test_a_training_that_was_stopped_is_not_taken_for_a_finished_one(tmp_path: Path) -> None:
    control = Control()
    steps = STUDIES.choose("norm-int8", {"steps": 50, "tokens": 32}).make().run(context(tmp_path, None), control)
    for event in steps:
        if isinstance(event, Progress) and event.unit == "steps":
            control.stop()
            assert drain(steps)[1] is None
    assert control.stopping
    assert not list(tmp_path.iterdir())


# ---- the verdict -----------------------------------------------------------------------------------------------------


def findings(label: str, deltas: dict[tuple[str, str], float], ratio: float) -> Findings:
    rows = tuple(
        Row(Int8Parts(**dict.fromkeys(what.split(" + "), True), scale=scale), Figures(10, 2.0 + delta, 0.1, 0.9, delta, delta**2 + 0.09))  # type: ignore[arg-type]
        for (what, scale), delta in deltas.items()
    )
    seen = (NormSeen("blocks.3.norm", Seen(ratio, 1.0, 5.0)),)
    return Findings(label, "RMSNorm", Figures(10, 2.0, 0.0, 1.0), 40, rows, seen, 400, 104, 40_000)


def test_the_verdict_follows_the_figures_wherever_they_point() -> None:
    harmless = {("parameters", "token"): 0.001, ("input", "tensor"): 0.002, ("input", "none"): 0.003}
    fatal = {**harmless, ("input", "tensor"): 30.0, ("input", "none"): 12.0}
    cast = {**harmless, ("input", "none"): 2.0}
    big, small = findings("Big", fatal, 14_000.0), findings("Small", cast, 12.0)
    said = verdict([big, small])
    assert said.endswith("it is fatal when the stream has massive activations and the scale is shared or missing, and not in general.")
    assert "Not the norms’ weights" in said
    assert "one shared scale is fatal to Big (perplexity ×1.07e13) and harmless to Small (perplexity ×1.002)" in said
    assert "296 B of 40.0 kB (0.74 %)" in said
    assert "is harmless to both (perplexity ×1.001 for Big and ×1.001 for Small)" in said
    assert verdict([findings("Big", harmless, 14_000.0)]).endswith("INT8 would not have to skip the norms.")
    assert verdict([small]).endswith("here it is fatal only when the scale is missing.")
    assert verdict([findings("Odd", fatal, 12.0)]).endswith("a shared scale is fatal without massive activations.")
    assert verdict([findings("Big", {("parameters", "token"): 0.0}, 5.0)]).endswith("nothing follows about why norms are skipped.")
    guilty = verdict([findings("Odd", {**fatal, ("parameters", "token"): 3.0}, 14_000.0)])
    assert "norms’ weights" not in guilty
    broken = replace(big, rows=(Row(Int8Parts(input=True, scale="tensor"), Figures(10, math.nan, math.nan, 0.0, math.nan, math.nan)),))
    assert "beyond all bounds" in verdict([broken])


# ---- through the session, and on the starter ---------------------------------------------------------------------------


def test_a_session_studies_its_model_while_others_use_it(home: Path, tmp_path: Path) -> None:
    save_checkpoint(tiny(), ByteTokenizer(mask=False), None, tmp_path / "tiny")
    session = Session(home, device="cpu", dtype="float32", threads=2)
    drain(session.load(tmp_path / "tiny"))
    steps = session.study("norm-int8", NormInt8Options(**ALONE))
    next(steps)
    next(steps)
    drain(session.load(tmp_path / "tiny"))  # nobody is kept from exchanging it
    _, answer = drain(steps)
    assert answer.rows[0]["model"] == "tiny"
    with pytest.raises(ConfigError, match="no study"):
        drain(session.study("norm-int9"))


@pytest.mark.starter
@pytest.mark.slow
def test_the_starters_norms_have_massive_inputs_and_harmless_weights(home: Path, starter_path: Path) -> None:
    session = Session(home, device="cpu", dtype="float32", threads=2)
    drain(session.load(starter_path))
    options = NormInt8Options(output=False, together=False, contrast=False, tokens=256)
    _, answer = drain(session.study("norm-int8", options))
    delta = {(r["quantized"], r["scale"]): r["delta"] for r in answer.rows}
    assert abs(delta["parameters", "per vector"]) < 0.02
    assert 0 < delta["input", "per token"] < 0.2
    assert delta["input", "shared"] > 10
    assert delta["input", "none"] > 5
    assert max(r["ratio"] for r in answer.tables[1].rows) > 5000
    assert answer.tables[2].rows[0]["saved"] == 35_136 * 3 - 61 * 4
    assert "the stream has massive activations" in answer.verdict
