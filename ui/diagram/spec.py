"""What the diagram shows, in words and numbers, read off a config and its accounting. Needs no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ui.diagram.trace import Join, Step, TraceError, trace, without
from workbench.core.fields import describe
from workbench.core.format import count_text
from workbench.core.registry import Choice

if TYPE_CHECKING:
    from workbench.model import Accounting, ModelConfig


@dataclass(frozen=True)
class Part:
    """One box: `title` on the left, `detail` on the right, `tip` under the mouse. `key` is what it is recognised by between two
    diagrams; empty: its role."""

    role: str
    title: str
    detail: str = ""
    tip: str = ""
    key: str = ""

    @property
    def name(self) -> str:
        return self.key or self.role


@dataclass(frozen=True)
class Attention(Part):
    """`marks` are short words for what acts inside (rotation, bias, window); `kv_heads` are shared by the query heads."""

    heads: int = 1
    kv_heads: int = 1
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mlp(Part):
    """`gated`: two projections side by side, one of which lets the other pass."""

    gated: bool = False


@dataclass(frozen=True)
class Spec:
    """Everything drawn, from the tokens down to the logits. `block` None: the placement cannot be traced, and only its parts are
    shown. `scale` multiplies the token embeddings; `added` joins them from the side (segments, positions)."""

    embedding: Part
    scale: Step | None
    added: tuple[Part, ...]
    embedding_norm: Part | None
    n_layers: int
    block: tuple[Step | Join, ...] | None
    attention: Attention
    mlp: Mlp
    norm: Part
    placement: str
    final_norm: Part | None
    transform: Part | None
    head: Part
    softcap: Part | None
    tied: bool

    def part(self, op: str) -> Part:
        """The box of one operation of the block."""
        return {"norm": self.norm, "attention": self.attention, "mlp": self.mlp}[op]

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every box, each kind once."""
        ends = (self.embedding_norm, self.attention, self.mlp, self.norm, self.final_norm, self.transform, self.head, self.softcap)
        return (self.embedding, *self.added, *(p for p in ends if p is not None))


def spec_of(config: ModelConfig, accounting: Accounting) -> Spec:
    """Describe a usable config; `accounting` is its own."""
    parts, c = accounting.by_part, config
    acts = _position_acts(c)
    size = f"{c.vocab_size:,} × {c.d_model:,}"
    norm = c.norm.entry
    normed = _normalises(c)
    return Spec(
        embedding=Part(
            "embedding", "Token embedding", size, f"{_parameters(parts, 'Token embedding')}: one vector of {c.d_model:,} per token."
        ),
        scale=_embedding_scale(c),
        added=_added(c, parts, acts),
        embedding_norm=_norm(norm.label, "Embedding norm", "After the sum of all embeddings.") if c.embedding_norm and normed else None,
        n_layers=c.n_layers,
        block=_block(c, normed),
        attention=_attention(c, parts, acts),
        mlp=_mlp(c, accounting),
        norm=Part("norm", norm.label, "", f"{norm.help} {_parameters(parts, 'Norms')} in all norms."),
        placement=c.residual.entry.label if normed else f"{c.residual.entry.label}, without norms",
        final_norm=_norm(f"Final {norm.label}", "Final norm", "Before the output head.") if c.has_final_norm and normed else None,
        transform=_transform(c, norm.label if normed else ""),
        head=_head(c, parts, size),
        softcap=_softcap(c),
        tied=c.tie_embeddings,
    )


def _parameters(parts: dict[str, int], name: str) -> str:
    return f"{count_text(parts.get(name, 0))} parameters"


def _norm(title: str, key: str, tip: str) -> Part:
    return Part("norm", title, "", tip, key)


def _normalises(config: ModelConfig) -> bool:
    """Whether the kind of norm does anything: one that hands back the very thing it was given is not drawn."""
    made: Any = config.norm.make(width=8, device="meta")
    thing = object()
    try:
        return made.forward(thing) is not thing
    except (TypeError, AttributeError):
        return True


def _block(config: ModelConfig, normed: bool) -> tuple[Step | Join, ...] | None:
    try:
        steps = trace(config.residual.make, config.n_layers)
    except TraceError:
        return None
    return steps if normed else without(steps, "norm")


def _position_acts(config: ModelConfig) -> set[str]:
    """Which hooks the position encoding uses, asked of one that allocates nothing."""
    from workbench.parts.positions import Position

    made: Any = config.position.make(
        width=config.d_model, head_width=config.head_width, heads=config.n_heads, max_positions=config.max_positions, device="meta"
    )
    acts = {hook for hook in ("embed", "rotate") if getattr(type(made), hook) is not getattr(Position, hook)}
    return acts | ({"bias"} if made.bias is not None else set())


def _embedding_scale(config: ModelConfig) -> Step | None:
    """√width, wherever it comes from: the model's own setting, or the position encoding's."""
    scaled = config.scale_embeddings or getattr(config.position.options, "scale_embedding", False)
    return Step("scale", config.d_model**0.5) if scaled else None


def _added(config: ModelConfig, parts: dict[str, int], acts: set[str]) -> tuple[Part, ...]:
    """What is added to the token embeddings, in the order in which it is."""
    found = []
    if config.segment_types:
        tip = f"{_parameters(parts, 'Segment embedding')}: which of {config.segment_types} sentences a token belongs to."
        found.append(Part("segment", "Segment embedding", f"{config.segment_types} × {config.d_model:,}", tip))
    if "embed" in acts:
        entry, count = config.position.entry, parts.get("Position embedding", 0)
        detail = f"{config.max_positions:,} × {config.d_model:,}" if count else ""
        owned = f" {count_text(count)} parameters." if count else " No parameters."
        found.append(Part("position", f"{entry.label} positions", detail, entry.help + owned))
    return tuple(found)


def _attention(config: ModelConfig, parts: dict[str, int], acts: set[str]) -> Attention:
    c = config
    heads = f"{c.n_heads} × {c.head_width}" if c.kv_heads == c.n_heads else f"{c.n_heads} → {c.kv_heads} × {c.head_width}"
    shared = "each with its own keys and values" if c.kv_heads == c.n_heads else f"sharing {c.kv_heads} key/value heads"
    sees = "" if c.causal else " Every token sees all others."
    tip = f"{c.n_heads} query heads of width {c.head_width}, {shared}.{sees} {_parameters(parts, 'Attention')} in all layers."
    marks = (*_position_marks(c, acts), *_attention_marks(c))
    return Attention("attention", "Attention", heads, tip, "", c.n_heads, c.kv_heads, marks)


def _position_marks(config: ModelConfig, acts: set[str]) -> list[str]:
    if not acts:
        return ["no positions"]
    marks = [f"{sign} {config.position.entry.label}" for act, sign in (("rotate", "↻"), ("bias", "+")) if act in acts]
    if marks:
        marks += _option_words(config.position)
        if config.nope_every is not None:
            marks.append(f"every {ordinal(config.nope_every)} without")
    return marks


def _option_words(chosen: Choice[Any]) -> list[str]:
    """Options that change where a position encoding acts: on a part of each head, scaled."""
    words = []
    for info in describe(type(chosen.options)):
        value = getattr(chosen.options, info.name)
        if value == info.default:
            continue
        if isinstance(value, Choice):
            factor = getattr(value.options, "factor", None)
            words.append(value.entry.label + (f" ×{factor:g}" if factor is not None else ""))
        elif info.type is float and info.maximum == 1:
            words.append(f"{100 * value:.0f} % of head")
    return words


def _attention_marks(config: ModelConfig) -> list[str]:
    c, marks = config, []
    if not c.causal:
        marks.append("↔ both ways")
    if c.qk_norm != "off":
        marks.append(f"QK-norm {'over all' if c.qk_norm == 'full' else 'per head'}")
    if c.sliding_window is not None:
        marks.append(f"window {c.sliding_window:,}")
        if c.full_attention_every is not None:
            marks.append(f"every {ordinal(c.full_attention_every)} full")
    if c.attention_scale is not None:
        marks.append(f"scores × {c.attention_scale:.3g}")
    if c.attention_softcap is not None:
        marks.append(f"soft-cap ±{c.attention_softcap:g}")
    if c.attention_bias or c.attention_out_bias:
        marks.append("biases" if c.attention_bias and c.attention_out_bias else "QKV biases" if c.attention_bias else "output bias")
    return marks


def ordinal(number: int) -> str:
    """2nd, 3rd, 11th."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _mlp(config: ModelConfig, accounting: Accounting) -> Mlp:
    entry = config.mlp.entry
    matrices = [n for n in accounting.by_tensor if n.startswith("blocks.0.mlp.") and n.endswith("_proj.weight")]
    gated = any("gate" in name for name in matrices)
    biased = " and biases" if config.mlp_bias else ""
    tip = f"{entry.help} {len(matrices)} matrices{biased}, {_parameters(accounting.by_part, 'MLP')} in all layers."
    return Mlp("mlp", f"MLP · {entry.label}", f"{config.d_model:,} → {config.hidden:,}", tip, "", gated)


def _transform(config: ModelConfig, norm: str) -> Part | None:
    if not config.head_transform:
        return None
    detail = f"linear, GELU, {norm}" if norm else "linear, GELU"
    return Part("head", "Head transform", detail, f"{config.d_model:,} → {config.d_model:,}, before the output matrix.", "transform")


def _head(config: ModelConfig, parts: dict[str, int], size: str) -> Part:
    biased = " + bias" if config.head_bias else ""
    if config.tie_embeddings:
        tip = "Tied: the token embedding’s matrix is used again, so the head has none of its own."
        return Part("head", "Output head", f"embedding’s matrix{biased}", tip)
    return Part("head", "Output head", f"{size}{biased}", f"{_parameters(parts, 'Output head')} of its own.")


def _softcap(config: ModelConfig) -> Part | None:
    cap = config.logit_softcap
    if cap is None:
        return None
    return Part("cap", f"Soft-cap ±{cap:g}", "c · tanh(z / c)", "Bounds the logits smoothly.")


def description(spec: Spec) -> str:
    """The diagram in sentences, for those who hear it."""
    lines = [f"{spec.embedding.title}, {spec.embedding.detail}."]
    if spec.scale is not None:
        lines.append(f"Token embeddings are multiplied by {spec.scale.factor:.3g}.")
    lines += [f"{part.title} {'are' if part.title.endswith('s') else 'is'} added." for part in spec.added]
    if spec.embedding_norm is not None:
        lines.append(f"{spec.embedding_norm.title} after the embeddings.")
    inside = "; ".join(_say(spec, s) for s in spec.block) if spec.block is not None else f"{spec.placement} of attention and MLP"
    lines.append(f"{spec.n_layers} blocks, {spec.placement}: {inside}.")
    a = spec.attention
    lines.append(f"Attention has {a.heads} query heads on {a.kv_heads} key/value heads{''.join(f', {m}' for m in a.marks)}.")
    lines.append(f"{spec.mlp.title}, {'gated' if spec.mlp.gated else 'not gated'}, {spec.mlp.detail}.")
    lines += [f"{part.title}." for part in (spec.final_norm, spec.transform) if part is not None]
    lines.append(f"{spec.head.title}, {'tied to the embedding' if spec.tied else spec.head.detail}.")
    if spec.softcap is not None:
        lines.append(f"{spec.softcap.title} on the logits.")
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
