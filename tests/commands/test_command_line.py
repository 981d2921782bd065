"""The verbs, as a script calls them: JSON lines on standard output, sentences on standard error, exit statuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workbench.__main__ import build_parser, main
from workbench.checkpoints import save_checkpoint
from workbench.commands import VERBS, Verb
from workbench.commands.common import split_strength
from workbench.core.control import Control
from workbench.core.errors import ConfigError
from workbench.model import PRESETS, ModelConfig, build_model
from workbench.tokenizers import CHATML, ByteTokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizer = ByteTokenizer()
    built = build_model(ModelConfig(vocab_size=tokenizer.vocab_size, n_layers=1, d_model=16, n_heads=2, d_ff=24, max_positions=512))
    path = tmp_path_factory.mktemp("cli") / "tiny"
    save_checkpoint(built, tokenizer, CHATML, path)
    return str(path)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_verb_has_help_with_every_flag_documented() -> None:
    text = build_parser().format_help()
    assert all(name in text for name in VERBS)


@pytest.mark.parametrize("name", list(VERBS))
def test_help_of_each_verb_prints(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert name in capsys.readouterr().out


def test_flags_come_from_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["finetune", "--help"])
    out = capsys.readouterr().out
    for flag in ("--lora-alpha", "--method", "--max-steps", "--learning-rate", "--validation-fraction", "--threads", "--dtype"):
        assert flag in out


@pytest.mark.parametrize("name", list(PRESETS))
def test_inspect_a_preset(name: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--preset", name, "--json"]) == 0
    data = lines(capsys)[-1]
    assert data["parameters"]["total"] == PRESETS[name].parameters
    assert sum(data["parameters"]["by_part"].values()) == PRESETS[name].parameters


def test_inspect_with_changes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", "--preset", "smollm2-135m", "--set", "tie_embeddings=false", "--set", "norm.eps=1e-6", "--json"])
    data = lines(capsys)[-1]
    assert data["parameters"]["total"] == 162_826_560
    assert data["config"]["norm"]["eps"] == 1e-6


def test_inspect_names_what_does_not_fit(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--preset", "tiny-llama", "--set", "n_heads=7", "--json"]) == 1
    data = lines(capsys)[-1]
    assert data["problems"][0]["field"] == "n_heads"
    assert {"config", "parameters", "parameter_bytes", "kv_bytes_per_token", "flops_per_token"} <= set(data)
    assert {"total", "by_part"} <= set(data["parameters"])
    assert main(["inspect", "--preset", "tiny-llama", "--set", "nonsense=1"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_generate_streams_tokens(model: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--no-do-sample", "--max-new-tokens", "5", "--dtype", "float32", "--threads", "2", "--json"]
    assert main(["generate", model, "--prompt", "abc", *arguments]) == 0
    events = lines(capsys)
    tokens = [e for e in events if e["event"] == "token"]
    assert len(tokens) == 5
    assert {"id", "text", "logprob", "ms", "cache_bytes"} <= set(tokens[0])
    done = events[-1]
    assert done["ids"] == [t["id"] for t in tokens]
    assert {"text", "stop_reason", "prompt_tokens", "first_token_ms", "tokens_per_second", "peak_memory_bytes"} <= set(done)
    main(["generate", model, "--prompt", "abc", "--cache", "none", *arguments])
    assert lines(capsys)[-1]["ids"] == done["ids"]


def test_chat_prints_text(model: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", model, "--chat", "hi", "--max-new-tokens", "3", "--seed", "1"]) == 0
    assert "tokens/s" in capsys.readouterr().out


def test_finetune_then_use_merge_and_list(model: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data.jsonl"
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "zzzz"}]}
    data.write_text("\n".join([json.dumps(row)] * 8))
    out = home / "runs" / "first"
    numbers = ["--max-steps", "4", "--learning-rate", "0.02", "--r", "4", "--method", "rslora", "--dtype", "float32"]
    assert main(["finetune", model, str(data), "--out", str(out), *numbers, "--json"]) == 0
    events = lines(capsys)
    assert [e["step"] for e in events if e["event"] == "step"] == [1, 2, 3, 4]
    assert events[-1]["reason"] == "done"
    adapter = events[-1]["adapter"]
    assert main(["generate", model, "--chat", "q", "--adapter", f"{adapter}:0.5", "--max-new-tokens", "2", "--json"]) == 0
    capsys.readouterr()
    for verb in (["generate", str(out), "--chat", "q", "--max-new-tokens", "2"], ["inspect", str(out)]):
        assert main([*verb, "--json"]) == 0
    capsys.readouterr()
    scored = []
    for arguments in ([str(out)], [model, "--adapter", adapter], [model]):
        assert main(["score", *arguments[:1], str(data), *arguments[1:], "--json"]) == 0
        scored.append(lines(capsys)[-1]["nll"])
    assert scored[0] == scored[1] != scored[2]
    assert main(["finetune", str(out), str(data)]) == 2
    assert "is a run" in capsys.readouterr().err
    assert main(["merge", model, "--adapter", adapter, "--out", str(tmp_path / "merged"), "--format", "workbench", "--json"]) == 0
    assert lines(capsys)[-1]["max_abs_logit_difference"] == 0
    assert main(["runs", "--json"]) == 0
    assert [r["name"] for r in lines(capsys)[-1]["runs"]] == ["first"]
    assert main(["runs", "show", str(out), "--json"]) == 0
    assert lines(capsys)[-1]["runs"][0]["status"] == "done"


def test_data_reports_the_broken_line(model: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data.jsonl"
    good = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    data.write_text(f"{json.dumps(good)}\n{{broken\n{json.dumps(good)}\n")
    assert main(["data", str(data), "--model", model, "--json"]) == 0
    report = lines(capsys)[-1]
    assert (report["kept"], report["dropped"]) == (2, 1)
    assert report["problems"][0]["row"] == 2


def test_data_that_was_stopped_says_so(
    model: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from workbench.session import Session

    real = Session.preflight

    def stopped(self: Session, config: Any, length: int, control: Control) -> Any:
        control.stop()
        return real(self, config, length, control)

    monkeypatch.setattr(Session, "preflight", stopped)
    data = tmp_path / "data.txt"
    data.write_text("some text\n" * 50)
    assert main(["data", str(data), "--model", model, "--json"]) == 130
    assert lines(capsys)[-1]["stopped"]


@pytest.mark.parametrize("error", [ValueError("seven\nlines"), OSError(5, "seven"), RuntimeError()])
def test_what_nobody_expected_is_a_sentence_too(
    error: Exception, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: Any, console: Any) -> int:
        raise error

    known = VERBS["models"]
    monkeypatch.setitem(VERBS, "models", Verb(known.name, known.help, known.arguments, fail))
    assert main(["models"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("workbench: something unexpected happened: ")
    assert "--debug" in err
    assert len(err.splitlines()) == 2
    assert main(["models", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_strength_follows_the_folder(tmp_path: Path) -> None:
    odd = tmp_path / "ad:2"
    odd.mkdir()
    assert split_strength(str(odd)) == (odd, 1.0)
    assert split_strength(f"{odd}:0.5") == (odd, 0.5)
    assert split_strength("ad:3") == (Path("ad"), 3.0)
    assert split_strength("a:b") == (Path("a:b"), 1.0)
    for number in ("nan", "inf", "-inf"):
        with pytest.raises(ConfigError, match="strength"):
            split_strength(f"ad:{number}")


def test_score(model: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "t.txt"
    text.write_text("some words to predict")
    assert main(["score", model, str(text), "--json"]) == 0
    whole = lines(capsys)[-1]
    assert main(["score", model, str(text), "--cache", "exact", "--json"]) == 0
    assert lines(capsys)[-1]["nll"] == pytest.approx(whole["nll"], rel=1e-5)
    assert {"tokens", "perplexity", "bits_per_byte"} <= set(whole)
    narrow = []
    for cache in ("none", "exact"):
        assert main(["score", model, str(text), "--window", "8", "--cache", cache, "--json"]) == 0
        narrow.append(lines(capsys)[-1]["nll"])
    assert narrow[0] == pytest.approx(narrow[1], rel=1e-5)


def test_models_says_what_can_be_fetched(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    assert lines(capsys)[-1] == {"models": [], "available": ["starter"], "unfinished": []}


def test_doctor_lists_checks(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    assert lines(capsys)[-1]["checks"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["generate", "no-such-model", "--prompt", "x"], 1, "no-such-model"),
        (["generate", "{model}", "--prompt", "x", "--cache", "magic"], 2, "magic"),
        (["generate", "{model}", "--prompt", "x", "--device", "abacus"], 2, "abacus"),
        (["generate", "{model}", "--prompt", "x", "--temperature", "9"], 2, "Temperature"),
        (["inspect", "--preset", "gpt-99"], 2, "gpt-99"),
        (["finetune", "{model}", "nowhere.jsonl"], 1, "nowhere.jsonl"),
        (["runs", "show", "nowhere"], 1, "nowhere"),
    ],
)
def test_mistakes_are_one_sentence_with_a_hint(
    arguments: list[str], status: int, words: str, model: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([a.format(model=model) for a in arguments]) == status
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 2


def test_wrong_arguments_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["generate"])
    assert end.value.code == 2


def test_convert_plans_measures_and_writes(model: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", model, "--set", "n_kv_heads=1", "--set", "tie_embeddings=false", "--plan", "--json"]) == 0
    planned = lines(capsys)[-1]["plan"]
    assert {c["field"]: c["verdict"] for c in planned["changes"]} == {"n_kv_heads": "approximate", "tie_embeddings": "exact"}
    assert planned["verdict"] == "approximate"
    assert main(["convert", model, "--set", "norm=layernorm", "--plan"]) == 0
    assert "The gains stay" in capsys.readouterr().out
    out = tmp_path / "out"
    assert main(["convert", model, "--set", "tie_embeddings=false", "--measure", "--out", str(out), "--json"]) == 0
    done = lines(capsys)[-1]
    assert done["max_abs_logit_difference"] < 1e-5
    assert done["report"]["verdict"] == "exact"
    assert abs(done["measure"]["difference"]) < 1e-5
    assert main(["inspect", str(out), "--json"]) == 0
    assert lines(capsys)[-1]["config"]["tie_embeddings"] is False


def test_convert_says_what_it_lacks(model: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", model, "--out", str(tmp_path / "x")]) == 2
    assert "Nothing is to be changed" in capsys.readouterr().err
    assert main(["convert", model, "--set", "n_kv_heads=1"]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert main(["convert", model, "--set", "n_kv_heads=7", "--plan"]) == 2
    assert "cannot share" in capsys.readouterr().err


def test_finetune_all_weights(model: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data.jsonl"
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "zzzz"}]}
    data.write_text("\n".join([json.dumps(row)] * 8))
    numbers = ["--max-steps", "2", "--learning-rate", "0.0001", "--dtype", "float32"]
    assert main(["finetune", model, str(data), "--out", str(tmp_path / "run"), "--full", *numbers, "--json"]) == 0
    done = lines(capsys)[-1]
    assert (done["adapter"], done["model"]) == (None, str(tmp_path / "run" / "model"))
    assert main(["generate", str(tmp_path / "run"), "--prompt", "q", "--max-new-tokens", "2", "--json"]) == 0
