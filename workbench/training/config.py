"""The settings of a training run, under the names of transformers' `TrainingArguments`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from workbench.core.fields import Option, Problem, field_problems, pick, setting
from workbench.training.schedule import SCHEDULES

DTYPES = (
    Option("auto", "Automatic", "Uses bfloat16 where the hardware multiplies it, float32 elsewhere."),
    Option("float32", "float32", "Exact and slow."),
    Option("bfloat16", "bfloat16", "Products in bfloat16; trained parameters, sums and the loss stay float32."),
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train. The defaults suit a LoRA of a small chat model on a laptop's CPU. `problems()` lists every broken rule."""

    max_steps: int | None = setting(
        60, label="Steps", unit="steps", group="Length", minimum=1, maximum=10_000_000, log=True, none_label="by epochs",
        help="Number of updates; leave it out to train for a number of passes over the data instead.",
    )  # fmt: skip
    num_train_epochs: float = setting(
        3.0, label="Epochs", unit="passes", group="Length", minimum=0.01, maximum=10_000, log=True,
        help="Passes over the data when no number of steps is given.",
    )  # fmt: skip
    max_minutes: float | None = setting(
        None, label="Minutes", unit="minutes", group="Length", minimum=0.01, maximum=100_000, log=True, none_label="by steps",
        help="Train for this long instead: warm-up and schedule then follow the clock, and steps and epochs do not count.",
    )  # fmt: skip
    learning_rate: float = setting(
        1e-3, label="Learning rate", group="Optimizer", minimum=1e-8, maximum=10.0, log=True,
        help="Size of each update at its peak; LoRA wants about ten times the rate of full fine-tuning, usually 1e-4 to 1e-3.",
    )  # fmt: skip
    per_device_train_batch_size: int = setting(
        4, label="Batch size", unit="sequences", group="Batch", minimum=1, maximum=4096, log=True,
        help="Sequences computed at once: more use the machine better and need more memory.",
    )  # fmt: skip
    gradient_accumulation_steps: int = setting(
        1, label="Accumulate", unit="batches", group="Batch", minimum=1, maximum=4096, log=True,
        help="Batches whose gradients are added up before each update, as if they had been one large batch.",
    )  # fmt: skip
    max_length: int = setting(
        256, label="Longest sequence", unit="tokens", group="Batch", minimum=8, maximum=1_048_576, log=True,
        help="Longer examples are cut to this many tokens; memory and time grow with it.",
    )  # fmt: skip
    lr_scheduler_type: str = pick(
        tuple(s.option for s in SCHEDULES.values()), "cosine", label="Schedule", group="Optimizer",
        help="How the learning rate moves after the warm-up.",
    )  # fmt: skip
    warmup_ratio: float = setting(
        0.05, label="Warm-up", group="Optimizer", minimum=0.0, maximum=1.0,
        help="Share of the run over which the learning rate rises from zero; it keeps the first updates small.",
    )  # fmt: skip
    weight_decay: float = setting(
        0.0, label="Weight decay", group="Optimizer", minimum=0.0, maximum=10.0, advanced=True, source="arXiv:1711.05101",
        help="Pulls trained matrices towards zero at each update; adapters are usually trained without.",
    )  # fmt: skip
    adam_beta1: float = setting(
        0.9, label="Adam β₁", group="Optimizer", minimum=0.0, maximum=0.9999, advanced=True, source="arXiv:1412.6980",
        help="Memory of the running mean of gradients.",
    )  # fmt: skip
    adam_beta2: float = setting(
        0.999, label="Adam β₂", group="Optimizer", minimum=0.0, maximum=0.999999, advanced=True, source="arXiv:1412.6980",
        help="Memory of the running mean of squared gradients.",
    )  # fmt: skip
    adam_epsilon: float = setting(
        1e-8, label="Adam ε", group="Optimizer", minimum=1e-16, maximum=1.0, log=True, advanced=True, source="arXiv:1412.6980",
        help="Added to the root of the mean squared gradient, so that tiny gradients do not make large updates.",
    )  # fmt: skip
    max_grad_norm: float = setting(
        1.0, label="Clip gradients at", group="Optimizer", minimum=0.0, maximum=1e6, advanced=True,
        help="Gradients with a larger Euclidean norm are scaled down to it; 0 turns this off.",
    )  # fmt: skip
    dtype: str = pick(
        DTYPES, "auto", label="Precision", group="Machine", key="bf16",
        help="Precision of the matrix products of a run; the chat model's own weights are not touched.",
    )  # fmt: skip
    gradient_checkpointing: bool = setting(
        False, label="Recompute activations", group="Machine", source="arXiv:1604.06174",
        help="Keeps no activations inside blocks and computes them again for the gradients: much less memory, about a third more time.",
    )  # fmt: skip
    eval_steps: int | None = setting(
        20, label="Evaluate every", unit="steps", group="Length", minimum=1, maximum=10_000_000, none_label="never",
        help="Measure the loss on the held-out examples after every so many updates, and at the end.",
    )  # fmt: skip
    save_steps: int | None = setting(
        20, label="Save every", unit="steps", group="Length", minimum=1, maximum=10_000_000, none_label="at the end",
        help="Write a checkpoint after every so many updates, from which a stopped run continues exactly.",
    )  # fmt: skip
    save_total_limit: int = setting(
        2, label="Checkpoints kept", group="Length", minimum=1, maximum=1000, advanced=True,
        help="Older checkpoints are deleted once a newer one is safely on disk.",
    )  # fmt: skip
    early_stopping_patience: int | None = setting(
        None, label="Stop early after", unit="evaluations", group="Length", minimum=1, maximum=10_000, none_label="never", advanced=True,
        help="End the run once the loss on the held-out examples has not fallen for so many evaluations in a row.",
    )  # fmt: skip
    load_best_model_at_end: bool = setting(
        False, label="Keep the best", group="Length", advanced=True,
        help="The result is the state with the lowest loss on the held-out examples, not the last one; needs evaluations.",
    )  # fmt: skip
    sample_every: int | None = setting(
        None, label="Ask every", unit="steps", group="Samples", minimum=1, maximum=10_000_000, none_label="never",
        help="Let the model under training answer the same questions after every so many updates, to see what it learns.",
    )  # fmt: skip
    sample_tokens: int = setting(
        80, label="Answer length", unit="tokens", group="Samples", minimum=1, maximum=4096, log=True, help="Longest answer of each."
    )
    sample_prompt: str = setting(
        "", label="Questions", group="Samples",
        help="What is asked, parted by |; empty: the first two questions of the data.",
    )  # fmt: skip
    probe_every: int | None = setting(
        None, label="Look inside every", unit="steps", group="Length", minimum=1, maximum=10_000_000, none_label="never", advanced=True,
        help="Measure each block after every so many updates: its gradients, the residual stream, its largest activation.",
    )  # fmt: skip
    seed: int = setting(
        0, label="Seed", group="Machine", minimum=0, maximum=2**53,
        help="The same seed, data and settings give the same run on the same machine.",
    )  # fmt: skip

    @property
    def effective_batch(self) -> int:
        """Sequences per update."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps

    def problems(self) -> list[Problem]:
        """Every broken bound or rule, all at once; empty when usable."""
        found = field_problems(self)
        if self.eval_steps is None:
            for name in ("early_stopping_patience", "load_best_model_at_end"):
                if getattr(self, name):
                    found.append(Problem(name, "Nothing is evaluated, so no state is the best.", "Choose how often to evaluate."))
        return found


def _again(name: str, default: Any, **changes: Any) -> Any:
    """The field of `TrainConfig` with another default; what is known of it is not written a second time."""
    known = next(f for f in dataclasses.fields(TrainConfig) if f.name == name)
    ((key, meta),) = known.metadata.items()
    return dataclasses.field(default=default, metadata={key: {**meta, **changes}})


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrainConfig):
    """How to train all weights of a fresh model. The defaults suit a model of a million parameters on two CPU cores."""

    max_steps: int | None = _again("max_steps", 1500)
    learning_rate: float = _again(
        "learning_rate", 3e-3, help="Size of each update at its peak: about 3e-3 for a million parameters, 3e-4 for a billion."
    )
    per_device_train_batch_size: int = _again("per_device_train_batch_size", 32)
    max_length: int = _again(
        "max_length", 128, label="Training context", help="Tokens the model sees at once; memory and time grow with it."
    )
    warmup_ratio: float = _again("warmup_ratio", 0.1)
    weight_decay: float = _again(
        "weight_decay", 0.1, help="Pulls matrices towards zero at each update; 0.1 is usual when all weights are trained."
    )
    adam_beta2: float = _again("adam_beta2", 0.99)
    eval_steps: int | None = _again("eval_steps", 100)
    save_steps: int | None = _again("save_steps", 250)
    sample_every: int | None = _again(
        "sample_every", 100, label="Sample every", help="Let the model write a little after every so many updates, to see words appear."
    )
    sample_tokens: int = _again("sample_tokens", 80, label="Sample length", help="Length of each sample.")
    sample_prompt: str = _again(
        "sample_prompt", "", label="Sample begins with", help="What each sample continues; empty: the beginning of a document."
    )
