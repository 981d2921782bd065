"""The Cache panel: a real session with a tiny model, a chat, and a flip of the cache that is seen in bytes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from ui.caching.memory import bare, contexts, memory_rows
from ui.caching.named import OTHER, name_of
from ui.caching.slot_map import KEYS, VALUES, SlotMapView, shades
from ui.caching.speed import SpeedExperiment
from ui.caching.view import RUN, CacheView
from ui.panels.cache import CachePanel
from ui.services import Services
from workbench.caches import CACHE_PRESETS, CacheConfig, SlotMap, cache_nbytes
from workbench.checkpoints import save_checkpoint
from workbench.core.metrics import CACHE_BYTES
from workbench.generation import Conversation, GenerationConfig
from workbench.model import ModelConfig, build_model
from workbench.requests import ChatRequest
from workbench.session import Session
from workbench.studies.kv_cache import KvCacheOptions
from workbench.tokenizers import CHATML, ByteTokenizer

INT8 = CacheConfig(codec="int8", value_codec="int8")  # type: ignore[arg-type]
SIZES = {"n_layers": 3, "d_model": 32, "n_heads": 2, "d_ff": 48, "max_positions": 4096}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(build_model(ModelConfig(vocab_size=ByteTokenizer().vocab_size, **SIZES), seed=1), ByteTokenizer(), CHATML, path)
    return path


@pytest.fixture
def session(home: Path, folder: Path, services: Services) -> Session:
    made = Session(home, device="cpu", dtype="float32", threads=1)
    for _ in made.load(folder):
        pass
    services.session = made
    return made


@pytest.fixture
def view(qtbot: QtBot, services: Services, session: Session) -> CacheView:
    made = CacheView(services)
    qtbot.addWidget(made)
    made.resize(360, 900)
    made.show()
    return made


def say(services: Services, session: Session, qtbot: QtBot, talk: Conversation) -> Conversation:
    """One reply through the window's jobs, as the chat asks for it."""
    request = ChatRequest(conversation=talk, generation=GenerationConfig(max_new_tokens=8, do_sample=False), cache=services.runtime.cache)
    ended: list[Any] = []
    services.jobs.start("Reply", partial(session.reply, request), "chat", on_done=ended.append)
    qtbot.waitUntil(lambda: bool(ended) and services.jobs.running("chat") is None, timeout=60_000)
    return talk.add("assistant", ended[0].result.text)


def test_a_flip_to_int8_is_seen_in_bytes_and_the_chat_goes_on(
    view: CacheView, services: Services, session: Session, qtbot: QtBot
) -> None:
    talk = say(services, session, qtbot, Conversation("").add("user", "hello, who are you?"))
    report = session.cache_state()
    assert report is not None
    exact, tokens = report.nbytes, report.tokens
    assert f"{tokens:,} tokens" in view.figure.text()
    assert "Every slot is exact" in view.slots.words.text()
    services.runtime.set_cache(INT8)
    qtbot.waitUntil(lambda: "anew" in view.applied.text(), timeout=30_000)
    report = session.cache_state()
    assert report is not None
    assert report.tokens == tokens
    assert report.nbytes < 0.6 * exact
    values = view.plot._curves[(RUN, CACHE_BYTES.name)].series.y
    assert values[-1] == report.nbytes < values[-2] == exact
    assert "encoded" in view.slots.words.text()
    talk = say(services, session, qtbot, talk.add("user", "go on"))
    report = session.cache_state()
    assert report is not None
    assert report.config == INT8
    assert report.tokens > tokens


def test_what_cannot_be_taken_over_is_read_again(view: CacheView, services: Services, session: Session, qtbot: QtBot) -> None:
    services.runtime.set_cache(INT8)
    say(services, session, qtbot, Conversation("").add("user", "hello"))
    services.runtime.set_cache(CacheConfig())
    qtbot.waitUntil(lambda: "read again" in view.applied.text(), timeout=30_000)
    assert session.cache_state().tokens == 0  # type: ignore[union-attr]


def test_references_are_told_to_be_estimates(view: CacheView, services: Services, session: Session, qtbot: QtBot) -> None:
    say(services, session, qtbot, Conversation("").add("user", "hello"))
    view.look()
    found = view.plot._references
    assert list(found) == ["fp32", "fp16", "8 bits", "4 bits", "3 bits"]
    assert all(reference.estimated for reference in found.values())
    assert found["fp32"].value == session.cache_state().nbytes  # type: ignore[union-attr]
    assert found["fp16"].value == pytest.approx(found["fp32"].value / 2)


def test_presets_and_the_form_are_one_setting(view: CacheView, services: Services) -> None:
    view.preset.setCurrentIndex(view.preset.findData("balanced"))
    view.preset.activated.emit(0)
    assert services.runtime.cache == CACHE_PRESETS["balanced"].config == view.form.value
    changed = replace(services.runtime.cache, window=7)
    view.form.set_value(changed)
    view.form.changed.emit(changed)
    assert services.runtime.cache == changed
    assert view.preset.currentData() == OTHER == name_of(changed)
    services.runtime.set_use_cache(False)
    assert view.preset.currentData() == "off"


def test_errors_stay_in_the_panel(view: CacheView, services: Services, session: Session, qtbot: QtBot) -> None:
    say(services, session, qtbot, Conversation("").add("user", "hello"))
    services.runtime.set_cache(CacheConfig(capacity=16, overflow="rolling", sinks=2))
    view.controller.apply()
    qtbot.waitUntil(lambda: not view.controller.waiting, timeout=30_000)
    services.runtime.set_cache(CacheConfig())
    qtbot.waitUntil(lambda: not view.controller.waiting, timeout=30_000)


def test_without_a_model(qtbot: QtBot, services: Services, home: Path) -> None:
    services.session = Session(home, device="cpu", dtype="float32", threads=1)
    panel = CachePanel(services)
    qtbot.addWidget(panel)
    panel.resize(340, 700)
    panel.show()
    qtbot.waitUntil(lambda: panel.view is not None and panel.view.figure.text() == "Nothing cached")
    assert "Load a model" in panel.view.told.text()
    assert panel.view.no_model.isVisible()
    assert panel.view.width() <= 340


# ---- what would it take ----------------------------------------------------------------------------------------------


def test_the_table_counts_by_the_rule_that_reserves() -> None:
    sizes = ModelConfig(vocab_size=10, n_layers=30, d_model=576, n_heads=9, n_kv_heads=3, max_positions=8192)
    rows = memory_rows(sizes, 2048, INT8, torch.float32)
    assert [row.label for row in rows] == [*(p.label for p in CACHE_PRESETS.values()), "As chosen"]
    assert [row.current for row in rows] == [False] * len(CACHE_PRESETS) + [True]
    for row, preset in zip(rows, CACHE_PRESETS.values(), strict=False):
        assert row.nbytes == cache_nbytes(preset.config, sizes, 2048)
        assert row.against_float32 == pytest.approx(2 * row.against_float16)
        assert row.bare_against_float16 >= row.against_float16
    assert bare(CACHE_PRESETS["balanced"].config).window == 0


@pytest.mark.parametrize(("most", "wanted"), [(1024, [1024]), (8192, [2048, 8192]), (131072, [2048, 8192, 32768])])
def test_contexts_fit_the_model(most: int, wanted: list[int]) -> None:
    assert list(contexts(most)) == wanted


# ---- slot by slot ----------------------------------------------------------------------------------------------------


def layer(exact: list[bool], errors: list[float]) -> SlotMap:
    return SlotMap(np.array(exact), np.array(errors, dtype=np.float32), np.array(errors, dtype=np.float32) / 2)


def test_colours_tell_exact_from_encoded_and_small_errors_from_large() -> None:
    exact = np.array([[True, False, False, False]])
    indices, ends = shades(np.array([[0.0, 1e-4, 1e-2, np.nan]]), exact)
    assert indices[0, 0] == 0
    assert indices[0, 3] == 1
    assert 2 <= indices[0, 1] < indices[0, 2]
    assert ends == pytest.approx((1e-4, 1e-2))


def test_each_slot_can_be_asked(qtbot: QtBot) -> None:
    shown = SlotMapView()
    qtbot.addWidget(shown)
    shown.resize(400, 300)
    shown.show()
    layers = [layer([True, False], [0.0, 0.02]), layer([True, False], [0.0, float("nan")])]
    shown.show_slots(layers, KEYS)
    picture = shown.picture
    area = picture._area
    assert picture.slot_at(QPoint(area.left() + 1, area.top() + 1)) == (0, 0)
    assert picture.slot_at(QPoint(area.right(), area.bottom())) == (1, 1)
    assert picture.slot_at(QPoint(0, 0)) is None
    assert picture.told(0, 0) == "Keys of layer 0, position 0: exact"
    assert "2.00% of its square norm" in picture.told(0, 1)
    assert picture.told(1, 1).endswith("encoded")
    shown.show_slots(layers, VALUES)
    assert "1.00%" in picture.told(0, 1)
    shown.show_slots((), KEYS)
    assert picture.slot_at(QPoint(area.left() + 1, 1)) is None


# ---- its speed -------------------------------------------------------------------------------------------------------


def test_the_speed_up_is_measured_and_drawn(qtbot: QtBot, services: Services, session: Session) -> None:
    page = SpeedExperiment(services)
    qtbot.addWidget(page)
    page.resize(360, 800)
    page.show()
    assert page.line.button.text() == "Measure the speed"
    page.form.set_value(KvCacheOptions(longest=64, points=4, prompt=4, reply=6, other=None))
    page.line.button.click()
    assert page.line.button.text() == "Stop"
    qtbot.waitUntil(lambda: not page.line.running, timeout=60_000)
    assert page.result is not None
    assert page.plot is not None
    names = [str(row["cache"]) for row in page.result.rows]
    assert list(page.plot.metrics) == names
    assert all(len(page.plot._curves["study", name].series) == 4 for name in names)
    shown = [label.text() for label in page.table.findChildren(QLabel)]
    assert "6/6" in shown
    assert page.verdict.text() == page.result.verdict


def test_the_speed_needs_a_model(qtbot: QtBot, services: Services, home: Path) -> None:
    services.session = Session(home, device="cpu", dtype="float32", threads=1)
    page = SpeedExperiment(services)
    qtbot.addWidget(page)
    assert page.line.button.text() == "Load a model first"
    assert not page.line.button.isEnabled()
