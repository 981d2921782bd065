"""The architecture of a model, as data."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from workbench.core.fields import Option, Problem, choice, coerce_choices, field_problems, pick, setting
from workbench.core.registry import Choice
from workbench.model.init import INITS, Init
from workbench.parts.mlps import MLPS
from workbench.parts.norms import NORMS
from workbench.parts.positions import POSITIONS, Position
from workbench.parts.residuals import RESIDUALS, Residual

QK_NORMS = (
    Option("off", "None", "Queries and keys are used as projected."),
    Option("head", "Per head", "Each head's queries and keys are normalised with one shared gain, as in Qwen3."),
    Option("full", "All heads at once", "The whole query and key vectors are normalised before they are split into heads, as in OLMo-2."),
)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture of one transformer: what must be known to rebuild it, no more."""

    n_layers: int = setting(
        6, label="Layers", key="num_hidden_layers", group="Size", minimum=1, maximum=256, help="Number of transformer blocks."
    )
    d_model: int = setting(
        384,
        label="Width",
        key="hidden_size",
        group="Size",
        minimum=8,
        maximum=65536,
        help="Width of the residual stream: one vector of this size per token.",
    )
    n_heads: int = setting(
        6, label="Attention heads", key="num_attention_heads", group="Attention", minimum=1, maximum=1024, help="Number of query heads."
    )
    n_kv_heads: int | None = setting(
        None, label="Key/value heads", key="num_key_value_heads", group="Attention", minimum=1, maximum=1024, none_label="one per head",
        source="arXiv:2305.13245", help="Query heads share this many key/value heads; fewer make the KV cache smaller.",
    )  # fmt: skip
    head_dim: int | None = setting(
        None, label="Head width", key="head_dim", group="Attention", minimum=2, maximum=1024, none_label="width / heads", advanced=True,
        help="Width of each head; only unusual models set it apart from width / heads.",
    )  # fmt: skip
    d_ff: int | None = setting(
        None, label="MLP width", key="intermediate_size", group="MLP", minimum=1, maximum=1_048_576, none_label="4 × width",
        help="Inner width of each block's MLP.",
    )  # fmt: skip
    vocab_size: int = setting(
        259,
        label="Vocabulary",
        key="vocab_size",
        group="Size",
        unit="tokens",
        minimum=2,
        maximum=2_000_000,
        help="Number of tokens the model knows.",
    )
    max_positions: int = setting(
        1024, label="Context", key="max_position_embeddings", group="Size", unit="tokens", minimum=8, maximum=1_048_576,
        help="Longest sequence the model was made for.",
    )  # fmt: skip
    position: Choice[Position] = choice(
        POSITIONS, "rope", label="Position encoding", group="Position", help="How the model is told where each token stands."
    )
    nope_every: int | None = setting(
        None, label="Skip position every", group="Position", unit="layers", minimum=1, maximum=256, none_label="never", advanced=True,
        source="arXiv:2501.18795", help="Every n-th block leaves queries and keys unrotated, as SmolLM3 does with n = 4.",
    )  # fmt: skip
    norm: Choice[nn.Module] = choice(NORMS, "rmsnorm", label="Norm", group="Norm", help="How vectors are normalised.")
    residual: Choice[Residual] = choice(
        RESIDUALS, "pre", label="Norm placement", group="Norm", help="Where the norms sit and how each branch joins the residual stream."
    )
    qk_norm: str = pick(
        QK_NORMS, "off", label="QK-norm", group="Norm", advanced=True, source="arXiv:2302.05442",
        help="Normalises queries and keys before the rotation, which keeps attention scores bounded.",
    )  # fmt: skip
    final_norm: bool | None = setting(
        None, label="Final norm", group="Norm", advanced=True, none_label="where needed",
        help="A norm before the output head; pre-norm stacks need it because their stream leaves the last block un-normalised.",
    )  # fmt: skip
    mlp: Choice[nn.Module] = choice(
        MLPS, "swiglu", label="MLP", group="MLP", key="hidden_act", help="The kind of feed-forward part in each block."
    )
    tie_embeddings: bool = setting(
        True, label="Tie embeddings", key="tie_word_embeddings", group="Embedding and head", source="arXiv:1608.05859",
        help="The output head uses the token embedding's matrix, which saves vocabulary × width parameters.",
    )  # fmt: skip
    scale_embeddings: bool = setting(
        False, label="Scale embeddings by √width", group="Embedding and head", advanced=True, source="arXiv:2403.08295",
        help="Multiplies token embeddings by √width, as Gemma does.",
    )  # fmt: skip
    embedding_norm: bool = setting(
        False, label="Norm after the embedding", group="Embedding and head", advanced=True, source="arXiv:1810.04805",
        help="Normalises the sum of all embeddings before the first block, as BERT and BLOOM do.",
    )  # fmt: skip
    segment_types: int | None = setting(
        None, label="Segment embeddings", key="type_vocab_size", group="Embedding and head", minimum=1, maximum=64, none_label="none",
        advanced=True, source="arXiv:1810.04805",
        help="A table that tells first from second sentence, as BERT has it; every token here belongs to the first.",
    )  # fmt: skip
    head_transform: bool = setting(
        False, label="Transform before the head", group="Embedding and head", advanced=True, source="arXiv:1810.04805",
        help="A linear layer, GELU and a norm before the output matrix, as in BERT's masked-token head.",
    )  # fmt: skip
    head_bias: bool = setting(
        False, label="Head bias", group="Embedding and head", advanced=True, help="Adds a bias to each token's logit, as Phi and BERT do."
    )
    logit_softcap: float | None = setting(
        None, label="Logit soft-cap", key="final_logit_softcapping", group="Embedding and head", minimum=0.1, maximum=1000,
        none_label="off", advanced=True, source="arXiv:2408.00118", help="Bounds the final logits smoothly to ±c.",
    )  # fmt: skip
    attention_bias: bool = setting(
        False,
        label="Q, K, V biases",
        key="attention_bias",
        group="Attention",
        advanced=True,
        help="Adds biases to the query, key and value projections.",
    )
    attention_out_bias: bool = setting(
        False, label="Output bias", group="Attention", advanced=True, help="Adds a bias to the attention's output projection."
    )
    mlp_bias: bool = setting(
        False, label="MLP biases", key="mlp_bias", group="MLP", advanced=True, help="Adds biases to the MLP's matrices."
    )
    sliding_window: int | None = setting(
        None, label="Sliding window", key="sliding_window", group="Attention", unit="tokens", minimum=1, maximum=1_048_576,
        none_label="off",
        source="arXiv:2310.06825", help="Each token attends to itself and the W−1 tokens before it only.",
    )  # fmt: skip
    full_attention_every: int | None = setting(
        None, label="Full attention every", group="Attention", unit="layers", minimum=1, maximum=256, none_label="never", advanced=True,
        source="arXiv:2408.00118", help="Every n-th block attends to everything while the others keep to the window; Gemma-2 has n = 2.",
    )  # fmt: skip
    attention_scale: float | None = setting(
        None, label="Score scale", group="Attention", minimum=1e-4, maximum=100, none_label="1 / √head width", advanced=True,
        source="arXiv:2408.00118", help="Multiplies the products of queries and keys; Gemma-2 stores it as query_pre_attn_scalar^(−½).",
    )  # fmt: skip
    causal: bool = setting(
        True, label="Causal", group="Attention", advanced=True, source="arXiv:1810.04805",
        help="Tokens see only what comes before them. Without it every token sees all others: such a model cannot write, "
        "and learns by filling in masked tokens.",
    )  # fmt: skip
    attention_softcap: float | None = setting(
        None, label="Score soft-cap", key="attn_logit_softcapping", group="Attention", minimum=0.1, maximum=1000, none_label="off",
        advanced=True, source="arXiv:2408.00118", help="Bounds attention scores smoothly to ±c; costs the fused attention kernel.",
    )  # fmt: skip
    init: Choice[Init] = choice(
        INITS, "gpt2", label="Initialisation", group="Training from scratch", advanced=True, help="How fresh weights are drawn."
    )

    def __post_init__(self) -> None:
        coerce_choices(self)

    @property
    def kv_heads(self) -> int:
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_width(self) -> int:
        return self.d_model // self.n_heads if self.head_dim is None else self.head_dim

    @property
    def hidden(self) -> int:
        return 4 * self.d_model if self.d_ff is None else self.d_ff

    @property
    def has_final_norm(self) -> bool:
        if self.final_norm is not None:
            return self.final_norm
        kind: type = self.residual.entry.make  # type: ignore[assignment]
        return bool(getattr(kind, "wants_final_norm", True))

    @property
    def score_scale(self) -> float:
        return self.head_width**-0.5 if self.attention_scale is None else self.attention_scale

    def window_of(self, layer: int) -> int | None:
        """The sliding window of block `layer` (from 0); None where it attends to everything."""
        every = self.full_attention_every
        return None if every is not None and (layer + 1) % every == 0 else self.sliding_window

    def positional(self, layer: int) -> bool:
        """Whether block `layer` (from 0) uses the position encoding inside its attention."""
        return self.nope_every is None or (layer + 1) % self.nope_every != 0

    def problems(self) -> list[Problem]:
        """Every rule that is broken, all at once; empty when the model can be built."""
        return field_problems(self) or [p for rule in _RULES if (p := rule(self)) is not None]


# ---- rules between fields: each names the field where a person can mend it -----------------------------------------


def _width_over_heads(c: ModelConfig) -> Problem | None:
    if c.head_dim is not None or c.d_model % c.n_heads == 0:
        return None
    fix = "Choose a divisor of the width, or set the head width."
    return Problem("n_heads", f"Width {c.d_model} cannot be split over {c.n_heads} heads.", fix)


def _shared_heads(c: ModelConfig) -> Problem | None:
    if c.n_heads % c.kv_heads == 0:
        return None
    return Problem("n_kv_heads", f"{c.n_heads} query heads cannot share {c.kv_heads} key/value heads.", f"Choose a divisor of {c.n_heads}.")


def _pairs(c: ModelConfig) -> Problem | None:
    if c.position.kind != "rope" or c.head_width % 2 == 0:
        return None
    return Problem("position", f"RoPE turns pairs, but the head width is {c.head_width}.", "Choose an even head width.")


def _nope_needs_rotation(c: ModelConfig) -> Problem | None:
    if c.nope_every is None or getattr(c.position.entry.make, "acts_in_attention", False):
        return None
    return Problem(
        "nope_every", f"{c.position.entry.label} acts before the first block, so no block can skip it.",
        "Choose RoPE or ALiBi, or switch the skipping off.",
    )  # fmt: skip


def _full_needs_window(c: ModelConfig) -> Problem | None:
    if c.full_attention_every is None or c.sliding_window is not None:
        return None
    message = "Without a sliding window every block attends to everything."
    return Problem("full_attention_every", message, "Set a window, or switch this off.")


def _scaled_once(c: ModelConfig) -> Problem | None:
    if not c.scale_embeddings or not getattr(c.position.options, "scale_embedding", False):
        return None
    return Problem(
        "scale_embeddings", "Sinusoidal positions scale the embeddings by √width already.", "Switch one of the two off."
    )  # fmt: skip


def _qk_norm_needs_norm(c: ModelConfig) -> Problem | None:
    if c.qk_norm == "off" or c.norm.kind != "none":
        return None
    return Problem("qk_norm", "QK-norm uses the model's kind of norm, and there is none.", "Choose a norm, or switch QK-norm off.")


def _ramp(c: ModelConfig) -> Problem | None:
    options = getattr(getattr(c.position.options, "scaling", None), "options", None)
    for low, high in (("low", "high"), ("beta_slow", "beta_fast")):
        if hasattr(options, low) and not getattr(options, low) < getattr(options, high):
            found = f"{getattr(options, low):g} is not below {getattr(options, high):g}"
            return Problem(f"position.scaling.{low}", f"The scaling's lower bound {found}.", "Choose a smaller lower bound.")
    return None


_RULES = (_width_over_heads, _shared_heads, _pairs, _nope_needs_rotation, _full_needs_window, _scaled_once, _qk_norm_needs_norm, _ramp)
