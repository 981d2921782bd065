"""Searching the hub, downloads, and what the models on this machine are. Everything long is a background job; panels only ask."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal, Slot

from ui.jobs.runner import Job
from ui.jobs.worker import JobFailure
from ui.services import Services
from workbench.core.control import Control
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Progress
from workbench.hub import HubModel, HubPage
from workbench.library import Fit, Library, ModelEntry, fit_of_parameters, fit_of_size


@dataclass(frozen=True)
class Search:
    """`word` is "" (nothing asked yet), "Searching", "Done" or "Failed"; `message` and `hint` say why it failed."""

    text: str = ""
    word: str = ""
    results: tuple[HubModel, ...] = ()
    message: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Download:
    """One download. `word` is "Waiting", "Downloading", "Stopping", "Unfinished", "Failed" or "Done"; unfinished and failed ones
    go on where they ended."""

    spec: str
    word: str
    done: float = 0
    total: float | None = None
    bytes_per_second: float | None = None
    eta_seconds: float | None = None
    message: str = ""
    hint: str = ""
    path: Path | None = None

    @property
    def running(self) -> bool:
        return self.word in ("Waiting", "Downloading", "Stopping")


@dataclass(frozen=True)
class Look:
    """What a repository offers: `page` once it is known, else why not; neither while the hub is being asked."""

    page: HubPage | None = None
    message: str = ""
    hint: str = ""


class HubController(QObject):
    """One search at a time, any number of downloads."""

    search_changed = Signal(object)
    """Search."""
    downloads_changed = Signal(object)
    """Download that is another one now, or None: several."""
    looked = Signal(object)
    """Id of the repository whose `looks` entry changed."""
    appraised = Signal()
    """More is known about the models on this machine."""
    arrived = Signal()
    """Another model is on this machine."""

    def __init__(self, services: Services, library: Library, parent: QObject) -> None:
        super().__init__(parent)
        self._services = services
        self._library = library
        self.search = Search()
        self.watched = False
        """Somebody looks at the downloads, so that a failure needs no other message."""
        self.downloads: dict[str, Download] = {}
        self.looks: dict[str, Look] = {}
        self.appraisals: dict[Path, Any] = {}
        self._search_job: Job | None = None
        self._appraisal_job: Job | None = None
        self._jobs: dict[str, Job] = {}

    # ---- searching -----------------------------------------------------------------------------------------------

    def find(self, text: str) -> None:
        """Ask the hub for models with `text` in their name; an earlier search that still runs is given up."""
        self.stop_search()
        text = text.strip()
        if not text:
            self._set_search(Search())
            return
        ready = self._services.session is not None
        job = self._start(f"Searching for “{text}”", partial(_search, self._library, text, ready), self._on_found, self._on_not_found)
        if job is not None:
            self._search_job = job
            self._set_search(Search(text, "Searching"))

    def stop_search(self) -> None:
        """Give the running search up."""
        if self._search_job is not None:
            self._search_job.stop(save=False)
            self._search_job = None
            self._set_search(Search())

    def _on_found(self, job: Job, results: Any) -> None:
        if job is self._search_job:
            self._search_job = None
            self._set_search(replace(self.search, word="Done", results=results))

    def _on_not_found(self, job: Job, failure: JobFailure) -> bool:
        if job is self._search_job:
            self._search_job = None
            self._set_search(replace(self.search, word="Failed", message=failure.message, hint=failure.hint))
        return failure.expected  # said beside the search field

    def _set_search(self, search: Search) -> None:
        self.search = search
        self.search_changed.emit(search)

    def look(self, repo: str) -> None:
        """Ask what files `repo` offers."""
        self.looks[repo] = Look()
        self.looked.emit(repo)
        self._start(
            f"Looking at {repo}",
            partial(self._library.look, repo),
            lambda _job, page: self._on_looked(repo, Look(page)),
            lambda _job, failure: self._on_looked(repo, Look(message=failure.message, hint=failure.hint)) or failure.expected,
        )

    def _on_looked(self, repo: str, look: Look) -> None:
        self.looks[repo] = look
        self.looked.emit(repo)

    # ---- downloads -----------------------------------------------------------------------------------------------

    def read_unfinished(self) -> None:
        """What earlier sessions left half done."""
        for left in self._library.unfinished():
            if not (left.spec in self.downloads and self.downloads[left.spec].running):
                self.downloads[left.spec] = Download(left.spec, "Unfinished", left.done, left.total)
        self.downloads_changed.emit(None)

    def download(self, spec: str) -> None:
        """Start a download, or go on with one. Inside one repository they come one after the other."""
        if spec in self._jobs:
            return
        before = self.downloads.get(spec)
        if any(_repo(other) == _repo(spec) for other in self._jobs):
            self._set_download(Download(spec, "Waiting", before.done if before else 0, before.total if before else None))
            return
        job = self._start(
            f"Downloading {spec}",
            partial(self._library.fetch, spec),
            lambda _job, path: self._on_arrived(spec, path),
            lambda job, failure: self._on_download_failed(spec, job, failure),
            lambda events: self._on_events(spec, events),
        )
        if job is not None:
            self._jobs[spec] = job
            self._set_download(Download(spec, "Downloading", before.done if before else 0, before.total if before else None))

    def stop(self, spec: str) -> None:
        """Stop a download; what has arrived is kept."""
        if spec in self._jobs:
            self._jobs[spec].stop(save=True)
            self._set_download(replace(self.downloads[spec], word="Stopping"))
        elif spec in self.downloads:
            self._set_download(replace(self.downloads[spec], word="Unfinished"))

    def discard(self, spec: str) -> None:
        """Forget an unfinished download and what it has brought."""
        try:
            self._library.discard(spec)
        except (WorkbenchError, OSError) as error:
            self._services.notify.exception(error, source="hub")
            return
        self.downloads.pop(spec, None)
        self.downloads_changed.emit(None)

    def of_repo(self, repo: str) -> list[Download]:
        """Downloads from one repository."""
        return [d for d in self.downloads.values() if _repo(d.spec) == repo]

    def _start_waiting(self) -> None:
        for waiting in [d.spec for d in self.downloads.values() if d.word == "Waiting"]:
            self.download(waiting)

    def _on_events(self, spec: str, events: list[Event]) -> None:
        newest = next((e for e in reversed(events) if isinstance(e, Progress)), None)
        if newest is not None and self.downloads[spec].running:
            self._set_download(
                replace(
                    self.downloads[spec], done=newest.done, total=newest.total or self.downloads[spec].total, message=newest.message,
                    bytes_per_second=getattr(newest, "bytes_per_second", None), eta_seconds=getattr(newest, "eta_seconds", None),
                )
            )  # fmt: skip

    def _on_arrived(self, spec: str, path: Path) -> None:
        self._jobs.pop(spec, None)
        self._set_download(Download(spec, "Done", path=path))
        if not self.watched:
            self._services.notify.info(f"{spec} is on this machine.", "Load it in Models, or choose it in the list of models.")
        self.arrived.emit()
        self._start_waiting()

    def _on_download_failed(self, spec: str, job: Job, failure: JobFailure) -> bool:
        self._jobs.pop(spec, None)
        before = self.downloads[spec]
        stopped = job.control.stopping and failure.expected
        word, message, hint = ("Unfinished", "", "") if stopped else ("Failed", failure.message, failure.hint)
        left = next((u for u in self._library.unfinished() if u.spec == spec), None)  # more than the last event told
        done, total = (left.done, left.total) if left is not None else (0, before.total)
        self._set_download(Download(spec, word, done, total, message=message, hint=hint))
        self._start_waiting()
        return stopped or (self.watched and failure.expected)

    def _set_download(self, download: Download) -> None:
        self.downloads[download.spec] = download
        self.downloads_changed.emit(download)

    # ---- what is here --------------------------------------------------------------------------------------------

    def appraise(self, entries: list[ModelEntry]) -> None:
        """Have the models looked at that are not known yet; needs the engine."""
        unknown = [e.path for e in entries if e.path not in self.appraisals]
        if unknown and self._appraisal_job is None and self._services.session is not None:
            self._appraisal_job = self._start("Looking at the models", partial(_appraise, unknown), self._on_appraised, self._on_unknown)

    def _on_appraised(self, job: Job, found: dict[Path, Any]) -> None:
        self._appraisal_job = None
        self.appraisals.update(found)
        self.appraised.emit()

    def _on_unknown(self, job: Job, failure: JobFailure) -> bool:
        self._appraisal_job = None
        return False

    def fit(self, entry: ModelEntry, dtype: str) -> Fit:
        """Whether a model of this machine fits into free memory: from its header when that is known, else from its size."""
        known = self.appraisals.get(entry.path)
        if known is None or known.problem:
            return fit_of_size(entry.path.name, entry.bytes, dtype, self.free())
        return fit_of_parameters(known.parameters, dtype, known.kv_values_per_token, known.context, self.free())

    def fit_of_result(self, model: HubModel, dtype: str) -> Fit | None:
        """The same for a model on the hub; None when the hub does not say how large it is."""
        return fit_of_parameters(model.parameters, dtype, free=self.free()) if model.parameters else None

    def free(self) -> float | None:
        """Bytes free on the device that models are loaded to; None: this computer's memory."""
        device = getattr(getattr(self._services.session, "compute", None), "device", None)
        if getattr(device, "type", "cpu") != "cuda":
            return None
        from workbench.appraisal import free_memory

        return free_memory(device)

    # ---- jobs ----------------------------------------------------------------------------------------------------

    def _start(self, title: str, make: Any, done: Any, failed: Any, on_events: Any = None) -> Job | None:
        job: Job | None = None
        try:
            job = self._services.jobs.start(
                title, make, "background", on_events=on_events, on_done=lambda result: done(job, result),
                on_failed=lambda failure: failed(job, failure),
            )  # fmt: skip
        except WorkbenchError as error:  # the window is closing
            self._services.notify.exception(error, source="hub")
        return job

    @Slot()
    def forget_gone(self) -> None:
        """Appraisals of models that are no longer there."""
        self.appraisals = {path: known for path, known in self.appraisals.items() if path.exists()}


def _repo(spec: str) -> str:
    return spec.partition(":")[0]


def _search(library: Library, text: str, engine_ready: bool, control: Control) -> Generator[Event, None, tuple[HubModel, ...]]:
    found = yield from library.search(text, control)
    if not engine_ready:
        return found
    from workbench.appraisal import known_architecture  # torch is there by now

    return tuple(_judged(model, known_architecture) for model in found)


def _judged(model: HubModel, known: Any) -> HubModel:
    unknown = "" if model.problem else model.unknown(known)
    return replace(model, problem=f"its architecture {unknown} is not known here") if unknown else model


def _appraise(paths: list[Path], control: Control) -> Generator[Event, None, dict[Path, Any]]:
    from workbench.appraisal import appraise_all

    return (yield from appraise_all(paths, control))
