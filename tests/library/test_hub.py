"""The hub through huggingface_hub, against a real server on this machine: what is found, what is offered, how failures are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from tests.library.conftest import run
from tests.library.hub_server import HubServer, Repo
from workbench.core.control import Control
from workbench.core.errors import DownloadError
from workbench.hub import Hub, HubModel, parse_spec
from workbench.library import Library

LLAMA = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}).encode()

AWQ = json.dumps({"model_type": "llama", "quantization_config": {"quant_method": "awq"}}).encode()


def folder(**more: bytes) -> dict[str, bytes]:
    return {"config.json": LLAMA, "model.safetensors": bytes(5000), "tokenizer.json": b"{}", **more}


def search(hub: HubServer, text: str) -> tuple[HubModel, ...]:
    found: tuple[HubModel, ...] = run(Hub(hub.endpoint).search(text))[1]
    return found


def test_results_come_by_downloads_with_what_the_hub_knows(hub: HubServer) -> None:
    tensors = {"safetensors": {"parameters": {"BF16": 1000, "F32": 10}, "total": 1010}}
    hub.repos["acme/small-lm"] = Repo(folder(), downloads=5, likes=3, info=tensors)
    hub.repos["acme/small-lm-GGUF"] = Repo(
        {"m.Q4_0.gguf": b"GGUF", "mmproj-m.gguf": b"GGUF", "m-00001-of-00002.gguf": b"GGUF"},
        downloads=9, gated=True, info={"gguf": {"total": 1010, "architecture": "llama"}},
    )  # fmt: skip
    hub.repos["other/thing"] = Repo(folder())
    quant, plain = search(hub, " Small ")
    assert (plain.id, plain.downloads, plain.likes, plain.updated) == ("acme/small-lm", 5, 3, "2026-03-04")
    assert (plain.architecture, plain.parameters, plain.weight_bytes) == ("llama", 1010, 2040)
    assert (plain.formats, plain.problem, plain.gated) == (("safetensors",), "", False)
    assert (quant.ggufs, quant.formats, quant.parameters, quant.gated) == (("m.Q4_0.gguf",), ("gguf",), 1010, True)
    assert search(hub, "nothing like it") == ()


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"config.json": LLAMA, "pytorch_model.bin": b"x"}, "only there as a Python pickle (pytorch_model.bin)"),
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}, "holds an adapter"),
        ({"config.json": AWQ, "model.safetensors": b"x"}, "quantized by awq"),
        ({"model.safetensors": b"x"}, "safetensors come without config.json"),
        ({"config.json": LLAMA, "a.safetensors": b"x", "b.safetensors": b"x"}, "no single model"),
        ({"m-00001-of-00002.gguf": b"x", "m-00002-of-00002.gguf": b"x"}, "split into parts"),
        ({"README.md": b"hi"}, "neither safetensors nor a GGUF"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_says_why_and_is_not_fetched(hub: HubServer, online: Library, files: dict[str, bytes], why: str) -> None:
    hub.repos["acme/odd"] = Repo(files)
    assert why in search(hub, "odd")[0].problem
    with pytest.raises(DownloadError, match="cannot be opened") as caught:
        run(online.fetch("acme/odd"))
    assert why in caught.value.message
    assert not any("resolve" in path for _, path, _ in hub.asked)


def test_a_page_offers_one_folder_and_each_gguf_and_nothing_else(hub: HubServer, online: Library) -> None:
    more = {
        "model.Q8_0.gguf": bytes(3000), "sub/model.F16.gguf": bytes(2000), "pytorch_model.bin": b"x", "modeling.py": b"import os",
        "consolidated.safetensors": bytes(9), "README.md": b"#", "chat_template.jinja": b"{{x}}",
    }  # fmt: skip
    hub.repos["acme/both"] = Repo(folder(**more))
    page = run(online.look("acme/both"))[1]
    assert [(o.spec, o.format, o.bytes) for o in page.offers] == [
        ("acme/both", "hf", 5000 + len(LLAMA) + 2 + 5),
        ("acme/both:model.Q8_0.gguf", "gguf", 3000),
        ("acme/both:sub/model.F16.gguf", "gguf", 2000),
    ]
    assert {f.name for f in page.offers[0].files} == {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}
    assert all(f.digest.startswith("sha256:" if f.size > 1000 else "git:") for o in page.offers for f in o.files)
    assert page.commit == hub.repos["acme/both"].commit


def test_several_ggufs_must_be_chosen_from(hub: HubServer, online: Library) -> None:
    hub.repos["acme/quants"] = Repo({"a.gguf": b"GGUF", "b.gguf": b"GGUF"})
    with pytest.raises(DownloadError, match="holds 2 GGUF files") as caught:
        run(online.fetch("acme/quants"))
    assert "acme/quants:a.gguf" in caught.value.hint
    with pytest.raises(DownloadError, match=r"no file 'c.gguf'"):
        run(online.fetch("acme/quants:c.gguf"))


def test_two_ggufs_of_one_name_are_asked_for_by_folder_and_lie_side_by_side(hub: HubServer, online: Library) -> None:
    hub.repos["acme/twins"] = Repo({"Q4/m.gguf": b"GGUF four", "Q8/m.gguf": b"GGUF eight", "Q8/other.gguf": b"GGUF other"})
    with pytest.raises(DownloadError, match=r"acme/twins holds 2 files 'm.gguf'") as caught:
        run(online.fetch("acme/twins:m.gguf"))
    assert "acme/twins:Q4/m.gguf, acme/twins:Q8/m.gguf" in caught.value.hint
    four, eight, other = (run(online.fetch(f"acme/twins:{name}"))[1] for name in ("Q4/m.gguf", "Q8/m.gguf", "other.gguf"))
    assert (four.name, eight.name, other.name) == ("Q4--m.gguf", "Q8--m.gguf", "other.gguf")
    assert (four.read_bytes(), eight.read_bytes()) == (b"GGUF four", b"GGUF eight")


@pytest.mark.parametrize("id", ["/etc/evil", "../../../evil", "acme/other", "acme", "acme/tiny/x", "", 7, None])
def test_where_files_go_is_not_the_answers_to_say(hub: HubServer, online: Library, id: Any, tmp_path: Path) -> None:
    hub.repos["acme/tiny"] = Repo(folder(), info={"id": id})
    before = set(tmp_path.rglob("*"))
    with pytest.raises(DownloadError, match=r"answers for .* when asked for acme/tiny|cannot be understood"):
        run(online.fetch("acme/tiny"))
    assert {p for p in tmp_path.rglob("*") if p.is_file()} <= before


@pytest.mark.parametrize(
    "bad", ["../x.gguf", "/etc/x.gguf", "a/../../x.gguf", "C:x.gguf", "C:/x.gguf", "a\\x.gguf", "..\\x.gguf", "a//x.gguf", "./x.gguf"]
)
def test_files_whose_names_lead_elsewhere_are_not_offered(hub: HubServer, online: Library, bad: str) -> None:
    hub.repos["acme/odd"] = Repo({bad: b"GGUF", "good.gguf": b"GGUF"})
    assert [o.spec for o in run(online.look("acme/odd"))[1].offers] == ["acme/odd:good.gguf"]


@pytest.mark.parametrize(
    "info",
    [
        {"downloads": "many"}, {"likes": [1]}, {"sha": 5}, {"siblings": [{"rfilename": 3}]}, {"siblings": 4}, {"siblings": ["a"]},
        {"siblings": [{"rfilename": "m.gguf", "size": "big"}]}, {"siblings": [{"rfilename": "m.gguf", "size": -1}]},
        {"safetensors": {"parameters": {"F32": "x"}, "total": 1}}, {"safetensors": {"parameters": [1], "total": 1}},
        {"config": {"model_type": ["a"]}}, {"gguf": {"architecture": {}}}, {"lastModified": 3},
    ],
    ids=str,
)  # fmt: skip
def test_fields_of_another_type_are_one_clear_error(hub: HubServer, online: Library, info: dict[str, Any]) -> None:
    hub.repos["acme/odd"] = Repo(folder(), info=info)
    with pytest.raises(DownloadError, match="cannot be understood"):
        run(online.look("acme/odd"))
    if not {"sha", "siblings"} & set(info):
        with pytest.raises(DownloadError, match="cannot be understood"):
            run(online.search("odd"))


def test_a_gguf_is_judged_by_what_it_says_itself(hub: HubServer) -> None:
    config = b'{"model_type": "mistral"}'
    hub.repos["acme/m-gguf"] = Repo({"config.json": config, "m.gguf": b"GGUF"}, info={"gguf": {"total": 1, "architecture": "llama"}})
    hub.repos["acme/m-untold"] = Repo({"config.json": config, "m.gguf": b"GGUF"})
    hub.repos["acme/m-both"] = Repo(folder(**{"config.json": config, "m.gguf": b"GGUF"}), info={"gguf": {"total": 1, "architecture": "x"}})
    found = {model.id: model for model in search(hub, "acme/m-")}

    def known(name: str, *, gguf: bool) -> bool:
        return (name, gguf) in (("llama", True), ("mistral", False))

    assert (found["acme/m-gguf"].architecture, found["acme/m-gguf"].unknown(known)) == ("llama", "")
    assert (found["acme/m-untold"].architecture, found["acme/m-untold"].unknown(known)) == ("mistral", "")
    assert (found["acme/m-both"].unknown(known), found["acme/m-both"].unknown(known, gguf=True)) == ("", "x")


@pytest.mark.parametrize("spec", ["gpt2/", "/x", "a/b/c", "a/../b", "a b/c", "a/b:x.bin", "a--b/c", "../up", "a/b:../x.gguf", "-a/b"])
def test_what_names_no_repository_is_refused_before_anything_is_asked(hub: HubServer, online: Library, spec: str) -> None:
    with pytest.raises(DownloadError, match="does not name a model"):
        run(online.fetch(spec))
    assert hub.asked == []


def test_a_specification_is_taken_apart() -> None:
    assert parse_spec("Qwen/Qwen2.5-0.5B") == ("Qwen/Qwen2.5-0.5B", "")
    assert parse_spec("a/b:x/y.Q4_0.gguf") == ("a/b", "x/y.Q4_0.gguf")


# ---- failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message", "hint"),
    [
        (401, "does not accept your token", "hf auth login"), (403, "does not allow acme/tiny", "HF_TOKEN"),
        (404, "no model acme/tiny", "name"), (429, "too many requests", "few minutes"),
        (503, "problem of its own .status 503", "later"), (418, "refused acme/tiny", "HF_ENDPOINT"),
    ],
)  # fmt: skip
def test_each_refusal_is_one_sentence_with_its_fix(hub: HubServer, online: Library, status: int, message: str, hint: str) -> None:
    hub.status = status
    with pytest.raises(DownloadError, match=message) as caught:
        run(online.look("acme/tiny"))
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message


def test_missing_private_and_gated_models_are_told_apart(hub: HubServer, online: Library) -> None:
    hub.repos["acme/private"] = Repo(folder(), token="good")
    hub.repos["acme/gated"] = Repo(folder(), token="good", gated=True)
    for name in ("acme/nowhere", "acme/private"):
        with pytest.raises(DownloadError, match=f"no model {name} on the hub, or it is private") as caught:
            run(online.fetch(name))
        assert "HF_TOKEN" in caught.value.hint
    with pytest.raises(DownloadError, match="gated by its owner, and it needs an account") as caught:
        run(online.fetch("acme/gated"))
    assert f"{hub.endpoint}/acme/gated" in caught.value.hint


def test_tokens_from_the_environment_open_what_they_may(hub: HubServer, online: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos["acme/private"] = Repo(folder(), token="good")
    hub.repos["acme/gated"] = Repo(folder(), token="good", gated=True)
    monkeypatch.setenv("HF_TOKEN", "other")
    with pytest.raises(DownloadError, match="your token has not been granted access"):
        run(online.fetch("acme/gated"))
    monkeypatch.setenv("HF_TOKEN", "revoked")
    with pytest.raises(DownloadError, match="does not accept your token"):
        run(online.fetch("acme/private"))
    monkeypatch.setenv("HF_TOKEN", "good")
    for name in ("acme/private", "acme/gated"):
        assert (run(online.fetch(name))[1] / "model.safetensors").is_file()


def test_offline_mode_is_respected_and_nothing_is_asked(hub: HubServer, online: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="Offline mode is on") as caught:
        run(online.search("x"))
    assert "Unset HF_HUB_OFFLINE" in caught.value.hint
    assert hub.asked == []


def test_no_network_is_one_clear_sentence(hub: HubServer, home: Path) -> None:
    library = Library(home, hub=Hub("http://127.0.0.1:9"))
    for work in (library.search("x"), library.fetch("a/b")):
        with pytest.raises(DownloadError, match=r"hub \(http://127.0.0.1:9\) cannot be reached") as caught:
            run(work)
        assert "Check the network" in caught.value.hint


def test_an_answer_of_another_server_is_no_crash(hub: HubServer, online: Library) -> None:
    hub.repos["acme/odd"] = Repo(folder(), info={"siblings": [{"name": "no rfilename"}]})
    hub.repos["acme/list"] = Repo(folder(), info={"safetensors": {"parameters": 3}})
    for name in ("odd", "list"):
        with pytest.raises(DownloadError, match="cannot be understood"):
            run(online.search(name))


def test_a_search_that_is_stopped_ends_at_once(hub: HubServer, online: Library) -> None:
    control = Control()
    work = online.search("x", control)
    next(work)
    control.stop()
    with pytest.raises(DownloadError, match="was stopped"):
        for _ in work:
            pass


# ---- the verb ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_verbs_follow_hf_endpoint_and_end_with_the_models(hub: HubServer, home: Path) -> None:
    hub.repos["acme/quants"] = Repo({"a.gguf": b"GGUF" + bytes(2000)}, info={"gguf": {"total": 10, "architecture": "llama"}})
    hub.repos["acme/odd"] = Repo({"config.json": b'{"model_type": "mamba"}', "model.safetensors": bytes(2000)})
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "WORKBENCH_HOME": str(home), "NO_PROXY": "127.0.0.1"}

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "workbench", "models", *words, "--json"]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def last(*words: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(ask(*words).stdout.splitlines()[-1])
        return answer

    quants, odd = last("search", "acme")["models"]
    assert (quants["id"], quants["fit"]["word"], quants["problem"]) == ("acme/quants", "fits", "")
    assert odd["problem"] == "the architecture mamba is not known"
    refused = ask("fetch", "acme/odd")
    assert refused.returncode == 1
    assert "architecture 'mamba', which cannot be opened" in refused.stderr
    fetched = last("fetch", "acme/quants")
    assert [m["name"] for m in fetched["models"]] == ["acme/quants:a.gguf"]
    assert fetched["path"] == str(home / "models" / "acme" / "quants" / "a.gguf")
    assert fetched["models"][0]["problem"]  # zeros are no GGUF, and the list says so
    gone = last("remove", "acme/quants:a.gguf")
    assert gone["models"] == []
    assert Path(gone["removed"]).read_bytes()[:4] == b"GGUF"
