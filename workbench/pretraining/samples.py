"""What a model writes while it learns."""

from __future__ import annotations

import torch

from workbench.adapters.dropout import mixed
from workbench.caches import KVCache
from workbench.core.control import Control
from workbench.data import IGNORED, Corpus, collate
from workbench.generation import GenerationConfig, generate
from workbench.model import Transformer
from workbench.tokenizers import Tokenizer, end_of_text_id
from workbench.training import PretrainConfig
from workbench.training.objectives import Objective

_TEMPERATURE, _TOP_P = 0.7, 0.95


class Samples:
    """Texts of one model at chosen steps. The step and the seed decide what is drawn, so that a resumed run writes the same."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, objective: Objective, corpus: Corpus, config: PretrainConfig) -> None:
        self._model, self._tokenizer, self._objective, self._config = model, tokenizer, objective, config
        self._passages = corpus.validation if len(corpus.validation) else corpus.training

    @property
    def prompt(self) -> str:
        """What each sample continues."""
        return self._config.sample_prompt

    def due(self, step: int) -> bool:
        """Whether a sample belongs after this update."""
        every = self._config.sample_every
        return every is not None and step % every == 0

    def text(self, step: int, control: Control) -> str:
        """What the model writes now; empty when `control` stopped it first."""
        return self._continued(step, control) if self._objective.causal else self._filled(step)

    def _continued(self, step: int, control: Control) -> str:
        config, tokenizer, end = self._config, self._tokenizer, end_of_text_id(self._tokenizer)
        room = min(self._model.config.max_positions, config.max_length)
        begin = [end] if end is not None else []
        ids = ([*begin, *tokenizer.encode(config.sample_prompt)] or [0])[: room - 1]
        wanted = min(config.sample_tokens, room - len(ids))
        settings = GenerationConfig(
            max_new_tokens=wanted, temperature=_TEMPERATURE, top_k=0, top_p=_TOP_P, seed=mixed(config.seed, step) % 2**31
        )
        cache = KVCache.for_model(self._model, "exact", len(ids) + wanted)
        steps = generate(self._model, tokenizer, ids, settings, cache=cache, control=control)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return str(done.value.text)

    @torch.inference_mode()
    def _filled(self, step: int) -> str:
        """A held-out passage in which the model's guesses stand in brackets."""
        noise = mixed(self._config.seed, step)
        task = self._objective.task(collate(self._passages, [noise % len(self._passages)]), noise)
        shown = slice(0, self._config.sample_tokens)
        guesses = self._model(task.ids.to(self._model.device)).argmax(-1)[0, shown].tolist()
        written = ""
        plain: list[int] = []
        for id, target, guess in zip(task.ids[0, shown].tolist(), task.targets[0, shown].tolist(), guesses, strict=True):
            if target == IGNORED:
                plain.append(id)
            else:
                written += self._tokenizer.decode(plain) + f"[{self._tokenizer.token_text(guess)}]"
                plain = []
        return written + self._tokenizer.decode(plain)
