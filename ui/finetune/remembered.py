"""What the fine-tune panel knew when it was last open: the settings of the run, and the files that were used. Qt-free."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ui.training import remembered
from ui.training.remembered import Sources, Stored
from workbench.adapters import LoraConfig
from workbench.data import DataConfig
from workbench.requests import FinetuneRequest
from workbench.training import TrainConfig

FILE: Final = "finetune.json"
_FULL: Final = "full"
_KIND, _VERSION = "workbench fine-tune settings", 1


@dataclass(frozen=True)
class Remembered:
    """The settings as left, and the sources used lately, newest first."""

    request: FinetuneRequest
    recent: tuple[Sources, ...] = ()

    def used(self, sources: Sources) -> Remembered:
        """With `sources` as the newest of the recent ones."""
        return replace(self, recent=remembered.used(self.recent, sources))


def load(path: Path) -> Remembered:
    """What `path` holds; settings of another age that no longer fit fall back to their default, one by one."""
    stored = remembered.load(path, _KIND, _VERSION, {"data": DataConfig(), "lora": LoraConfig(), "train": TrainConfig()})
    return Remembered(FinetuneRequest(**stored.parts, full=stored.extra.get(_FULL) is True), stored.recent)


def save(path: Path, settings: Remembered) -> None:
    """Write atomically. Raises `FileError`."""
    request = settings.request
    parts = {"data": request.data, "lora": request.lora, "train": request.train}
    remembered.save(path, _KIND, _VERSION, Stored(parts, settings.recent, {_FULL: request.full}))
