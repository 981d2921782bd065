"""What panels are given: the engine's session once it is there, jobs, settings, messages, theme, the bus and the actions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from ui.runtime import RuntimeOptions
from workbench.core.errors import BusyError

if TYPE_CHECKING:
    from ui.actions import ActionRegistry
    from ui.jobs.runner import JobRunner
    from ui.notify import Notifier
    from ui.settings import Settings
    from ui.theme import Theme


class AppBus(QObject):
    """News that more than one panel cares about. Every payload is one Python object (a Qt int would overflow at 2**31)."""

    engine_ready = Signal(object)
    """Session: torch is imported, the engine can be used."""
    engine_failed = Signal(object)
    """JobFailure: the engine could not be imported."""
    model_changed = Signal(object)
    """ModelSummary | None, whenever a model was loaded, changed or unloaded."""
    adapter_changed = Signal(object)
    """tuple[AdapterState, ...] now in force."""
    events = Signal(object)
    """list[Event]: every batch of every job, for those who plot or log."""
    job_started = Signal(object)
    """Job, before its first event."""
    job_finished = Signal(object)
    """Job, when its thread has ended; its state is Done, Stopped or Failed."""
    use_adapter = Signal(object)
    """Path of an adapter that the chat should use."""
    open_model = Signal(object)
    """Path of a model folder or GGUF file a person dropped, opened, or named on the command line."""
    show_panel = Signal(object)
    """Name of a panel that should come to the front."""
    build_requested = Signal(object)
    """ModelConfig, or a preset's name, that a person wants to train from scratch; the page that builds models takes it over and
    comes to the front."""
    compare_requested = Signal(object)
    """tuple[str, ...]: architectures to be laid side by side: "draft", "loaded", or names of presets."""
    draft_changed = Signal(object)
    """(name, ModelConfig) of what the Model panel shows now, as often as it shows another."""
    edit_requested = Signal(object)
    """(name, ModelConfig) that a person wants as the Model panel's draft."""
    quality_requested = Signal()
    """A person wants to know what the settings in use do to the model's predictions."""
    heal_requested = Signal(object)
    """str: why the loaded model needs a fine-tune (what was converted); the Fine-tune panel sets itself up for it and comes up."""


@dataclass
class Services:
    """Handed to every panel's constructor; there are no globals."""

    bus: AppBus
    jobs: JobRunner
    settings: Settings
    notify: Notifier
    theme: Theme
    actions: ActionRegistry
    session: Any = None
    """workbench.session.Session; None until `bus.engine_ready`."""
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    """What acts on the next message; shared by the chat and the architecture panel."""
    models: Any = None
    """ui.models.ModelController: the one place that fetches, loads and unloads models."""

    @property
    def engine(self) -> Any:
        """The session; `BusyError` while the engine is still being imported."""
        if self.session is None:
            raise BusyError("The engine is still loading.", hint="This takes a few seconds after the start; try again then.")
        return self.session
