"""What a person asks of a session, and what a session says of itself: plain data for the window and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from workbench.adapters import LoraConfig
from workbench.caches import CacheConfig, SlotMap
from workbench.core.fields import Problem, from_dict, setting, to_dict
from workbench.data import DataConfig
from workbench.generation import Conversation, GenerationConfig
from workbench.model import ModelConfig
from workbench.quantization import QuantizationConfig
from workbench.tokenizers.config import TokenizerConfig
from workbench.training import PretrainConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Flags common to all verbs: where and how precisely to compute."""

    device: str = setting("auto", label="Device", help="Where the model runs: auto, cpu, cuda or mps.")
    dtype: str = setting(
        "auto", label="Precision", key="torch_dtype",
        help="Precision: auto, float32, bfloat16 or float16; auto keeps float32 weights on a CPU and reads prompts in bfloat16 if fast.",
    )  # fmt: skip
    threads: int | None = setting(
        None, label="CPU threads", minimum=1, maximum=1024, none_label="one per core", help="Threads that torch may use."
    )


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """The loaded model, in words and numbers. `parameter_bytes` are measured on its tensors; `converted`: its architecture was
    changed after loading, so that `path` holds what it came from and not the model itself; `quantization`: the scheme that its
    weights are kept in, "" for full precision."""

    name: str
    path: Path
    format: str
    family: str
    config: ModelConfig
    parameters: int
    parameter_bytes: int
    dtype: str
    prefill_dtype: str | None
    device: str
    chat: bool
    notices: tuple[str, ...] = ()
    converted: bool = False
    quantization: str = ""

    @property
    def context(self) -> int:
        return self.config.max_positions

    @property
    def precision(self) -> str:
        """What the weights are kept as, in words: float32, or "int8 and float32"."""
        return f"{self.quantization} and {self.dtype}" if self.quantization else self.dtype

    def to_json(self) -> dict[str, Any]:
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**plain, "path": str(self.path), "config": to_dict(self.config), "notices": list(self.notices)}


@dataclass(frozen=True)
class AdapterState:
    """An adapter that acts on the chat. `strength` 0 is off, 1 as trained."""

    name: str
    path: Path
    strength: float = 1.0


@dataclass(frozen=True, kw_only=True)
class CacheChange:
    """What became of the conversation's keys and values when a setting of the cache changed. `how`: "kept" as they lay,
    "re-encoded" from exact ones, or "recomputed": forgotten, so that the next prompt is read again. `tokens` are held now."""

    how: str
    bytes_before: int
    bytes_after: int
    tokens: int

    def to_json(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, kw_only=True)
class CacheReport:
    """What the conversation's cache holds: `tokens`, beside the `dropped` ones that had to go, in `nbytes` of the
    `allocated_nbytes` reserved; in float16 they would take `float16_nbytes`. `layers`: slot by slot, copies."""

    config: CacheConfig
    tokens: int
    dropped: int
    capacity: int
    nbytes: int
    allocated_nbytes: int
    float16_nbytes: int
    layers: tuple[SlotMap, ...]


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """Answer the last message of `conversation`."""

    conversation: Conversation
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)


@dataclass(frozen=True, kw_only=True)
class SideSettings:
    """How one side of a comparison answers: its cache, its weights (None: as they were loaded), and whether the adapter in force
    acts."""

    cache: CacheConfig = field(default_factory=CacheConfig)
    quantization: QuantizationConfig | None = None
    adapter: bool = True


@dataclass(frozen=True, kw_only=True)
class PairChatRequest:
    """Answer the last message of both conversations, which share their questions and hold each side's own replies."""

    conversation_a: Conversation
    conversation_b: Conversation
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    a: SideSettings = field(default_factory=SideSettings)
    b: SideSettings = field(default_factory=SideSettings)


@dataclass(frozen=True, kw_only=True)
class PromptRequest:
    """Continue `prompt`, without a chat template."""

    prompt: str
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """Predict the text in `file`; with a cache, decode through it. Windows and strides are in tokens."""

    file: Path
    window: int | None = None
    stride: int | None = None
    cache: CacheConfig = field(default_factory=lambda: CacheConfig(use_cache=False))


@dataclass(frozen=True, kw_only=True)
class FinetuneRequest:
    """Train an adapter of the loaded model, or with `full` all weights of a copy of it, which becomes a checkpoint in the run's
    folder. `out` None: a fresh run folder below the session's home."""

    data: DataConfig
    lora: LoraConfig = field(default_factory=LoraConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    out: Path | None = None
    resume: bool = False
    full: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; with the model, all that is needed to run it again."""
        return {"data": to_dict(self.data), "lora": to_dict(self.lora), "train": to_dict(self.train), "full": self.full}


@dataclass(frozen=True, kw_only=True)
class PretrainRequest:
    """Train a fresh model of architecture `model` on text. Its vocabulary size gives way to the tokenizer's.

    `out` None: a fresh run folder below the session's home. `model.causal` decides what is learnt: the next token, or
    tokens that were masked.
    """

    model: ModelConfig
    data: DataConfig = field(default_factory=lambda: DataConfig(sources=("stdlib-docstrings",)))
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    train: PretrainConfig = field(default_factory=PretrainConfig)
    out: Path | None = None
    resume: bool = False

    def problems(self) -> list[Problem]:
        """Every broken rule of every part, its field prefixed with the part (`model.n_heads`); empty when it can start."""
        parts: dict[str, Any] = {name: getattr(self, name) for name in _PRETRAIN_PARTS}
        return [replace(problem, field=f"{name}.{problem.field}") for name, part in parts.items() for problem in part.problems()]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: all that is needed to run it again."""
        return {name: to_dict(getattr(self, name)) for name in _PRETRAIN_PARTS}

    @staticmethod
    def from_dict(data: Mapping[str, Any], out: Path | None = None, resume: bool = False) -> PretrainRequest:
        """The inverse of `to_dict`. Raises `ConfigError` naming what is unknown."""
        parts: dict[str, Any] = {name: from_dict(kind, data.get(name, {})) for name, kind in _PRETRAIN_PARTS.items()}
        return PretrainRequest(**parts, out=out, resume=resume)


_PRETRAIN_PARTS: dict[str, type] = {"model": ModelConfig, "data": DataConfig, "tokenizer": TokenizerConfig, "train": PretrainConfig}


@dataclass(frozen=True, kw_only=True)
class PairRequest:
    """Train `a` and `b` step by step side by side: same data, tokenizer, seed and batches, another architecture. `out` holds
    the two runs as `A/` and `B/`; theirs are not looked at."""

    a: PretrainRequest
    b: PretrainRequest
    out: Path | None = None
    resume: bool = False


CONFIG_TYPES = (
    ComputeConfig, ModelConfig, GenerationConfig, CacheConfig, LoraConfig, TrainConfig, DataConfig, PretrainConfig, TokenizerConfig,
)  # fmt: skip
"""Every self-describing config a person may set; help pages and the lint of the metadata read this list."""

