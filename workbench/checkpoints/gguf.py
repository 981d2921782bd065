"""The GGUF format: one file with metadata, tokenizer and quantized weights."""

from __future__ import annotations

from pathlib import Path

from workbench.checkpoints.families import GGUF_FAMILIES
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.formats import FORMATS, Format, Opened, Source
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
    def recognises(self, path: Path) -> bool:
        return layouts.LAYOUTS["gguf"](path)

    def open(self, path: Path) -> Opened:
        file = GGUFFile(path)
        try:
            return _open(path, file)
        except BaseException:
            file.close()
            raise


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
    settings = Settings(metadata, path.name, tensors=file.infos, prefix=f"{architecture}.")
    fields = family.read(settings)
    _check_frequencies(file)
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


def _check_frequencies(file: GGUFFile) -> None:
    """`rope_freqs` holds divisors of the rotary frequencies (Llama 3's scaling); all ones change nothing."""
    if "rope_freqs.weight" in file.infos and bool((file.rows("rope_freqs.weight", slice(None)) != 1).any()):
        raise ModelError(
            f"{file.file.path.name} scales its RoPE frequencies (rope_freqs.weight), which is not supported.",
            hint="Only models without RoPE scaling can be opened so far.",
        )

