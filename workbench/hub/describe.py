"""What a repository on the hub holds, and what of it can be opened here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from workbench.core.errors import DownloadError
from workbench.core.layouts import HF_CONFIG, INDEX, PICKLES, TOKENIZER_FILES, WEIGHTS

LARGEST_FILE = 50_000_000_000
"""Bytes; the hub gives larger files only through its Xet protocol, not through plain HTTP."""
_BITS = {"F64": 64, "I64": 64, "F32": 32, "I32": 32, "F16": 16, "BF16": 16, "I16": 16}
_NAME = re.compile(r"\w[\w.+\-]*(?: [\w.+\-()]+)*")
_PATH = re.compile(r"[^\\:\x00-\x1f]+")
"""No backslash and no colon, which lead elsewhere on Windows, and no control character."""
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_SPLIT_GGUF = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_NO_MODEL = ("adapter", "consolidated", "mmproj")
"""Beginnings of weight files that are no model of their own, or a second copy of one."""


@dataclass(frozen=True)
class HubFile:
    """A file of a repository. `digest` is "sha256:…" (large files), "git:…" (the blob's id), or "" when the hub gives none.
    `twin`: another file that is offered has the same name in another folder."""

    name: str
    size: int
    digest: str
    twin: bool = False

    @property
    def base(self) -> str:
        """Its name here: without the repository's folders, or with them in one word where it would be another file's too."""
        return self.name.replace("/", "--") if self.twin else PurePosixPath(self.name).name


@dataclass(frozen=True)
class HubModel:
    """A search result. `parameters` and `weight_bytes` as the hub counts them (None: it does not say); `formats` are those
    of `safetensors` and `gguf` that are there, of which the first is what the id alone fetches; `architecture` is that one's
    and `gguf_architecture` what the hub read in a GGUF file ("": it does not say); `problem` says why
    nothing of it can be opened, "" when something can."""

    id: str
    downloads: int
    likes: int
    updated: str
    architecture: str
    parameters: int | None
    weight_bytes: int | None
    formats: tuple[str, ...]
    ggufs: tuple[str, ...]
    gated: bool
    problem: str = ""
    gguf_architecture: str = ""

    def unknown(self, known: Callable[..., bool], gguf: bool = False) -> str:
        """The architecture of what would be fetched (a `gguf` file, or what the id alone fetches) when `known(name, gguf=…)`
        denies it; "" otherwise."""
        gguf = gguf or "safetensors" not in self.formats
        name = self.gguf_architecture if gguf else self.architecture
        return name if name and not known(name, gguf=gguf) else ""


@dataclass(frozen=True)
class Offer:
    """One thing that can be downloaded: the folder with safetensors, or one GGUF file. `spec` is what `fetch` takes."""

    spec: str
    label: str
    format: str
    files: tuple[HubFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class HubPage:
    """A repository at one commit and what it offers."""

    model: HubModel
    commit: str
    offers: tuple[Offer, ...]

    def choose(self, file: str) -> Offer:
        """The offer of that file name ("": the one with safetensors). Raises `DownloadError` that says what there is."""
        id = self.model.id
        if file:
            ggufs = {offer.files[0].name: offer for offer in self.offers if offer.format == "gguf"}
            if file in ggufs:
                return ggufs[file]
            named = [offer for name, offer in ggufs.items() if PurePosixPath(name).name == file]
            if len(named) == 1:
                return named[0]
            if named:
                raise DownloadError(f"{id} holds {len(named)} files {file!r}.", hint=f"Say which one: {', '.join(o.spec for o in named)}.")
            raise DownloadError(
                f"{id} has no file {file!r} that can be opened.",
                hint=f"It offers: {', '.join(o.spec for o in self.offers) or 'nothing'}.",
            )
        whole = next((o for o in self.offers if o.format == "hf"), None)
        if whole is not None:
            return whole
        if len(self.offers) == 1:
            return self.offers[0]
        if self.offers:
            shown = ", ".join(o.spec for o in self.offers[:6])
            raise DownloadError(f"{id} holds {len(self.offers)} GGUF files.", hint=f"Say which one: {shown}.")
        raise DownloadError(
            f"{id} cannot be opened: {self.model.problem}.", hint="Look for another copy of the model, such as a GGUF of it."
        )


def parse_spec(spec: str) -> tuple[str, str]:
    """("owner/repo", "file.gguf" or "") of `owner/repo[:file.gguf]`. Raises `DownloadError` for anything else."""
    repo, _, file = spec.partition(":")
    parts = repo.split("/")
    good = len(parts) == 2 and all(re.fullmatch(r"[A-Za-z0-9](?:[\w.\-]*[A-Za-z0-9])?", p) for p in parts)
    if not good or "--" in repo or ".." in spec or (file and not file.lower().endswith(".gguf")):
        raise DownloadError(
            f"{spec!r} does not name a model on the hub.", hint="Write owner/repo, or owner/repo:file.gguf for one GGUF file of it."
        )
    return repo, file


def describe(info: Any) -> HubModel:
    """A search result of `huggingface_hub.ModelInfo`, whose fields may all be missing. Raises `TypeError`, `ValueError` or
    `AttributeError` for one that is of another kind than the hub's."""
    names = _names(info)
    config: Mapping[str, Any] = info.config if isinstance(info.config, dict) else {}
    gguf: Mapping[str, Any] = info.gguf if isinstance(info.gguf, dict) else {}
    tensors = info.safetensors
    ggufs = tuple(n for n in names if is_gguf_model(n))
    formats = (["safetensors"] if _weights(names) else []) + (["gguf"] if ggufs else [])
    parameters = tensors.total if tensors else gguf.get("total")
    stored = sum(_count(n) * _BITS.get(kind, 8) // 8 for kind, n in tensors.parameters.items()) if tensors else None
    theirs, inside = _text(config.get("model_type")), _text(gguf.get("architecture"))
    return HubModel(
        id=_text(info.id),
        downloads=_count(info.downloads),
        likes=_count(info.likes),
        updated=info.last_modified.date().isoformat() if info.last_modified else "",
        architecture=theirs if "safetensors" in formats else inside or theirs,
        parameters=parameters if isinstance(parameters, int) else None,
        weight_bytes=stored,
        formats=tuple(formats),
        ggufs=ggufs,
        gated=bool(info.gated),
        problem=_problem(names, config, ggufs),
        gguf_architecture=inside,
    )


def _names(info: Any) -> list[str]:
    """The files of a repository by names that lie below it on every system; others are as if they were not there."""
    names = [s.rfilename for s in info.siblings or ()]
    return [n for n in names if _PATH.fullmatch(n) and not {"", ".", ".."} & set(n.split("/"))]


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value or ""


def _count(value: Any) -> int:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise TypeError(f"{value!r} is no count")
    return value or 0


def is_gguf_model(name: str) -> bool:
    """Whether a file of a repository is one whole GGUF model."""
    base = PurePosixPath(name).name
    return (
        base.lower().endswith(".gguf")
        and not _SPLIT_GGUF.search(base)
        and not base.lower().startswith(_NO_MODEL)
        and _NAME.fullmatch(base) is not None
    )


def page_of(info: Any) -> HubPage:
    """A repository as `huggingface_hub.ModelInfo` with sizes and digests describes it."""
    model = describe(info)
    usable = set(_names(info))
    bases = Counter(PurePosixPath(name).name for name in model.ggufs)
    files = {
        name: HubFile(name, _count(s.size), _digest(s), name in model.ggufs and bases[PurePosixPath(name).name] > 1)
        for s in info.siblings or ()
        if (name := s.rfilename) in usable
    }
    offers = []
    weights = _weights(files)
    if weights and not _quantized(info.config):
        wanted = [*weights, *(n for n in (HF_CONFIG, *TOKENIZER_FILES) if n in files)]
        offers.append(Offer(model.id, "safetensors", "hf", tuple(files[n] for n in wanted)))
    for name in model.ggufs:
        offers.append(Offer(f"{model.id}:{name}", PurePosixPath(name).name, "gguf", (files[name],)))
    return HubPage(model, _text(info.sha) or "main", tuple(offers))


def _digest(sibling: Any) -> str:
    if sibling.lfs is not None and sibling.lfs.sha256:
        return f"sha256:{_text(sibling.lfs.sha256)}"
    return f"git:{_text(sibling.blob_id)}" if sibling.blob_id else ""


def _weights(names: Iterable[str]) -> list[str]:
    """The weight files of the Hugging Face folder among these; [] when they are no model that can be opened."""
    known = list(names)
    if HF_CONFIG not in known:
        return []
    if WEIGHTS in known:
        return [WEIGHTS]
    if INDEX in known:
        return [INDEX, *sorted(n for n in known if _SHARD.fullmatch(n))]
    plain = [n for n in known if n.endswith(".safetensors") and _NAME.fullmatch(n) and not n.startswith(_NO_MODEL)]
    return plain if len(plain) == 1 else []


def _quantized(config: Any) -> str:
    """The method a Hugging Face folder's weights are quantized with, "" when they are not."""
    found = config.get("quantization_config") if isinstance(config, dict) else None
    return str(found.get("quant_method") or "unknown") if isinstance(found, dict) else ""


def _problem(names: list[str], config: Mapping[str, Any], ggufs: tuple[str, ...]) -> str:
    if ggufs:
        return ""
    if _weights(names):
        method = _quantized(config)
        return f"its weights are quantized by {method}, which cannot be decoded" if method else ""
    if "adapter_config.json" in names:
        return "it holds an adapter, not a model"
    pickles = [n for n in names if Path(n).suffix in PICKLES]
    if pickles:
        return f"its weights are only there as a Python pickle ({pickles[0]}), which can run any code when it is read"
    if any(_SPLIT_GGUF.search(n) for n in names):
        return "its GGUF is split into parts"
    if any(n.endswith(".safetensors") for n in names):
        return f"its safetensors come without {HF_CONFIG}" if HF_CONFIG not in names else "its safetensors are no single model"
    return "it has neither safetensors nor a GGUF file"
