"""What the build page says in words: architectures, lengths, memory, the verdict of a pair. Qt-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ui.widgets.text import decimal
from workbench.core.fields import FieldInfo, describe, info_of
from workbench.core.format import bytes_text, count_text, duration_text
from workbench.core.registry import Choice
from workbench.model import Accounting, ModelConfig
from workbench.model.differences import Difference
from workbench.tokenizers.config import TokenizerConfig
from workbench.training import PretrainConfig

FLOAT: Final = 4
STATE_BYTES: Final = 16
"""Per parameter while all are trained: the weight, its gradient and Adam's two means, each in float32."""
BACKWARD: Final = 3
"""A training step costs about three forward passes."""
MANY: Final = 4
"""Passes over the same text up to which each is worth nearly as much as new text (arXiv:2305.16264)."""
CHOICES_NAMED: Final = ("position", "norm", "residual", "mlp")
NOTHING: Final = 0.005
"""Nats per token; a smaller difference is called none."""


def value_text(info: FieldInfo, value: Any) -> str:
    """A field's value as a table shows it: labels of kinds, on and off, the field's own word for None."""
    if value is None:
        return info.none_label
    if isinstance(value, Choice):
        return value.registry[value.kind].label
    if isinstance(value, bool):
        return "on" if value else "off"
    label = next((o.label for o in info.pick_options() if o.name == value), None)
    if label is not None:
        return label
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def difference_texts(found: Difference, a: ModelConfig, b: ModelConfig) -> tuple[str, str, str]:
    """(label, value in A, value in B) of one difference."""
    name, _, option = found.field.partition(".")
    info = info_of(ModelConfig, name)
    if not option:
        return info.label, value_text(info, getattr(a, name)), value_text(info, getattr(b, name))
    label, infos = info.label, describe(type(getattr(a, name).options))
    inner = next((i for i in infos if i.name == option), None)
    if inner is None:  # deeper than one level: the plain values say it
        return f"{label}: {option}", str(found.a), str(found.b)
    return f"{label}: {inner.label}", value_text(inner, found.a), value_text(inner, found.b)


def architecture_words(config: ModelConfig) -> str:
    """ "4 layers · width 128 · 4 heads · RoPE positions · RMSNorm · Pre-norm · SwiGLU · tied"."""
    heads = f"{config.n_heads} heads"
    if config.n_kv_heads and config.n_kv_heads != config.n_heads:
        heads += f", {config.n_kv_heads} for keys and values"
    kinds = [value_text(info_of(ModelConfig, n), getattr(config, n)) for n in CHOICES_NAMED]
    kinds[0] = "no positions" if kinds[0].lower() == "none" else f"{kinds[0]} positions"
    tied = "tied embeddings" if config.tie_embeddings else "own output matrix"
    causal = [] if config.causal else ["bidirectional"]
    return " · ".join([f"{config.n_layers} layers", f"width {config.d_model}", heads, *kinds, tied, *causal])


def size_words(accounting: Accounting) -> str:
    """Parameters and bytes, and what training all of them holds in memory."""
    count = accounting.parameters
    return (
        f"{count:,} parameters with {accounting.config.vocab_size:,} tokens · {bytes_text(FLOAT * count)} as float32 · "
        f"{bytes_text(STATE_BYTES * count)} while it trains, activations aside (estimated)"
    )


def memory_problem(accounting: Accounting, runs: int, free: float) -> str:
    """Why the models do not fit; empty when they do."""
    need = STATE_BYTES * accounting.parameters * runs
    if need <= free:
        return ""
    return f"Training it takes about {bytes_text(need)} (estimated) and {bytes_text(free)} are free. Choose a smaller architecture."


def step_tokens(train: PretrainConfig) -> int:
    """Tokens of one update."""
    return train.effective_batch * train.max_length


def step_seconds(accounting: Accounting, train: PretrainConfig, flops_per_second: float) -> float | None:
    """Seconds of one update at the speed measured in an earlier run; None while no run was measured."""
    if flops_per_second <= 0:
        return None
    return BACKWARD * accounting.flops_per_token(train.max_length // 2) * step_tokens(train) / flops_per_second


def speed_of(accounting: Accounting, train: PretrainConfig, tokens_per_second: float) -> float:
    """The floating-point operations per second that a measured speed comes to; the inverse of `step_seconds`."""
    return BACKWARD * accounting.flops_per_token(train.max_length // 2) * tokens_per_second


def step_words(seconds: float | None, runs: int = 1) -> str:
    """ "About 120 ms per step (estimated from an earlier run)"; `seconds` are those of all runs together."""
    both = " of both" if runs > 1 else ""
    return "" if seconds is None else f"About {duration_text(seconds)} per step{both} (estimated from an earlier run)."


def length_words(train: PretrainConfig, tokens: int, seconds: float | None) -> str:
    """What the budget comes to. `tokens` of the training data (0: not known), `seconds` per step (None: not known)."""
    batch, each = train.effective_batch, step_tokens(train)
    step = f"{batch} × {train.max_length} = {each:,} tokens per step"
    if train.max_minutes is not None:
        if seconds is None:
            return f"{step}; as many steps as fit into {train.max_minutes:g} min."
        steps = max(1, round(60 * train.max_minutes / seconds))
        return f"{step}; about {steps:,} steps{_passes(steps * each, tokens)} (estimated)."
    if train.max_steps is None:
        return f"{step}; {decimal(train.num_train_epochs).removesuffix('.0')} passes over the data."
    total = train.max_steps * each
    time = f", about {duration_text(train.max_steps * seconds)} (estimated)" if seconds is not None else ""
    return f"{step}; {train.max_steps:,} steps read {count_text(total)} tokens{_passes(total, tokens)}{time}."


def _passes(read: int, tokens: int) -> str:
    if not tokens:
        return ""
    by_heart = " (beyond about four it learns them by heart)" if read > MANY * tokens else ""
    return f", {decimal(read / tokens)} passes over the data{by_heart}"


def tokenizer_words(tokenizer: TokenizerConfig, vocabulary: int) -> str:
    """ "BPE of 2,048 tokens"."""
    if tokenizer.kind == "bytes":
        return f"bytes, {vocabulary:,} tokens"
    if tokenizer.kind == "existing":
        return f"tokenizer of {tokenizer.path}"
    return f"BPE of {vocabulary:,} tokens"


ONE_SEED: Final = "This is one seed; another may move both, so train with other seeds too before you believe a small difference."


def verdict(final: Mapping[str, float], steps: int, tokens: int, noise: float | None) -> str:
    """Which of two runs is lower, by how much, after how much; empty while neither has a loss. `ONE_SEED` belongs to it.

    `final` holds the last of each metric of a pair; `noise` is the standard error of the mean difference over the newest
    steps, as far as batches make it (None: not known). Validation losses are compared where there are any.
    """
    a, b, what = final.get("eval_loss_a"), final.get("eval_loss_b"), "validation loss"
    if a is None or b is None:
        a, b, what = final.get("loss_a"), final.get("loss_b"), "training loss"
    if a is None or b is None:
        return ""
    after = f"after {steps:,} steps" + (f" ({tokens:,} tokens read by each)" if tokens else "")
    if abs(a - b) < max(NOTHING, 2 * (noise or 0.0)):
        return f"No difference to speak of {after}: {what} {a:.3f} (A) and {b:.3f} (B) nats/token."
    return f"{'A' if a < b else 'B'} is lower by {abs(a - b):.3f} nats/token {after}: {what} {a:.3f} (A) against {b:.3f} (B)."
