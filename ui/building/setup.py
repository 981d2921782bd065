"""The settings of a run from scratch as one request: remembered, looked at in the background, locked while a run uses it.

Imports the engine's settings, so this module is imported once the engine is there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import psutil
from PySide6.QtCore import QCoreApplication, QMimeData, QTimer, Signal, Slot
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from ui.building import remembered
from ui.building.architecture_part import ArchitecturePart
from ui.building.length_part import LengthPart
from ui.building.report_view import ReportView
from ui.building.tokenizer_part import TokenizerPart
from ui.building.variant_part import VariantPart
from ui.building.words import memory_problem, speed_of, step_seconds, tokenizer_words
from ui.services import Services
from ui.training.check import Check
from ui.training.data_part import DataPicker, dropped_data, label_of
from ui.training.step import StepSection
from ui.widgets.columns import Columns
from workbench.core.errors import WorkbenchError
from workbench.core.fields import Problem, describe
from workbench.data import DataConfig
from workbench.model import PRESETS, ModelConfig, account
from workbench.requests import PairRequest, PretrainRequest
from workbench.tokenizers.config import TokenizerConfig
from workbench.training import PretrainConfig

SAVE_AFTER_MS: Final = 800
priced: Final = lru_cache(maxsize=16)(account)
"""`account`, asked again and again for the few architectures that are shown."""
BYTE_VOCABULARY: Final = 259
"""Of the byte tokenizer, until the look at the data says it."""


@dataclass(frozen=True)
class Wanted:
    """What a look at the data depends on. Not the numbers of the run: they change nothing of what is read."""

    data: DataConfig
    tokenizer: TokenizerConfig
    causal: bool
    length: int
    context: int
    seed: int


def look(session: Any, wanted: tuple[Wanted, PretrainRequest], control: Any) -> Any:
    """Generator of events; returns a `PretrainCheck`."""
    return (yield from session.preflight_pretrain(wanted[1], control))


class Setup(QWidget):
    """Five numbered parts in one or two columns. `changed` comes when the request, or what is known about it, is another."""

    changed = Signal()

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self.path: Path = services.models.library.home / remembered.FILE
        self._remembered = remembered.load(self.path)
        request = self._remembered.request
        theme = services.theme
        self.architecture = ArchitecturePart(theme)
        self.variant = VariantPart(theme)
        self.picker = DataPicker(theme)
        self.report = ReportView(theme)
        self.tokenizer = TokenizerPart(theme, request.tokenizer, self._models)
        self.length = LengthPart(request.train, request.data)
        self.check = Check(services, look, self)
        self._looked_at: Wanted | None = None
        self.steps = {
            "architecture": StepSection(1, "Architecture"),
            "data": StepSection(2, "Data"),
            "tokenizer": StepSection(3, "Tokenizer"),
            "length": StepSection(4, "Length and numbers"),
            "variant": StepSection(5, "Variant"),
        }
        self._build()
        self.architecture.show_config(self._remembered.preset, request.model)
        self.variant.set_base(self.model)
        self.variant.set_value(self._remembered.compare, self._remembered.changes)
        self.picker.show_sources(request.data.sources, self._remembered.recent)
        self._connect()
        self._show()

    def _build(self) -> None:
        parts: tuple[tuple[str, tuple[QWidget, ...]], ...] = (
            ("architecture", (self.architecture,)),
            ("data", (self.picker, self.report)),
            ("tokenizer", (self.tokenizer,)),
            ("length", (self.length,)),
            ("variant", (self.variant,)),
        )
        for name, widgets in parts:
            for widget in widgets:
                self.steps[name].body_layout.addWidget(widget)
        self.columns = Columns(spacing=20)
        for name in ("architecture", "data", "tokenizer"):
            self.columns.left.addWidget(self.steps[name])
        for name in ("length", "variant"):
            self.columns.right.addWidget(self.steps[name])
        self.columns.left.addStretch(1)
        self.columns.right.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.columns)

    def _connect(self) -> None:
        self._save_soon = QTimer(self, singleShot=True, interval=SAVE_AFTER_MS)
        self._save_soon.timeout.connect(self.remember)
        for part in (self.architecture, self.tokenizer, self.length, self.variant):
            part.changed.connect(self._on_changed)
        self.picker.chosen.connect(self._on_chosen)
        self.report.again.connect(self.check.again)
        self.check.changed.connect(self._show)
        self._services.models.models_changed.connect(self._on_models)
        app = QCoreApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self._save_if_waiting)

    def _models(self) -> list[tuple[str, str]]:
        """(name or path, label) of the models on this machine."""
        return [(str(e.path), Path(e.name).name) for e in self._services.models.entries()]

    # ---- the request ---------------------------------------------------------------------------------------------

    @property
    def vocabulary(self) -> int:
        """Tokens of the tokenizer, as found in the data, or as asked while that is not known."""
        if self.check.found is not None:
            return int(self.check.found.vocabulary)
        asked = self.tokenizer.value
        return {"bytes": BYTE_VOCABULARY, "bpe": asked.vocab_size}.get(asked.kind, self.architecture.config.vocab_size)

    @property
    def model(self) -> ModelConfig:
        """A, with the tokenizer's vocabulary."""
        return replace(self.architecture.config, vocab_size=self.vocabulary)

    @property
    def pair(self) -> bool:
        return self.variant.on

    def request(self) -> PretrainRequest:
        """What a start would ask for (of a pair: A)."""
        return PretrainRequest(
            model=self.model, data=self.length.data(self.picker.sources), tokenizer=self.tokenizer.value, train=self.length.train
        )

    def pair_request(self) -> PairRequest:
        """A and B."""
        a = self.request()
        return PairRequest(a=a, b=replace(a, model=self.variant.config))

    def fresh_request(self) -> PretrainRequest | PairRequest:
        """What a start asks for: one run or a pair, in a folder of its own that says what is built."""
        label = self.architecture.preset or "own"
        folder = self._services.engine.run_folder(f"{label}-pair" if self.pair else label)
        return replace(self.pair_request() if self.pair else self.request(), out=folder)

    def problem(self) -> tuple[str, str]:
        """(words for the button, the reason) of what is wrong with it; two empty texts when nothing is."""
        if not self.picker.sources:
            return "Choose a text", "Pick one under Data, or drop files onto this page."
        tokenizer = self.tokenizer.problems
        if tokenizer:
            return "Choose a tokenizer", str(tokenizer[0])
        found = self.length.problems or self.model.problems()
        if found:
            return f"Correct “{_label(found[0])}”", str(found[0])
        if large := self._too_large():
            return "Too large for this computer", large
        variant = self.variant.problem()
        if variant != ("", ""):
            return variant
        if self.check.failure is not None:
            return "The data cannot be used", f"{self.check.failure.message} {self.check.failure.hint}".strip()
        if self.check.word != "checked":
            return "Reading the data…", "A run starts when it is known what would be learnt."
        return "", ""

    def _too_large(self) -> str:
        """Why this computer's free memory does not hold the run; empty when it does."""
        dearest, b = priced(self.model), self.variant.config
        if self.pair and not b.problems():
            dearest = max(dearest, priced(b), key=lambda x: x.parameters)
        return memory_problem(dearest, 2 if self.pair else 1, float(psutil.virtual_memory().available))

    def facts(self) -> str:
        """The request in a line, for the page that shows the run."""
        tokenizer = tokenizer_words(self.tokenizer.value, self.vocabulary)
        return f"{priced(self.model).parameters:,} parameters · {tokenizer} · {label_of(self.picker.sources)}"

    def take_speed(self, tokens_per_second: float) -> None:
        """How fast a run of this architecture was: later estimates follow from it."""
        speed = speed_of(priced(self.model), self.length.train, tokens_per_second)
        self._remembered = replace(self._remembered, flops_per_second=speed)
        self.remember()
        self._show()

    # ---- from elsewhere ------------------------------------------------------------------------------------------

    def take_config(self, config: ModelConfig) -> None:
        """Build what was toggled in the Model panel."""
        self.architecture.take("", config)

    def take_preset(self, name: str) -> None:
        """Build a named architecture on the text that every machine has."""
        if not self.picker.sources:
            fresh = remembered.first_request()
            self.picker.show_sources(fresh.data.sources, self._remembered.recent)
        self.architecture.take(name, PRESETS[name].config)

    def dropped(self, mime: QMimeData) -> list[str]:
        """The data files of a drag; empty when it is something else."""
        return dropped_data(mime)

    def set_locked(self, locked: bool) -> None:
        """While a run uses the settings they cannot be changed."""
        for widget in (self.architecture, self.picker):
            widget.setEnabled(not locked)
        for part in (self.tokenizer, self.length, self.variant):
            part.set_locked(locked)

    # ---- changes -------------------------------------------------------------------------------------------------

    @Slot(object)
    def _on_chosen(self, sources: tuple[str, ...]) -> None:
        self._remembered = self._remembered.used(sources)
        self.picker.show_sources(sources, self._remembered.recent)
        self._on_changed()

    @Slot()
    def _on_changed(self) -> None:
        self._save_soon.start()
        self._recheck()
        self._show()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._recheck()

    @Slot()
    def _on_models(self) -> None:
        self.tokenizer.set_value(self.tokenizer.value)

    def _recheck(self) -> None:
        """A new look where the old one no longer holds; none while a setting is unusable, or nobody sees the page: reading and
        learning a tokenizer takes seconds of the machine."""
        if not self.isVisible():
            return
        request, config = self.request(), self.architecture.config
        usable = bool(request.data.sources) and not self.tokenizer.problems and not self.length.problems and not config.problems()
        wanted = Wanted(request.data, request.tokenizer, config.causal, request.train.max_length, config.max_positions, request.train.seed)
        if not usable:
            self._looked_at = None
            self.check.want(None)
        elif wanted != self._looked_at:
            self._looked_at = wanted
            self.check.want((wanted, replace(request, model=config)))

    @Slot()
    def _show(self) -> None:
        model = self.model
        self.variant.set_base(model)
        accounting = None if model.problems() else priced(model)
        train = self.length.train
        speed = self._remembered.flops_per_second
        seconds = None if accounting is None or self.length.problems else step_seconds(accounting, train, speed)
        runs = 2 if self.pair else 1
        large = "" if accounting is None else self._too_large()
        self.architecture.show_costs(accounting, None if seconds is None else seconds * runs, runs, large)
        found = self.check.found
        self.length.show_length(found.windows * found.length if found is not None else 0, None if seconds is None else seconds * runs)
        self.report.follow(self.check)
        self._show_states(accounting is not None and not large)
        self.changed.emit()

    def _show_states(self, trainable: bool) -> None:
        check, steps = self.check, self.steps
        steps["architecture"].set_state("done" if trainable else "problem", "")
        if check.word == "checking":
            steps["data"].set_state("busy", "reading…")
        else:
            steps["data"].set_state("problem" if check.failure is not None else "done" if check.word == "checked" else "open", "")
        steps["tokenizer"].set_state("problem" if self.tokenizer.problems else "done", "")
        wrong = len(self.length.problems)
        steps["length"].set_state("problem" if wrong else "done", f"{wrong} problem{'s' if wrong > 1 else ''}" if wrong else "")
        variant = self.variant.problem()
        words = "optional" if not self.pair else ""
        steps["variant"].set_state("problem" if variant[0] else "done" if self.pair else "open", variant[0] or words)

    # ---- memory --------------------------------------------------------------------------------------------------

    @Slot()
    def remember(self) -> None:
        """Write the settings, if they are usable, so that the next start shows them again."""
        self._save_soon.stop()
        if self.length.problems or self.tokenizer.problems or self.model.problems() or self.variant.problems:
            return
        self._remembered = replace(
            self._remembered, request=replace(self.request(), model=self.architecture.config), preset=self.architecture.preset,
            compare=self.pair, changes=self.variant.changes,
        )  # fmt: skip
        try:
            remembered.save(self.path, self._remembered)
        except WorkbenchError as error:
            self._services.notify.exception(error, source="build")

    @Slot()
    def _save_if_waiting(self) -> None:
        if self._save_soon.isActive():
            self.remember()


def _label(problem: Problem) -> str:
    """What the field of a problem is called on screen."""
    labels = {i.name: i.label for t in (ModelConfig, PretrainConfig, DataConfig) for i in describe(t)}
    return labels.get(problem.field.partition(".")[0], problem.field)
