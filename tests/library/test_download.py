"""A download from the hub: whole or not at all, gone on with after every kind of end, checked, and stopped within a second."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.library.conftest import run
from tests.library.hub_server import HubServer, Repo
from workbench.core.control import Control
from workbench.core.errors import BusyError, DownloadError, FileError
from workbench.hub import Transfer, Unfinished, transfer
from workbench.library import Library

WEIGHTS = bytes(range(256)) * 8000  # 2 MB
CONFIG = b'{"model_type": "llama"}'


@pytest.fixture
def repo(hub: HubServer) -> Repo:
    hub.repos["acme/tiny"] = Repo({"config.json": CONFIG, "model.safetensors": WEIGHTS, "tokenizer.json": b"{}" * 10, "x.bin": b"pickle"})
    return hub.repos["acme/tiny"]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "retry_delay", lambda response, tries: 0.001)


def arrived(library: Library) -> list[str]:
    """Files below models/, by name."""
    return sorted(p.name for p in library.models_folder.rglob("*") if p.is_file())


def until(work: object, done: Callable[[], bool]) -> None:
    """Follow `work` until `done`."""
    deadline = time.monotonic() + 5
    while not done() and time.monotonic() < deadline:
        next(work)  # type: ignore[call-overload]
    assert done()


def test_brings_what_can_be_opened_and_says_how_far_it_is(online: Library, repo: Repo) -> None:
    events, path = run(online.fetch("acme/tiny"))
    assert path == online.models_folder / "acme" / "tiny" == online.resolve("acme/tiny")
    assert arrived(online) == ["config.json", "hub.json", "model.safetensors", "tokenizer.json"]
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    assert online.unfinished() == []
    last = events[-1]
    assert isinstance(last, Transfer)
    assert last.done == last.total == len(WEIGHTS) + len(CONFIG) + 20
    assert last.to_json()["event"] == "progress"
    assert [m.name for m in online.models()] == ["acme/tiny"]


def test_an_intact_copy_is_checked_and_kept(online: Library, repo: Repo, hub: HubServer) -> None:
    path = run(online.fetch("acme/tiny"))[1]
    hub.asked.clear()
    events, again = run(online.fetch("acme/tiny"))
    assert again == path
    assert not any("resolve" in asked for _, asked, _ in hub.asked)
    assert events[-1].message == "Checking acme/tiny"


def test_a_copy_that_was_damaged_since_is_brought_again(online: Library, repo: Repo) -> None:
    path = run(online.fetch("acme/tiny"))[1]
    (path / "model.safetensors").write_bytes(bytes(len(WEIGHTS)))
    run(online.fetch("acme/tiny"))
    assert (path / "model.safetensors").read_bytes() == WEIGHTS


def test_a_dropped_connection_goes_on_where_it_ended(online: Library, repo: Repo, hub: HubServer) -> None:
    hub.drop_after, hub.drops = 500_000, 2
    path = run(online.fetch("acme/tiny"))[1]
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    first, second, third = hub.ranges()
    assert first == ""
    assert 0 < int(second[6:-1]) < int(third[6:-1]) < len(WEIGHTS)


def test_repositories_that_differ_after_a_dot_are_fetched_at_once(online: Library, hub: HubServer) -> None:
    hub.repos["acme/lm2.5-7b"] = Repo({"a.gguf": b"GGUF" + WEIGHTS})
    hub.repos["acme/lm2.5-05b"] = Repo({"b.gguf": b"GGUF" + WEIGHTS})
    hub.hold_after, control = 1_000_000, Control()
    first = online.fetch("acme/lm2.5-7b", control)
    until(first, hub.holding.is_set)
    hub.hold_after = None
    assert run(online.fetch("acme/lm2.5-05b"))[1].name == "b.gguf"
    control.stop()
    with pytest.raises(DownloadError, match="was stopped"):
        next(first)


def test_a_connection_that_never_brings_a_byte_gives_up(online: Library, repo: Repo, hub: HubServer) -> None:
    hub.drop_after, hub.drops = 0, 99
    with pytest.raises(DownloadError, match="cannot be reached"):
        run(online.fetch("acme/tiny"))
    assert hub.drops == 99 - transfer.TRIES
    assert arrived(online) == []


def test_a_stop_is_quick_although_nothing_arrives_and_the_rest_comes_later(online: Library, repo: Repo, hub: HubServer) -> None:
    hub.hold_after, control = 1_000_000, Control()
    work = online.fetch("acme/tiny", control)
    until(work, hub.holding.is_set)
    control.stop()
    begun = time.monotonic()
    with pytest.raises(DownloadError, match="was stopped") as caught:
        next(work)
    assert time.monotonic() - begun < 1
    assert "goes on where it ended" in caught.value.hint
    assert arrived(online) == []
    assert online.models() == []
    (left,) = online.unfinished()
    assert left.spec == "acme/tiny"
    assert 0 < left.done < left.total == len(WEIGHTS) + len(CONFIG) + 20
    hub.hold_after = None
    hub.go_on.set()
    hub.asked.clear()
    events, path = run(online.fetch(left.spec))
    assert hub.ranges()[0].startswith("bytes=")
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    assert max(e.done for e in events) == left.total


def test_what_was_brought_can_be_thrown_away(online: Library, repo: Repo, hub: HubServer) -> None:
    hub.hold_after = 100_000
    work = online.fetch("acme/tiny")
    until(work, hub.holding.is_set)
    with pytest.raises(BusyError):
        online.discard("acme/tiny")
    with pytest.raises(BusyError, match="already being fetched"):
        run(online.fetch("acme/tiny"))
    work.close()
    assert [u.spec for u in online.unfinished()] == ["acme/tiny"]
    online.discard("acme/tiny")
    assert online.unfinished() == []


def test_a_server_without_ranges_begins_anew(online: Library, repo: Repo, hub: HubServer) -> None:
    hub.drop_after, hub.drops, hub.ignore_ranges = 500_000, 1, True
    events, path = run(online.fetch("acme/tiny"))
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    assert events[-1].done == events[-1].total


def test_a_wrong_checksum_brings_nothing_and_the_next_try_works(online: Library, repo: Repo, hub: HubServer) -> None:
    hub.corrupt = True
    with pytest.raises(DownloadError, match=r"model.safetensors of acme/tiny arrived damaged"):
        run(online.fetch("acme/tiny"))
    assert arrived(online) == []
    hub.corrupt = False
    assert (run(online.fetch("acme/tiny"))[1] / "model.safetensors").read_bytes() == WEIGHTS


def test_small_files_are_held_against_their_git_id(online: Library, repo: Repo, hub: HubServer) -> None:
    part = online.places.downloads / "acme--tiny"
    part.mkdir(parents=True)
    page = run(online.look("acme/tiny"))[1]
    config = next(f for f in page.offers[0].files if f.name == "config.json")
    (part / f"{transfer.key_of(config, page)}.part").write_bytes(CONFIG.replace(b"llama", b"lambs"))
    with pytest.raises(DownloadError, match=r"config.json of acme/tiny arrived damaged"):
        run(online.fetch("acme/tiny"))


def test_a_new_commit_keeps_the_parts_it_did_not_change(online: Library, repo: Repo, hub: HubServer) -> None:
    hub.hold_after = 1_000_000
    work = online.fetch("acme/tiny")
    until(work, hub.holding.is_set)
    work.close()
    hub.hold_after = None
    hub.go_on.set()
    repo.files["tokenizer.json"] = b"[]" * 12
    hub.asked.clear()
    path = run(online.fetch("acme/tiny"))[1]
    assert (path / "tokenizer.json").read_bytes() == b"[]" * 12
    assert hub.ranges()[0].startswith("bytes=")
    assert not (online.places.downloads / "acme--tiny").exists()


def test_a_newer_version_replaces_the_folder_and_the_old_one_is_in_the_trash(online: Library, repo: Repo) -> None:
    repo.files["m.gguf"] = b"GGUF" * 500
    path = run(online.fetch("acme/tiny"))[1]
    run(online.fetch("acme/tiny:m.gguf"))
    del repo.files["tokenizer.json"]
    repo.files["model.safetensors"] = WEIGHTS[::-1]
    run(online.fetch("acme/tiny"))
    assert (path / "model.safetensors").read_bytes() == WEIGHTS[::-1]
    assert arrived(online) == ["config.json", "hub.json", "m.gguf", "model.safetensors"]
    (old,) = online.trash_folder.iterdir()
    assert (old / "model.safetensors").read_bytes() == WEIGHTS
    assert [m.name for m in online.models()] == ["acme/tiny", "acme/tiny:m.gguf"]


def test_shards_come_with_their_index_which_must_be_true(online: Library, hub: HubServer) -> None:
    shards = {f"model-0000{n}-of-00002.safetensors": bytes([n]) * 5000 for n in (1, 2)}
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    files = {"config.json": CONFIG, "model.safetensors.index.json": json.dumps(index).encode(), **shards}
    hub.repos["acme/sharded"] = Repo(files)
    path = run(online.fetch("acme/sharded"))[1]
    assert sorted(p.name for p in path.iterdir()) == sorted([*files, "hub.json"])
    del files["model-00002-of-00002.safetensors"]
    hub.repos["acme/broken"] = Repo(files)
    with pytest.raises(DownloadError, match=r"not complete on the hub: model-00002-of-00002.safetensors is missing"):
        run(online.fetch("acme/broken"))


def test_a_full_disk_is_seen_before_the_weights_come(online: Library, repo: Repo, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    with pytest.raises(FileError, match=r"too full for acme/tiny: 66.0 MB are needed and 10.0 MB are free") as caught:
        run(online.fetch("acme/tiny"))
    assert "WORKBENCH_HOME" in caught.value.hint
    assert not any("resolve" in path for _, path, _ in hub.asked)


def test_a_disk_that_fills_on_the_way_says_so_and_keeps_what_came(online: Library, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        patch.setattr("workbench.hub.fetching.write_json", lambda *_, **__: None)
        with pytest.raises(FileError, match="disk is full"):
            run(online.fetch("acme/tiny"))
    assert arrived(online) == []
    assert run(online.fetch("acme/tiny"))[1].is_dir()


def test_a_folder_that_cannot_be_written_is_named(online: Library, repo: Repo) -> None:
    (online.home / "downloads").write_text("not a folder")
    with pytest.raises(FileError, match="cannot be stored in"):
        run(online.fetch("acme/tiny"))


def test_removed_models_lie_in_the_trash_until_it_is_emptied(online: Library, repo: Repo, tmp_path: Path) -> None:
    repo.files["m.gguf"] = b"GGUF" * 500
    run(online.fetch("acme/tiny"))
    run(online.fetch("acme/tiny:m.gguf"))
    assert online.remove("acme/tiny:m.gguf").read_bytes() == b"GGUF" * 500
    assert online.remove("acme/tiny").is_dir()
    assert online.models() == []
    assert list(online.models_folder.iterdir()) == []
    assert online.trash_bytes() > len(WEIGHTS)
    assert online.empty_trash() > len(WEIGHTS)
    assert online.trash_bytes() == 0
    outside = tmp_path / "mine.gguf"
    outside.write_bytes(b"GGUF")
    run_folder = online.home / "runs" / "precious"
    run_folder.mkdir(parents=True)
    for path in (outside, online.models_folder / ".." / "runs" / "precious", online.models_folder / ".."):
        with pytest.raises(FileError, match="not in the library's folder"):
            online.remove(path)
    link = online.models_folder / "link.gguf"
    link.symlink_to(outside)
    online.remove(link)
    assert outside.is_file()
    assert run_folder.is_dir()
    assert outside.exists()


def test_a_damaged_note_of_an_unfinished_download_is_passed_over(online: Library) -> None:
    note = '{"kind": "workbench download", "version": 1, "spec": "c/d", "total": 9, "keys": ["../x", "k"]}'
    for name, text in (("a--b", "{"), ("c--d", note)):
        folder = online.places.downloads / name
        folder.mkdir(parents=True)
        (folder / "1.request.json").write_text(text)
    (online.places.downloads / "x").write_text("not part of it")
    (online.places.downloads / "c--d" / "k.part").write_bytes(bytes(4))
    assert online.unfinished() == [Unfinished("c/d", 4, 9)]


def test_two_files_of_a_repository_are_gone_on_with_and_thrown_away_apart(online: Library, hub: HubServer) -> None:
    hub.repos["acme/quants"] = Repo({"a.gguf": b"GGUF" * 5000, "b.gguf": b"GGUF" * 6000})
    hub.hold_after = 8000
    for name in ("a", "b"):
        hub.holding.clear()
        work = online.fetch(f"acme/quants:{name}.gguf")
        until(work, hub.holding.is_set)
        work.close()
    assert sorted(u.spec for u in online.unfinished()) == ["acme/quants:a.gguf", "acme/quants:b.gguf"]
    online.discard("acme/quants:b.gguf")
    (left,) = online.unfinished()
    assert left.spec == "acme/quants:a.gguf"
    assert left.done > 0
    hub.hold_after = None
    hub.go_on.set()
    hub.asked.clear()
    run(online.fetch("acme/quants:a.gguf"))
    assert hub.ranges()[0].startswith("bytes=")
    assert not (online.places.downloads / "acme--quants").exists()
