"""What the diagram shows, in words and numbers, read off a config and its accounting. Needs no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ui.diagram.trace import Join, Step, TraceError, trace
from workbench.core.format import count_text

if TYPE_CHECKING:
    from workbench.model import Accounting, ModelConfig


@dataclass(frozen=True)
class Part:
    """One box: `title` on the left, `detail` on the right, `tip` under the mouse."""

    role: str
    title: str
    detail: str = ""
    tip: str = ""


@dataclass(frozen=True)
class Attention(Part):
    """`marks` are short words for what acts inside (rotation, bias, window); `kv_heads` are shared by the query heads."""

    heads: int = 1
    kv_heads: int = 1
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spec:
    """Everything drawn. `block` None: the placement cannot be traced, and only its parts are shown."""

    embedding: Part
    position: Part | None
    n_layers: int
    block: tuple[Step | Join, ...] | None
    attention: Attention
    mlp: Part
    norm: Part
    placement: str
    final_norm: Part | None
    head: Part
    tied: bool

    def part(self, op: str) -> Part:
        """The box of one operation of the block."""
        return {"norm": self.norm, "attention": self.attention, "mlp": self.mlp}[op]


def spec_of(config: ModelConfig, accounting: Accounting) -> Spec:
    """Describe a usable config; `accounting` is its own."""
    parts, c = accounting.by_part, config
    acts = _position_acts(c)
    size = f"{c.vocab_size:,} × {c.d_model:,}"
    norm = c.norm.entry
    return Spec(
        embedding=Part(
            "embedding", "Token embedding", size, f"{_parameters(parts, 'Token embedding')}: one vector of {c.d_model:,} per token."
        ),
        position=_position_part(c, parts) if "embed" in acts else None,
        n_layers=c.n_layers,
        block=_block(c),
        attention=_attention(c, parts, acts),
        mlp=_mlp(c, accounting),
        norm=Part("norm", norm.label, "", f"{norm.help} {_parameters(parts, 'Norms')} in all norms."),
        placement=c.residual.entry.label,
        final_norm=Part("norm", f"Final {norm.label}", "", "Before the output head.") if c.has_final_norm else None,
        head=_head(c, parts, size),
        tied=c.tie_embeddings,
    )


def _parameters(parts: dict[str, int], name: str) -> str:
    return f"{count_text(parts.get(name, 0))} parameters"


def _block(config: ModelConfig) -> tuple[Step | Join, ...] | None:
    try:
        return trace(config.residual.make, config.n_layers)
    except TraceError:
        return None


def _position_acts(config: ModelConfig) -> set[str]:
    """Which hooks the position encoding uses, asked of one that allocates nothing."""
    from workbench.parts.positions import Position

    made: Any = config.position.make(
        width=config.d_model, head_width=config.head_width, heads=config.n_heads, max_positions=config.max_positions, device="meta"
    )
    acts = {hook for hook in ("embed", "rotate") if getattr(type(made), hook) is not getattr(Position, hook)}
    return acts | ({"bias"} if made.bias is not None else set())


def _position_part(config: ModelConfig, parts: dict[str, int]) -> Part:
    entry, count = config.position.entry, parts.get("Position embedding", 0)
    detail = f"{config.max_positions:,} × {config.d_model:,}" if count else ""
    owned = f" {count_text(count)} parameters." if count else " No parameters."
    return Part("position", f"{entry.label} positions", detail, entry.help + owned)


def _attention(config: ModelConfig, parts: dict[str, int], acts: set[str]) -> Attention:
    c, label = config, config.position.entry.label
    marks = []
    if "rotate" in acts:
        marks.append(f"↻ {label}")
    if "bias" in acts:
        marks.append(f"+ {label}")
    if acts & {"rotate", "bias"} and c.nope_every is not None:
        marks.append(f"not in every {c.nope_every}.")
    if c.qk_norm != "off":
        marks.append("QK-norm")
    if c.sliding_window is not None:
        marks.append(f"window {c.sliding_window:,}")
    if c.attention_softcap is not None:
        marks.append(f"soft-cap {c.attention_softcap:g}")
    if c.attention_bias or c.attention_out_bias:
        marks.append("biases")
    heads = f"{c.n_heads} × {c.head_width}" if c.kv_heads == c.n_heads else f"{c.n_heads} → {c.kv_heads} × {c.head_width}"
    shared = "each with its own keys and values" if c.kv_heads == c.n_heads else f"sharing {c.kv_heads} key/value heads"
    tip = f"{c.n_heads} query heads of width {c.head_width}, {shared}. {_parameters(parts, 'Attention')} in all layers."
    return Attention("attention", "Attention", heads, tip, c.n_heads, c.kv_heads, tuple(marks))


def _mlp(config: ModelConfig, accounting: Accounting) -> Part:
    entry = config.mlp.entry
    matrices = sum(".mlp." in name and name.startswith("blocks.0.") and name.endswith("_proj.weight") for name in accounting.by_tensor)
    biased = " and biases" if config.mlp_bias else ""
    tip = f"{entry.help} {matrices} matrices{biased}, {_parameters(accounting.by_part, 'MLP')} in all layers."
    return Part("mlp", f"MLP · {entry.label}", f"{config.d_model:,} → {config.hidden:,}", tip)


def _head(config: ModelConfig, parts: dict[str, int], size: str) -> Part:
    if config.tie_embeddings:
        tip = "Tied: the token embedding’s matrix is used again, so the head has none of its own."
        return Part("head", "Output head", "embedding’s matrix", tip)
    return Part("head", "Output head", size, f"{_parameters(parts, 'Output head')} of its own.")


def description(spec: Spec) -> str:
    """The diagram in sentences, for those who hear it."""
    lines = [f"{spec.embedding.title}, {spec.embedding.detail}."]
    if spec.position is not None:
        lines.append(f"{spec.position.title} are added.")
    inside = "; ".join(_say(spec, s) for s in spec.block) if spec.block is not None else f"{spec.placement} of attention and MLP"
    lines.append(f"{spec.n_layers} blocks, {spec.placement}: {inside}.")
    a = spec.attention
    lines.append(f"Attention has {a.heads} query heads on {a.kv_heads} key/value heads{''.join(f', {m}' for m in a.marks)}.")
    lines.append(f"{spec.mlp.title}, {spec.mlp.detail}.")
    if spec.final_norm is not None:
        lines.append(f"{spec.final_norm.title}.")
    lines.append(f"{spec.head.title}, {'tied to the embedding' if spec.tied else spec.head.detail}.")
    return " ".join(lines)


def _say(spec: Spec, step: Step | Join) -> str:
    if isinstance(step, Step):
        return _word(spec, step)
    branches = " beside ".join(", ".join(_word(spec, s) for s in branch) for branch in step.branches)
    before = "".join(f"{_word(spec, s)}, then " for s in step.shared)
    scaled = "".join(f" to the stream {_word(spec, s)}" for s in step.stream)
    return f"{before}{branches} is added{scaled}"


def _word(spec: Spec, step: Step) -> str:
    return f"× {step.factor:.3g}" if step.op == "scale" else "attention" if step.op == "attention" else spec.part(step.op).title
