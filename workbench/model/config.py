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
    Option("off", "None", "Queries and keys are used as projected.", "s = q · k", "GPT-2, LLaMA, Mistral"),
    Option(
        "head", "Per head", "Each head's queries and keys are normalised with one gain that all heads share.",
        "s = N(q_h) · N(k_h)", "Qwen3", "arXiv:2505.09388",
    ),
    Option(
        "full", "All heads at once", "The whole query and key vectors are normalised before they are split into heads.",
        "s = N(q)_h · N(k)_h", "OLMo 2", "arXiv:2501.00656",
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture of one transformer: what must be known to rebuild it, no more."""

    n_layers: int = setting(
        6, label="Layers", key="num_hidden_layers", group="Size", minimum=1, maximum=256, source="arXiv:1706.03762",
        used_by="GPT-2 (12), LLaMA 7B (32), GPT-3 175B (96)", help="Number of transformer blocks.",
    )  # fmt: skip
    d_model: int = setting(
        384, label="Width", key="hidden_size", group="Size", minimum=8, maximum=65536, source="arXiv:1706.03762",
        used_by="GPT-2 (768), LLaMA 7B (4,096), GPT-3 175B (12,288)",
        help="Width of the residual stream: one vector of this size per token.",
    )  # fmt: skip
    n_heads: int = setting(
        6, label="Attention heads", key="num_attention_heads", group="Attention", minimum=1, maximum=1024, source="arXiv:1706.03762",
        equation="o = W_o [a_1 … a_H],  a_h = softmax(q_h k_hᵀ / √D) v_h", used_by="GPT-2 (12), LLaMA 7B (32), Falcon 7B (71)",
        help="Number of query heads.",
    )  # fmt: skip
    n_kv_heads: int | None = setting(
        None, label="Key/value heads", key="num_key_value_heads", group="Attention", minimum=1, maximum=1024, none_label="one per head",
        source="arXiv:2305.13245", equation="query head h reads key/value head ⌊h · G / H⌋",
        used_by="LLaMA 2 70B, LLaMA 3, Mistral, Qwen2.5, SmolLM2; Falcon 7B (one for all)",
        help="Query heads share this many key/value heads; fewer make the KV cache smaller.",
    )  # fmt: skip
    head_dim: int | None = setting(
        None, label="Head width", key="head_dim", group="Attention", minimum=2, maximum=1024, none_label="width / heads", advanced=True,
        source="arXiv:2403.08295", used_by="Qwen3 (128), Gemma 2 (256)",
        help="Width of each head; only unusual models set it apart from width / heads.",
    )  # fmt: skip
    d_ff: int | None = setting(
        None, label="MLP width", key="intermediate_size", group="MLP", minimum=1, maximum=1_048_576, none_label="4 × width",
        source="arXiv:1706.03762", used_by="GPT-2 (4 × width), LLaMA (about 8/3 × width, because its MLP has three matrices)",
        help="Inner width of each block's MLP.",
    )  # fmt: skip
    vocab_size: int = setting(
        259, label="Vocabulary", key="vocab_size", group="Size", unit="tokens", minimum=2, maximum=2_000_000, source="arXiv:1508.07909",
        used_by="LLaMA (32,000), GPT-2 (50,257), LLaMA 3 (128,256), Gemma 2 (256,000)", help="Number of tokens the model knows.",
    )  # fmt: skip
    max_positions: int = setting(
        1024, label="Context", key="max_position_embeddings", group="Size", unit="tokens", minimum=8, maximum=1_048_576,
        used_by="GPT-2 (1,024), LLaMA (2,048), LLaMA 3 (8,192), LLaMA 3.1 (131,072)", help="Longest sequence the model was made for.",
    )  # fmt: skip
    position: Choice[Position] = choice(
        POSITIONS, "rope", label="Position encoding", group="Position", help="How the model is told where each token stands."
    )
    nope_every: int | None = setting(
        None, label="Skip position every", group="Position", unit="layers", minimum=1, maximum=256, none_label="never", advanced=True,
        source="arXiv:2501.18795", equation="block l turns nothing where (l + 1) mod n = 0", used_by="SmolLM3 (4)",
        help="Every n-th block leaves queries and keys unrotated, as SmolLM3 does with n = 4.",
    )  # fmt: skip
    norm: Choice[nn.Module] = choice(NORMS, "rmsnorm", label="Norm", group="Norm", help="How vectors are normalised.")
    residual: Choice[Residual] = choice(
        RESIDUALS, "pre", label="Norm placement", group="Norm", help="Where the norms sit and how each branch joins the residual stream."
    )
    qk_norm: str = pick(
        QK_NORMS, "off", label="QK-norm", group="Norm", advanced=True, source="arXiv:2302.05442",
        used_by="Qwen3, OLMo 2, ViT-22B",
        help="Normalises queries and keys before the rotation, which keeps attention scores bounded.",
    )  # fmt: skip
    final_norm: bool | None = setting(
        None, label="Final norm", group="Norm", advanced=True, none_label="where needed",
        source="arXiv:2002.04745", equation="logits = W N(x_L)", used_by="GPT-2, LLaMA and all other pre-norm models",
        help="A norm before the output head; pre-norm stacks need it because their stream leaves the last block un-normalised.",
    )  # fmt: skip
    mlp: Choice[nn.Module] = choice(
        MLPS, "swiglu", label="MLP", group="MLP", key="hidden_act", help="The kind of feed-forward part in each block."
    )
    tie_embeddings: bool = setting(
        True, label="Tie embeddings", key="tie_word_embeddings", group="Embedding and head", source="arXiv:1608.05859",
        equation="logits = E h", used_by="Transformer 2017, GPT-2, BERT, SmolLM2, Gemma; not by LLaMA 7B and Pythia",
        help="The output head uses the token embedding's matrix, which saves vocabulary × width parameters.",
    )  # fmt: skip
    scale_embeddings: bool = setting(
        False, label="Scale embeddings by √width", group="Embedding and head", advanced=True, source="arXiv:2403.08295",
        equation="x_0 = √C · E[token]", used_by="Gemma",
        help="Multiplies token embeddings by √width, so that tied embeddings are as large as what the blocks add.",
    )  # fmt: skip
    embedding_norm: bool = setting(
        False, label="Norm after the embedding", group="Embedding and head", advanced=True, source="arXiv:1810.04805",
        equation="x_0 = N(E[token] + …)", used_by="BERT, BLOOM",
        help="Normalises the sum of all embeddings before the first block.",
    )  # fmt: skip
    segment_types: int | None = setting(
        None, label="Segment embeddings", key="type_vocab_size", group="Embedding and head", minimum=1, maximum=64, none_label="none",
        advanced=True, source="arXiv:1810.04805", equation="x_0 = E[token] + S[0] + …", used_by="BERT (2)",
        help="A table that tells first from second sentence; every token here belongs to the first.",
    )  # fmt: skip
    head_transform: bool = setting(
        False, label="Transform before the head", group="Embedding and head", advanced=True, source="arXiv:1810.04805",
        equation="logits = E · N(GELU(W h + b))", used_by="BERT",
        help="A linear layer, GELU and a norm before the output matrix.",
    )  # fmt: skip
    head_bias: bool = setting(
        False, label="Head bias", group="Embedding and head", advanced=True, source="arXiv:1810.04805", equation="logits = E h + b",
        used_by="BERT, Phi", help="Adds a bias to each token's logit.",
    )  # fmt: skip
    logit_softcap: float | None = setting(
        None, label="Logit soft-cap", key="final_logit_softcapping", group="Embedding and head", minimum=0.1, maximum=1000,
        none_label="off", advanced=True, source="arXiv:2408.00118", equation="z ← c · tanh(z / c)", used_by="Gemma 2 (30)",
        help="Bounds the final logits smoothly to ±c.",
    )  # fmt: skip
    attention_bias: bool = setting(
        False, label="Q, K, V biases", key="attention_bias", group="Attention", advanced=True, source="arXiv:2309.16609",
        equation="q = W_q x + b_q, and so k and v", used_by="GPT-2, BERT, BLOOM, Pythia, Phi, Qwen2.5",
        help="Adds biases to the query, key and value projections.",
    )  # fmt: skip
    attention_out_bias: bool = setting(
        False, label="Output bias", group="Attention", advanced=True, source="Radford et al. 2019", equation="o = W_o a + b_o",
        used_by="GPT-2, BERT, BLOOM, Pythia, Phi", help="Adds a bias to the attention's output projection.",
    )  # fmt: skip
    mlp_bias: bool = setting(
        False, label="MLP biases", key="mlp_bias", group="MLP", advanced=True, source="arXiv:1706.03762",
        equation="y = W₂ act(W₁ x + b₁) + b₂", used_by="Transformer 2017, GPT-2, BERT, BLOOM, Pythia, Phi",
        help="Adds biases to the MLP's matrices.",
    )  # fmt: skip
    sliding_window: int | None = setting(
        None, label="Sliding window", key="sliding_window", group="Attention", unit="tokens", minimum=1, maximum=1_048_576,
        none_label="off",
        source="arXiv:2310.06825", equation="i sees j where i − W < j ≤ i", used_by="Mistral 7B v0.1 (4,096), Gemma 2 (4,096)",
        help="Each token attends to itself and the W−1 tokens before it only.",
    )  # fmt: skip
    full_attention_every: int | None = setting(
        None, label="Full attention every", group="Attention", unit="layers", minimum=1, maximum=256, none_label="never", advanced=True,
        source="arXiv:2408.00118", equation="block l has no window where (l + 1) mod n = 0", used_by="Gemma 2 (2)",
        help="Every n-th block attends to everything while the others keep to the window.",
    )  # fmt: skip
    attention_scale: float | None = setting(
        None, label="Score scale", group="Attention", minimum=1e-4, maximum=100, none_label="1 / √head width", advanced=True,
        source="arXiv:2408.00118", equation="s = scale · q kᵀ", used_by="Gemma 2 (1/√256, and 1/√144 at 27B)",
        help="Multiplies the products of queries and keys; Gemma-2 stores it as query_pre_attn_scalar^(−½).",
    )  # fmt: skip
    causal: bool = setting(
        True, label="Causal", group="Attention", advanced=True, source="arXiv:1810.04805",
        equation="i sees j where j ≤ i", used_by="GPT, LLaMA and all that write; not by BERT",
        help="Tokens see only what comes before them. Without it every token sees all others: such a model cannot write, "
        "and learns by filling in masked tokens.",
    )  # fmt: skip
    attention_softcap: float | None = setting(
        None, label="Score soft-cap", key="attn_logit_softcapping", group="Attention", minimum=0.1, maximum=1000, none_label="off",
        advanced=True, source="arXiv:2408.00118", equation="s ← c · tanh(s / c)", used_by="Gemma 2 (50), Grok-1 (30)",
        help="Bounds attention scores smoothly to ±c; costs the fused attention kernel.",
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
