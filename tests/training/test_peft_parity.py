"""A short run equals PEFT + transformers step by step: same start, same batches, same losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tools import dataset, drain, losses
from workbench.adapters import LoraConfig, attach
from workbench.adapters.peft import save_adapter
from workbench.checkpoints import load_checkpoint
from workbench.data import batches
from workbench.training import TrainConfig, train

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
STEPS = 20
TARGETS = {"llama": ("all-linear",), "gpt2": ("o_proj", "up_proj", "down_proj")}
"""GPT-2's c_attn is left out: one A for q, k and v together is another function class than three."""


def theirs(family: str, folder: Path) -> Any:
    import transformers

    torch.manual_seed(0)
    if family == "gpt2":
        sizes: Any = transformers.GPT2Config(
            vocab_size=40, n_positions=32, n_embd=24, n_layer=2, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            initializer_range=0.2, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        model: Any = transformers.GPT2LMHeadModel(sizes)
    else:
        sizes = transformers.LlamaConfig(
            vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            initializer_range=0.2,
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(sizes)
    model.save_pretrained(folder)
    return model


def their_losses(model: Any, config: TrainConfig) -> list[float]:
    """A plain loop: mean over the update's trained tokens, clipping, AdamW, transformers' schedule."""
    import transformers

    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = transformers.get_scheduler("cosine", optimizer, 2, STEPS)
    micro = batches(dataset(), config.per_device_train_batch_size, config.seed, None)
    curve = []
    for _ in range(STEPS):
        group = [next(micro) for _ in range(config.gradient_accumulation_steps)]
        count, total = sum(b.targets for b in group), 0.0
        for batch in group:
            mask = (batch.positions >= 0).long()
            logits = model(input_ids=batch.ids, attention_mask=mask).logits[:, :-1].flatten(0, 1)
            loss = torch.nn.functional.cross_entropy(logits, batch.labels[:, 1:].flatten(), reduction="sum") / count
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        curve.append(total)
    return curve


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("method", ["lora", "rslora"])
def test_losses_equal_pefts(family: str, method: str, tmp_path: Path) -> None:
    import peft

    reference = theirs(family, tmp_path / "base")
    model = load_checkpoint(tmp_path / "base", dtype=torch.float32).model
    attach(model, LoraConfig(method=method, r=4, lora_alpha=8, target_modules=TARGETS[family]))
    save_adapter(model, "default", tmp_path / "start", family)
    wrapped = peft.PeftModel.from_pretrained(reference, tmp_path / "start", is_trainable=True)
    config = TrainConfig(
        max_steps=STEPS, learning_rate=1e-2, warmup_ratio=0.1, dtype="float32", gradient_accumulation_steps=2, eval_steps=None,
        save_steps=None, weight_decay=0.01,
    )  # fmt: skip
    events, _ = drain(train(model, dataset(), config))
    mine, expected = losses(events), their_losses(wrapped, config)
    assert mine[-1] < mine[0] - 0.1, "it learns"
    assert max(abs(a - b) for a, b in zip(mine, expected, strict=True)) <= 1e-4
