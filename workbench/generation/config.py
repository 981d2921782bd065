"""How the next token is picked and when a reply ends; the names are those of transformers' `GenerationConfig`."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.core.fields import Problem, field_problems, setting

MAX_SEED = 2**31 - 1
"""Seeds fit the number fields of every toolkit."""


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Settings of one reply. `problems()` lists every broken rule; the processors' order is that of `sampling.process`."""

    max_new_tokens: int = setting(
        512, label="Longest reply", unit="tokens", group="Length", minimum=1, maximum=131_072, log=True,
        help="The reply ends after this many new tokens, unless the model ends it earlier.",
    )  # fmt: skip
    do_sample: bool = setting(
        True, label="Sample", group="Sampling",
        help="Draw each token at random from the model's distribution; when off, always take the likeliest one (greedy).",
    )  # fmt: skip
    temperature: float = setting(
        0.2, label="Temperature", group="Sampling", minimum=0.0, maximum=2.0,
        help="Divides the logits before sampling: below 1 sharpens the distribution, above 1 flattens it; 0 is greedy. Small models want "
        "little: the starter model's makers use 0.2, larger ones are mostly run at 0.7 to 1.",
    )  # fmt: skip
    top_k: int = setting(
        50, label="Top k", unit="tokens", group="Sampling", minimum=0, source="arXiv:1805.04833",
        help="Only the k likeliest tokens can be drawn; 0 turns this off.",
    )  # fmt: skip
    top_p: float = setting(
        0.9, label="Top p", group="Sampling", minimum=0.0, maximum=1.0, source="arXiv:1904.09751",
        help="Only the smallest set of likeliest tokens whose probabilities add up to p can be drawn (nucleus); 1 turns this off.",
    )  # fmt: skip
    min_p: float = setting(
        0.0, label="Min p", group="Sampling", minimum=0.0, maximum=1.0, source="arXiv:2407.01082",
        help="Tokens less likely than this fraction of the likeliest one's probability cannot be drawn; 0 turns this off.",
    )  # fmt: skip
    repetition_penalty: float = setting(
        1.0, label="Repeat penalty", group="Sampling", minimum=0.5, maximum=2.0, source="arXiv:1909.05858",
        help="Makes tokens that already stand in the prompt or the reply less likely (above 1) or more likely (below 1); 1 turns this off.",
    )  # fmt: skip
    seed: int | None = setting(
        None, label="Seed", group="Sampling", minimum=0, maximum=MAX_SEED, none_label="random",
        help="The same seed, prompt and settings give the same reply on the same machine; leave it out for a new reply each time.",
    )  # fmt: skip
    stop: tuple[str, ...] = setting(
        (), label="Stop strings", group="Length", key="stop_strings", verbatim=True,
        help="The reply ends as soon as one of these texts appears in it; the text itself is cut off.",
    )  # fmt: skip

    @property
    def greedy(self) -> bool:
        """True when no random number is drawn."""
        return not self.do_sample or self.temperature == 0.0

    def problems(self) -> list[Problem]:
        """Every broken bound or rule, all at once; empty when usable."""
        found = field_problems(self)
        if not any(p.field == "stop" for p in found):
            if any(not isinstance(s, str) for s in self.stop):
                found.append(Problem("stop", "Stop strings must be texts.", "Give each one as text."))
            elif "" in self.stop:
                found.append(Problem("stop", "A stop string is empty, so every reply would end at once.", "Remove it."))
        return found
