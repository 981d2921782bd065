"""What a loaded model is and has, in words and numbers for people."""

from __future__ import annotations

from pathlib import Path

from workbench.checkpoints import Loaded
from workbench.core.errors import FileError, WorkbenchError
from workbench.devices import Compute
from workbench.library import model_label
from workbench.model import account
from workbench.quantization import report
from workbench.requests import ModelSummary
from workbench.tokenizers import ChatTemplate, Tokenizer
from workbench.tokenizers import chat_template as usable_template


def _name(loaded: Loaded, path: Path, asked: str | Path) -> str:
    if isinstance(asked, str) and not Path(asked).exists():
        return asked
    label = model_label(path)
    return loaded.source.name if label == path.name else label


def summarize(loaded: Loaded, path: Path, asked: str | Path, compute: Compute, template: ChatTemplate | None) -> ModelSummary:
    """What a person is told about a model that was loaded."""
    model = loaded.model
    return ModelSummary(
        name=_name(loaded, path, asked),
        path=path,
        format=loaded.source.format,
        family=loaded.source.family,
        config=loaded.config,
        parameters=account(loaded.config).parameters,
        parameter_bytes=sum(p.nbytes for p in model.parameters()),
        dtype=str(model.dtype).removeprefix("torch."),
        prefill_dtype=None if compute.prefill_dtype is None else str(compute.prefill_dtype).removeprefix("torch."),
        device=str(model.device),
        chat=template is not None,
        notices=loaded.notices,
        quantization=report(model).scheme,
    )


def adapter_label(path: Path) -> str:
    """What an adapter folder is called on screen: its run's name rather than "adapter"."""
    return path.parent.name if path.name == "adapter" else path.name


def chat_template(loaded: Loaded) -> ChatTemplate | None:
    """The file's own chat template, ready to render; None for base models, which were not taught to chat."""
    if loaded.chat_template is None or loaded.tokenizer is None:
        return None
    return usable_template(loaded.chat_template, loaded.tokenizer)


def require_tokenizer(loaded: Loaded) -> Tokenizer:
    """The model's tokenizer; `WorkbenchError` when its files have none."""
    if loaded.tokenizer is None:
        raise WorkbenchError(
            f"{loaded.source.name} has no tokenizer, so it can neither read nor write text.",
            hint="Put tokenizer.json, or vocab.json and merges.txt, into its folder and load it again.",
        )
    return loaded.tokenizer


def read_text(path: Path) -> str:
    """A UTF-8 text file; `FileError` when there is none, or it is something else."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}.", hint="Check the path.") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not UTF-8 text (byte {error.start}).", hint="Save it as UTF-8.") from error
