"""Errors that say what happened and what to do about it."""

from __future__ import annotations


class WorkbenchError(Exception):
    """Something a person can act on.

    `message` is one sentence naming the thing, the value found and the bound; `hint` is what to do next;
    `details` is the long story (a traceback, a list of keys) for those who ask.
    """

    def __init__(self, message: str, *, hint: str = "", details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(WorkbenchError):
    """Settings that contradict each other or leave their bounds."""


class FileError(WorkbenchError):
    """A file that is missing, truncated, of the wrong kind, or cannot be written."""


class DataError(WorkbenchError):
    """Training data that would teach nothing, or cannot be read."""


class ModelError(WorkbenchError):
    """Weights that do not fit the architecture, an unknown architecture, or numbers that are not finite."""


class OutOfMemoryError(ModelError):
    """A model that does not fit into memory."""


class DownloadError(WorkbenchError):
    """A download that was interrupted, refused, or does not match its checksum."""


class BusyError(WorkbenchError):
    """The model or a run folder is in use by another job."""
