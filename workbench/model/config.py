"""The architecture of a model, as data."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from workbench.core.fields import Problem, choice, coerce_choices, field_problems, setting
from workbench.core.registry import Choice
from workbench.model.init import INITS, Init
from workbench.parts.mlps import MLPS
from workbench.parts.norms import NORMS
from workbench.parts.positions import POSITIONS, Position
from workbench.parts.residuals import RESIDUALS, Residual


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture of one decoder-only transformer: what must be known to rebuild it, no more."""

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
    qk_norm: bool = setting(
        False, label="QK-norm", group="Norm", advanced=True, source="arXiv:2302.05442",
        help="Normalises each head's queries and keys before the rotation, as Qwen3 does; keeps scores bounded.",
    )  # fmt: skip
    final_norm: bool | None = setting(
        None, label="Final norm", group="Norm", advanced=True, none_label="where needed",
        help="A norm before the output head; pre-norm stacks need it because their stream leaves the last block un-normalised.",
    )  # fmt: skip
    mlp: Choice[nn.Module] = choice(
        MLPS, "swiglu", label="MLP", group="MLP", key="hidden_act", help="The kind of feed-forward part in each block."
    )
    tie_embeddings: bool = setting(
        True, label="Tie embeddings", key="tie_word_embeddings", group="Size", source="arXiv:1608.05859",
        help="The output head uses the token embedding's matrix, which saves vocabulary × width parameters.",
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

    def problems(self) -> list[Problem]:
        """Every rule that is broken, all at once; empty when the model can be built."""
        found = field_problems(self)
        if found:
            return found
        if self.head_dim is None and self.d_model % self.n_heads:
            found.append(
                Problem(
                    "n_heads",
                    f"Width {self.d_model} cannot be split over {self.n_heads} heads.",
                    "Choose a divisor of the width, or set the head width.",
                )
            )
        if self.n_heads % self.kv_heads:
            found.append(
                Problem(
                    "n_kv_heads",
                    f"{self.n_heads} query heads cannot share {self.kv_heads} key/value heads.",
                    f"Choose a divisor of {self.n_heads}.",
                )
            )
        if self.position.kind == "rope" and self.head_width % 2:
            found.append(Problem("position", f"RoPE turns pairs, but the head width is {self.head_width}.", "Choose an even head width."))
        return found
