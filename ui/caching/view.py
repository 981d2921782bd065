"""The cache of the conversation: which one, what it holds, what it takes. Imports the engine's types."""

from __future__ import annotations

import time
from typing import Any, Final

from PySide6.QtCore import QTimer, Slot
from PySide6.QtGui import QHideEvent, QShowEvent
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from ui.caching.controller import CacheController
from ui.caching.memory import plain_nbytes
from ui.caching.memory_table import MemoryTable
from ui.caching.named import OTHER, caches, name_of, named
from ui.caching.slot_map import KEYS, VALUES, SlotMapView
from ui.caching.speed import SpeedExperiment
from ui.forms.form import ConfigForm
from ui.plots.activity import ActivityClock
from ui.plots.live_plot import LivePlot
from ui.services import Services
from ui.theme import MEDIUM, SMALL
from ui.widgets.combo import OptionCombo
from ui.widgets.labels import MutedLabel
from ui.widgets.message import Message
from ui.widgets.section import CollapsibleSection
from ui.widgets.segmented import SegmentedControl
from ui.widgets.text import Muted, wrapping
from workbench.caches import CacheConfig
from workbench.core.events import Event
from workbench.core.format import bytes_text
from workbench.core.metrics import CACHE_BYTES, PLOTS

LOOK_MS: Final = 400
RUN: Final = "session"
REFERENCES: Final = (("fp32", 4.0, 0.98), ("fp16", 2.0, 0.98), ("8 bits", 1.0, 0.98), ("4 bits", 0.5, 0.98), ("3 bits", 0.375, 0.5))
"""What the same tokens would take: label, bytes a number, where on the line its words stand."""
_NO_MODEL: Final = "Load a model and send a message: its keys and values are measured here."


class CacheView(QWidget):
    """Without a scroll area of its own: whoever shows it decides what scrolls."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self.controller = CacheController(services, self)
        self._activity = ActivityClock()
        self._drawn_tokens = -1
        self.preset = OptionCombo()
        self.applied = wrapping()
        self.message = Message(services.theme)
        self.form = ConfigForm(CacheConfig, services.runtime.cache, exclude=("use_cache",))
        self.settings = CollapsibleSection("All settings", expanded=False)
        self.figure = QLabel()
        self.told = Muted(_NO_MODEL)
        self.plot = LivePlot(
            PLOTS["cache"], [CACHE_BYTES], x_label="active time (min:s)", empty_text="Nothing cached yet –\nsend a message"
        )  # fmt: skip
        self.plot.start_run(RUN)
        self.slots = SlotMapView()
        self.what = SegmentedControl([(KEYS, "Keys", "What is held of the keys."), (VALUES, "Values", "What is held of the values.")])
        self.memory = MemoryTable()
        self.speed = SpeedExperiment(services)
        self._clock = QTimer(self, interval=LOOK_MS)
        self._clock.timeout.connect(self.look)
        self._build()
        self._connect()
        self._show_config(services.runtime.cache)

    def _build(self) -> None:
        self.preset.setAccessibleName("Cache")
        self.preset.setToolTip("How keys and values are kept. Acts on the running conversation at once.")
        self.preset.fill([(n.name, n.label, n.help) for n in caches()])
        self.preset.addItem("As set below", OTHER)
        self.settings.body_layout.addWidget(self.form)
        font = self.figure.font()
        font.setPointSizeF(font.pointSizeF() * 1.25)
        font.setWeight(font.Weight.DemiBold)
        self.figure.setFont(font)
        self.plot.setFixedHeight(220)
        self.what.set_group_name("What is shown")
        self.what.set_value(KEYS)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(MEDIUM)
        for part in (self.preset, self.settings, self.message, self.applied, self.figure, self.told, self.plot):
            layout.addWidget(part)
        self.no_model = MutedLabel("No model is loaded.")
        sections: tuple[tuple[str, tuple[QWidget, ...]], ...] = (
            ("What it holds", (self.what, self.slots)),
            ("Memory at a context of", (self.memory, self.no_model)),
            ("Speed with and without", (self.speed,)),
        )
        for title, parts in sections:
            section = CollapsibleSection(title)
            section.body_layout.setSpacing(SMALL)
            for part in parts:
                section.body_layout.addWidget(part)
            layout.addWidget(section)
        layout.addStretch(1)
        self.message.hide()
        self.applied.hide()

    def _connect(self) -> None:
        bus = self._services.bus
        self.preset.activated.connect(self._on_preset)
        self.form.changed.connect(self._on_form)
        self.what.chosen.connect(self._on_what)
        self.controller.changed.connect(self.refresh)
        self._services.runtime.changed.connect(self._show_config)
        bus.events.connect(self._on_events)
        bus.job_started.connect(self._on_job_started)
        bus.job_finished.connect(self._on_job_finished)
        bus.model_changed.connect(self._on_model)

    # ---- chosen ------------------------------------------------------------------------------------------------------

    @Slot(int)
    def _on_preset(self, _row: int) -> None:
        name = self.preset.currentData()
        if name == OTHER:
            self.settings.set_expanded(True)
            self._show_config(self._services.runtime.cache)
            return
        self._services.runtime.set_cache(named(name, self._services.runtime.cache))

    @Slot(object)
    def _on_form(self, config: CacheConfig) -> None:
        if not config.problems():
            self._services.runtime.set_cache(config)

    @Slot(object)
    def _show_config(self, config: CacheConfig) -> None:
        if self.form.value != config:
            self.form.set_value(config)
        self.preset.setCurrentIndex(self.preset.findData(name_of(config)))
        self.refresh()

    @Slot(object)
    def _on_what(self, _what: str) -> None:
        self.look()

    # ---- measured ----------------------------------------------------------------------------------------------------

    @Slot(object)
    def _on_events(self, events: list[Event]) -> None:
        found = [e for e in events if CACHE_BYTES.name in e.metrics and not getattr(e, "side", "")]
        if found:
            xs = [self._activity.place(event.at) for event in found]
            self.plot.extend(CACHE_BYTES.name, xs, [event.metrics[CACHE_BYTES.name] for event in found], RUN)

    @Slot(object)
    def _on_job_started(self, job: Any) -> None:
        self._activity.begin(getattr(job, "started_at", time.perf_counter()))

    @Slot(object)
    def _on_job_finished(self, _job: object) -> None:
        self._activity.end()
        self.look()

    @Slot(object)
    def _on_model(self, _summary: object) -> None:
        self.look()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._clock.start()
        self.look()

    def hideEvent(self, event: QHideEvent) -> None:
        self._clock.stop()
        super().hideEvent(event)

    @Slot()
    def look(self) -> None:
        """See what the cache holds now; nothing is drawn while nobody looks."""
        if not self.isVisible():
            return
        session = self._services.session
        report = self.controller.report
        tokens = 0 if report is None else report.tokens
        summary = None if session is None else session.model
        self.no_model.setVisible(summary is None)
        sizes = None if summary is None else summary.config
        self.memory.show_model(sizes, self._services.runtime.cache, None if summary is None else session.loaded.model.dtype)
        self.slots.show_slots(() if report is None or not tokens else report.layers, self.what.value)
        self._tell(report, sizes)
        if sizes is not None and tokens != self._drawn_tokens:
            self._drawn_tokens = tokens
            for label, width, at in REFERENCES:
                if tokens:
                    self.plot.add_reference(label, plain_nbytes(sizes, tokens, width), label, at=at)
                else:
                    self.plot.remove_reference(label)
        self.plot.refresh()

    def _tell(self, report: Any, sizes: Any) -> None:
        if report is None or not report.tokens or sizes is None:
            self.figure.setText("Nothing cached")
            self.told.setText(_NO_MODEL if sizes is None else "Send a message: its keys and values are measured here.")
            return
        whole = plain_nbytes(sizes, report.tokens, 4.0)
        self.figure.setText(f"{bytes_text(report.nbytes)} for {report.tokens:,} tokens")
        gone = f", {report.dropped:,} older ones dropped" if report.dropped else ""
        self.told.setText(
            f"Measured on the tensors: {report.float16_nbytes / report.nbytes:.2f} × smaller than fp16, {whole / report.nbytes:.2f} × "
            f"smaller than fp32{gone}. {bytes_text(report.allocated_nbytes)} are reserved for {report.capacity:,} tokens."
        )

    @Slot()
    def refresh(self) -> None:
        """Words about the last change, and about what keeps a setting from being used."""
        control = self.controller
        failure = control.failure
        self.message.setVisible(failure is not None)
        if failure is not None:
            self.message.say("error", failure.message, hint=failure.hint, details=failure.details)
        text = "Changing the cache…" if control.waiting and control.report is not None else control.words
        self.applied.setText(text)
        self.applied.setVisible(bool(text))
        self.look()
