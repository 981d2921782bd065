"""The GGUF format: one file with metadata, tokenizer and quantized weights."""

from __future__ import annotations

from pathlib import Path

from workbench.checkpoints.families import GGUF_FAMILIES
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.formats import FORMATS, Content, Format, Opened, Source, Writing, foreign
from workbench.checkpoints.gguf_export import TYPES, prepare_gguf
from workbench.checkpoints.gguf_file import GGUFFile
from workbench.core import layouts
from workbench.core.errors import FileError, ModelError
from workbench.tokenizers import chat_template_text, tokenizer_from_gguf


@FORMATS.register(
    "gguf",
    label="GGUF",
    source="github.com/ggml-org/ggml, docs/gguf.md",
    help="one .gguf file of llama.cpp, weights in any of its quantizations.",
)
class GGUFFormat(Format):
    can_save = True
    single_file = True
    suffix = ".gguf"
    types = tuple(TYPES)

    def recognises(self, path: Path) -> bool:
        return layouts.LAYOUTS["gguf"](path)

    def open(self, path: Path) -> Opened:
        file = GGUFFile(path)
        try:
            return _open(path, file)
        except BaseException:
            file.close()
            raise

    def prepare(self, content: Content, family: str | None) -> Writing:
        return prepare_gguf(content, family)


def _open(path: Path, file: GGUFFile) -> Opened:
    metadata = file.metadata
    parts = metadata.get("split.count", 1)
    if parts != 1:
        raise FileError(
            f"{path.name} is one of {parts} parts of a split model.",
            hint="Join them with llama.cpp's gguf-split --merge, then open the result.",
        )
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in GGUF_FAMILIES:
        raise ModelError(
            f"{path.name} is of the architecture {architecture!r}, which is not known.",
            hint=f"Known GGUF architectures: {', '.join(GGUF_FAMILIES.names())}.",
        )
    family = GGUF_FAMILIES[architecture].make()
    # Tensors that the table drops are settings, or nothing.
    extras = {name: file.rows(name, slice(None)) for name in file.infos if name in family.table and family.table[name] is None}
    settings = Settings(metadata, path.name, tensors=file.infos, prefix=f"{architecture}.", extras=extras)
    with foreign("configuration", path):
        fields = family.read(settings)
    nbytes = sum(info.nbytes for info in file.infos.values())
    return Opened(
        source=Source(path, "gguf", architecture, nbytes, path.stem),
        file=file,
        table=family.table,
        fields=fields,
        tied=None,
        prefix=family.prefix,
        read_tokenizer=lambda: tokenizer_from_gguf(metadata),
        chat_template=chat_template_text(metadata),
        notices=settings.notices,
    )
