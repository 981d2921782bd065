"""The chat with two settings side by side: one message, two replies, where they part, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QAccessible
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from tests.ui import chat_fakes
from tests.ui.chat_fakes import composer, open_panel
from tests.ui.test_chat_keys import NAMED
from ui.caching.named import OFF, OTHER, name_of, named
from ui.chat.code_block import CodeBlock
from ui.chat.marking import ENDS, MARK
from ui.chat.message import MessageWidget
from ui.pairing.difference import Figures, place, ratio_text, sameness
from ui.pairing.settings import first_settings
from ui.pairing.strip import ratios, texts
from ui.pairing.view import PairView
from ui.panels.chat import ChatPanel
from ui.services import Services
from workbench.caches import KV_CODECS, CacheConfig
from workbench.checkpoints import save_checkpoint
from workbench.generation import GenerationConfig
from workbench.model import ModelConfig, build_model
from workbench.quantization import QuantizationConfig
from workbench.requests import AdapterState
from workbench.session import Session
from workbench.tokenizers import CHATML, ByteTokenizer

EXACT, NONE = CacheConfig(), CacheConfig(use_cache=False)
INT4 = QuantizationConfig(scheme="int4")
COMPILED = 60_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose words differ once its weights are rounded."""
    tokenizer = ByteTokenizer()
    sizes: dict[str, Any] = {"n_layers": 2, "d_model": 64, "n_heads": 4, "n_kv_heads": 2, "d_ff": 96, "max_positions": 2048}
    model = build_model(ModelConfig(vocab_size=tokenizer.vocab_size, **sizes), seed=5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(5)
    path = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(model, tokenizer, CHATML, path)
    return path


@pytest.fixture
def session(tmp_path: Path, folder: Path) -> Session:
    made = Session(tmp_path, device="cpu", dtype="float32", threads=2)
    for _ in made.load(folder):
        pass
    return made


@pytest.fixture
def panel(services: Services, session: Session, qtbot: QtBot) -> Iterator[ChatPanel]:
    for made in open_panel(services, session, qtbot):  # type: ignore[arg-type]
        made.controller.set_generation(GenerationConfig(do_sample=False, max_new_tokens=24))
        yield made


@pytest.fixture
def pair(panel: ChatPanel) -> PairView:
    panel.header.compare_button.click()
    assert panel.pair is not None
    cheap(panel.pair)
    return panel.pair


def cheap(pair: PairView) -> None:
    """Caches without kernels that may have to be compiled first."""
    choose(pair, "A", cache=EXACT)
    choose(pair, "B", cache=NONE)


def choose(pair: PairView, side: str, **values: Any) -> None:
    pair.choosers[side]._take(**values)


def replies(pair: PairView) -> tuple[str, str]:
    found = [pair.controller.conversations[side].shown[-1] for side in ("A", "B")]
    assert all(turn.role == "assistant" for turn in found)
    return found[0].content, found[1].content


def say(panel: ChatPanel, qtbot: QtBot, text: str, wait: bool = True) -> None:
    """Send a message. Loops for quantized weights and caches are compiled with the first one on a new machine."""
    chat_fakes.say(panel, qtbot, text, wait=False)
    if wait:
        qtbot.waitUntil(lambda: not panel._services.jobs.jobs, timeout=COMPILED)


def drawn(message: MessageWidget) -> str:
    """What a person reads in a message, names of languages included."""
    return "".join(w.language.text() + w.text if isinstance(w, CodeBlock) else w.toPlainText() for w in message.widgets)


# ---- both answer -----------------------------------------------------------------------------------------------------


def test_one_message_is_answered_on_both_sides(panel: ChatPanel, pair: PairView, qtbot: QtBot) -> None:
    say(panel, qtbot, "What is a cache?")
    a, b = replies(pair)
    assert a == b
    assert [m.text for m in pair.views["A"].messages] == ["What is a cache?", a] == [m.text for m in pair.views["B"].messages]
    assert pair.strip.verdict.text().startswith("Identical: 24 tokens; their log-probabilities differ by ")
    assert "cached" in pair.views["A"].messages[-1].badge.text()
    assert "uncached" in pair.views["B"].messages[-1].badge.text()
    cells = pair.strip.cells
    assert cells["A", 0].text() != "–"
    assert cells["A", 2].text().endswith("kB")
    assert cells["B", 2].text() == "off"
    assert cells["B / A", 0].text().startswith("×")
    assert not any(MARK in drawn(view.messages[-1]) for view in pair.views.values())
    assert not pair.strip.show_button.isVisible()


def test_the_first_token_that_differs_is_marked_on_both_sides(panel: ChatPanel, pair: PairView, qtbot: QtBot) -> None:
    choose(pair, "B", cache=EXACT, quantization=INT4)
    panel.controller.set_generation(GenerationConfig(do_sample=False, max_new_tokens=64))
    say(panel, qtbot, "What is a cache?")
    last = pair.controller.last
    first = last.first_difference
    assert first is not None
    assert pair.strip.verdict.text() == f"{MARK} First different token: no. {first + 1}, after {first} identical"
    for side, reply in (("A", last.a), ("B", last.b)):
        assert drawn(pair.views[side].messages[-1]).count(MARK) == 1
        assert MARK not in reply.text
        assert MARK not in pair.controller.conversations[side].shown[-1].content, "the text itself has no mark"
    assert pair.strip.cells["B / A", 3].text() == "×1.00"
    assert pair.strip.show_button.isVisible()
    pair.strip.show_button.click()
    assert pair.strip.cells["A", 3].text() == "512 B"  # 2 layers x 2 heads x 16 numbers x 4 bytes, keys and values


def test_caches_that_have_not_begun_to_differ_are_told_of(panel: ChatPanel, pair: PairView, qtbot: QtBot) -> None:
    kind = KV_CODECS.choose("int8")
    choose(pair, "B", cache=CacheConfig(codec=kind, value_codec=kind, window=256))
    say(panel, qtbot, "hi")
    assert "So few tokens are kept exact by both caches." in pair.strip.verdict.text()
    choose(pair, "B", cache=CacheConfig(codec=kind, value_codec=kind))
    say(panel, qtbot, "hi")
    assert "kept exact" not in pair.strip.verdict.text()


def test_both_stream_together(panel: ChatPanel, pair: PairView, qtbot: QtBot) -> None:
    order: list[str] = []
    panel._services.bus.events.connect(lambda events: order.extend(e.side for e in events if e.name == "side" and e.event.name == "token"))
    say(panel, qtbot, "hi", wait=False)
    assert all(view.growing for view in pair.views.values())
    assert not pair.choosers["A"].isEnabled()
    qtbot.waitUntil(lambda: not panel._services.jobs.jobs, timeout=COMPILED)
    assert order == ["A", "B"] * 24
    assert pair.choosers["A"].isEnabled()


def test_escape_stops_both_and_keeps_their_texts(panel: ChatPanel, pair: PairView, qtbot: QtBot) -> None:
    panel.controller.set_generation(GenerationConfig(do_sample=False, max_new_tokens=1500))
    say(panel, qtbot, "go", wait=False)
    qtbot.waitUntil(lambda: all(len(s.ids) > 2 for s in pair.controller.streams.values()), timeout=COMPILED)
    assert "so far" in pair.strip.verdict.text()
    qtbot.keyClick(composer(panel), Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: not panel._services.jobs.jobs, timeout=COMPILED)
    a, b = replies(pair)
    assert a.startswith(b) or b.startswith(a)
    assert all("stopped" in view.messages[-1].badge.text() for view in pair.views.values())
    assert "as far as both go" in pair.strip.verdict.text()


def test_each_side_goes_on_with_its_own_replies(panel: ChatPanel, pair: PairView, qtbot: QtBot) -> None:
    choose(pair, "B", cache=EXACT, quantization=INT4)
    say(panel, qtbot, "one")
    first = replies(pair)
    say(panel, qtbot, "two")
    for view, reply in zip(pair.views.values(), first, strict=True):
        assert [m.text for m in view.messages][:3] == ["one", reply, "two"]
        assert "tokens reused" in view.messages[-1].badge.text()
    qtbot.mouseClick(pair.views["B"].messages[-1].again_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not panel._services.jobs.jobs, timeout=COMPILED)
    assert [view.messages[-1].version.text() for view in pair.views.values()] == ["2/2", "2/2"]


def test_a_question_is_edited_on_both_sides(panel: ChatPanel, pair: PairView, qtbot: QtBot) -> None:
    say(panel, qtbot, "one")
    pair.controller.edit("B", 0, "other")
    qtbot.waitUntil(lambda: not panel._services.jobs.jobs, timeout=COMPILED)
    assert [view.messages[0].text for view in pair.views.values()] == ["other", "other"]
    pair.controller.choose("A", 0, 0)
    assert [view.messages[0].text for view in pair.views.values()] == ["one", "one"]


# ---- when it goes wrong ----------------------------------------------------------------------------------------------


def test_an_error_of_one_side_leaves_the_other(panel: ChatPanel, pair: PairView, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(pair, "B", cache=EXACT, quantization=INT4)
    with monkeypatch.context() as patch:
        patch.setattr("workbench.quantizing.free_memory", lambda _device: 10)
        say(panel, qtbot, "hi")
    view = pair.views["B"]
    assert view.error.isVisible()
    assert "free" in view.error.text.text()
    assert not pair.views["A"].error.isVisible()
    assert len(pair.controller.conversations["A"].shown) == 2
    assert pair.strip.verdict.text() == "Side B gave no reply to compare."
    assert [side for side, button in pair.strip.keep.items() if button.isVisible()] == ["A"]
    say(panel, qtbot, "again")
    assert not view.error.isVisible()
    assert [m.role for m in pair.views["A"].messages] == ["user", "assistant"] * 2
    assert [m.text for m in view.messages][:1] == ["again"], "a question that was never answered is replaced"
    pair.controller.edit("A", 2, "changed")
    qtbot.waitUntil(lambda: not panel._services.jobs.jobs, timeout=COMPILED)
    assert [v.messages[-2].text for v in pair.views.values()] == ["changed", "changed"]


def test_an_error_in_the_middle_keeps_what_was_written(
    panel: ChatPanel, pair: PairView, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench import pairing

    real = pairing.reply

    def breaking(*args: Any, **more: Any) -> Any:
        for index, event in enumerate(real(*args, **more)):
            if index == 5:
                raise RuntimeError("mat1 and mat2")
            yield event

    monkeypatch.setattr(pairing, "reply", breaking)
    say(panel, qtbot, "hi")
    for side, view in pair.views.items():
        assert view.error.isVisible()
        turn = pair.controller.conversations[side].shown[-1]
        assert (turn.role, turn.figures["stop_reason"]) == ("assistant", "failed")
        assert turn.content


def test_what_cannot_be_set_is_said_on_both_sides(panel: ChatPanel, pair: PairView, qtbot: QtBot) -> None:
    choose(pair, "B", cache=replace(EXACT, overflow="sinks"))
    say(panel, qtbot, "hi")
    assert all(view.error.isVisible() for view in pair.views.values())
    assert "needs at least one" in pair.views["A"].error.details.toPlainText() + pair.views["A"].error.text.text()


# ---- there and back --------------------------------------------------------------------------------------------------


def test_leaving_brings_the_chat_back_as_it_was(panel: ChatPanel, session: Session, services: Services, qtbot: QtBot) -> None:
    say(panel, qtbot, "before")
    before, held = panel.controller.conversation, session.cache_state()
    assert held is not None
    services.actions["chat.compare"].trigger()
    pair = panel.pair
    assert pair is not None
    assert panel.header.compare_button.isChecked()
    assert not panel.view.isVisible()
    assert [m.text for m in pair.views["B"].messages] == [m.text for m in panel.view.messages]
    cheap(pair)
    say(panel, qtbot, "between")
    services.actions["chat.compare"].trigger()
    assert panel.view.isVisible()
    assert not pair.isVisible()
    assert panel.controller.conversation == before
    now = session.cache_state()
    assert now is not None
    assert (now.tokens, now.nbytes) == (held.tokens, held.nbytes)
    say(panel, qtbot, "after")
    assert panel.controller.conversation.shown[-1].figures["reused_tokens"] > 0
    assert [t.content for t in panel.controller.conversation.shown if t.role == "user"] == ["before", "after"]


def test_a_person_can_go_on_with_one_side(panel: ChatPanel, pair: PairView, qtbot: QtBot) -> None:
    choose(pair, "B", quantization=INT4)
    assert not pair.strip.keep["B"].isVisible()
    say(panel, qtbot, "hi")
    wanted = pair.controller.conversations["B"]
    qtbot.mouseClick(pair.strip.keep["B"], Qt.MouseButton.LeftButton)
    assert panel.controller.conversation == wanted
    assert not panel.header.compare_button.isChecked()
    assert MARK not in drawn(panel.view.messages[-1]), "marks belong to the comparison"


def test_another_chat_is_taken_over_while_comparing(panel: ChatPanel, pair: PairView, qtbot: QtBot) -> None:
    say(panel, qtbot, "hi")
    panel.header.new_button.click()
    assert all(view.messages == [] for view in pair.views.values())
    assert pair.strip.cells["A", 0].text() == "–"


# ---- settings --------------------------------------------------------------------------------------------------------


def test_it_begins_with_the_chats_cache_and_another() -> None:
    for cache in (EXACT, NONE, CacheConfig(window=64)):
        a, b = first_settings(cache)
        assert a.cache == cache
        assert b.cache != cache
        assert (a.quantization, b.quantization, a.adapter, b.adapter) == (None, None, True, True)


def test_a_named_cache_keeps_the_context(panel: ChatPanel) -> None:
    long = CacheConfig(capacity=1024, overflow="rolling", track_error=True)
    small = named("small", long)
    assert (small.capacity, small.overflow, small.track_error, small.window) == (1024, "rolling", True, 64)
    assert named("small", CacheConfig(capacity=32)).capacity is None, "too short for what that cache keeps exact"
    assert [name_of(c) for c in (long, small, named(OFF, small), CacheConfig(window=7))] == ["exact", "small", OFF, OTHER]
    assert named("small", named(OFF, small)) == small


def test_until_a_person_has_chosen_side_a_is_the_chat(panel: ChatPanel, services: Services) -> None:
    compare = services.actions["chat.compare"]
    compare.trigger()
    pair = panel.pair
    assert pair is not None
    assert pair.controller.settings["A"].cache == EXACT
    compare.trigger()
    services.runtime.set_use_cache(False)
    compare.trigger()
    assert pair.controller.settings["A"].cache == NONE
    assert pair.controller.settings["B"].cache != NONE
    choose(pair, "B", quantization=INT4)
    compare.trigger()
    services.runtime.set_use_cache(True)
    compare.trigger()
    assert pair.controller.settings["A"].cache == NONE
    assert pair.controller.settings["B"].quantization == INT4


def test_lists_and_forms_are_the_same_settings(panel: ChatPanel, pair: PairView, qtbot: QtBot) -> None:
    chooser = pair.choosers["B"]
    chooser.cache.setCurrentIndex(chooser.cache.findData(OFF))
    chooser.cache.activated.emit(chooser.cache.currentIndex())
    assert pair.controller.settings["B"].cache == NONE
    assert chooser.form.value == NONE
    assert not chooser.drawer.isVisible()
    chooser.cache.setCurrentIndex(chooser.cache.findData(OTHER))
    chooser.cache.activated.emit(chooser.cache.currentIndex())
    assert chooser.drawer.isVisible()
    assert pair.controller.settings["B"].cache == NONE, "nothing is changed by looking"
    wanted = replace(EXACT, window=48)
    chooser.form.set_value(wanted)
    chooser.form.changed.emit(wanted)
    assert pair.controller.settings["B"].cache == wanted
    assert chooser.cache.currentData() == OTHER
    chooser.weights.setCurrentIndex(chooser.weights.findData("int4"))
    chooser.weights.activated.emit(chooser.weights.currentIndex())
    assert pair.controller.settings["B"].quantization == INT4
    assert chooser.scheme.isVisible()
    assert pair.controller.settings["A"].quantization is None


def test_the_adapter_is_a_switch_where_there_is_one(panel: ChatPanel, pair: PairView, session: Session, monkeypatch: Any) -> None:
    chooser = pair.choosers["A"]
    assert not chooser.adapter.isVisible()
    monkeypatch.setattr(Session, "adapter", AdapterState("pirate", Path("x"), 1.0))
    panel._services.bus.adapter_changed.emit((session.adapter,))
    assert chooser.adapter.isVisible()
    chooser.adapter.click()
    assert [pair.controller.settings[side].adapter for side in ("A", "B")] == [False, True]


# ---- looks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [330, 470, 760])
def test_nothing_is_cut_off_in_a_narrow_panel(panel: ChatPanel, pair: PairView, qtbot: QtBot, width: int) -> None:
    panel.resize(width, 600)
    QApplication.processEvents()
    for view in pair.views.values():
        assert view.empty.width() <= view.viewport().width()
    say(panel, qtbot, "hi")
    panel.resize(width, 599)
    QApplication.processEvents()
    for view in pair.views.values():
        assert view.widget().width() <= view.viewport().width()
        assert all(m.width() <= view.viewport().width() for m in view.messages)


def test_everything_that_takes_the_focus_has_a_name(panel: ChatPanel, pair: PairView, qtbot: QtBot) -> None:
    choose(pair, "B", quantization=INT4)
    for chooser in pair.choosers.values():
        chooser.more.setChecked(True)
    say(panel, qtbot, "hi")
    nameless = []
    for widget in pair.findChildren(QWidget):
        if isinstance(widget, NAMED) and widget.focusPolicy() != Qt.FocusPolicy.NoFocus and not widget.objectName().startswith("qt_"):
            seen = QAccessible.queryAccessibleInterface(widget)
            if seen is None or not seen.text(QAccessible.Text.Name):
                nameless.append(f"{type(widget).__name__} {widget.objectName()}")
    assert nameless == []


def test_no_part_flashes_up_as_a_window_of_its_own(panel: ChatPanel, qtbot: QtBot) -> None:
    class Windows(QObject):
        seen: ClassVar[list[str]] = []

        def eventFilter(self, watched: QObject, event: QEvent) -> bool:
            if event.type() == QEvent.Type.Show and isinstance(watched, QWidget) and watched.isWindow():
                self.seen.append(type(watched).__name__)
            return False

    windows, app = Windows(), QApplication.instance()
    assert app is not None
    app.installEventFilter(windows)
    try:
        panel.header.compare_button.click()
        assert panel.pair is not None
        choose(panel.pair, "B", quantization=INT4)
        panel.pair.choosers["B"].more.click()
    finally:
        app.removeEventFilter(windows)
    assert windows.seen == []


def test_tab_goes_through_both_sides_and_round(panel: ChatPanel, pair: PairView, qtbot: QtBot) -> None:
    say(panel, qtbot, "hi")
    panel.composer.edit.setFocus()
    seen: list[Any] = []
    while (now := QApplication.focusWidget()) not in seen and len(seen) < 80:
        seen.append(now)
        qtbot.keyClick(now, Qt.Key.Key_Tab)
    assert now is seen[0], f"Tab ended in {now}"
    a, b = pair.choosers.values()
    wanted = [panel.header.compare_button, a.cache, a.weights, a.more, pair.views["A"], b.cache, b.weights, b.more, pair.views["B"]]
    places = [seen.index(widget) for widget in (*wanted, *pair.strip.keep.values())]
    assert places == sorted(places)


def test_the_place_of_a_token_in_its_text() -> None:
    assert place(["Hel", "lo", " you"], 2) == (5, 4)
    assert place(["Hel"], None) is None
    assert place(["Hel", "lo"], 2) == (5, 0), "past the end: the reply ends there"
    assert ENDS.strip().startswith(MARK)


def test_figures_in_words() -> None:
    assert texts(Figures(12.34, 1500.0, 2_000_000, cache_tokens=1000)) == ("12.3", "1.5 s", "2.0 MB", "2.0 kB")
    assert texts(Figures()) == ("–", "–", "–", "–")
    assert texts(Figures(cached=False))[2:] == ("off", "")
    long, short = Figures(cache_bytes=8000, cache_tokens=100), Figures(cache_bytes=1000, cache_tokens=50)
    assert ratios(long, short) == ("", "", "", "×0.25")
    assert (ratio_text(2.0, 5.0), ratio_text(None, 5.0), ratio_text(1, 25)) == ("×2.50", "", "×25")
    assert sameness(0, None, None) == ""
    assert sameness(1, None, None, running=True) == "Identical so far: 1 token"
    assert sameness(1200, None, 3.1e-5) == "Identical: 1,200 tokens; their log-probabilities differ by 3.1e−5 at most"
    assert "by 0.15 at most" in sameness(1200, None, 0.1512)
    assert sameness(12, None, 0.0).endswith("differ by 0 at most")
    assert sameness(30, 4, 0.2) == f"{MARK} First different token: no. 5, after 4 identical"
    assert sameness(30, 0, None) == f"{MARK} Different from the first token on"
