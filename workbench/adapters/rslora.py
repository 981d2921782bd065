"""RsLoRA: LoRA scaled so that its gradients do not depend on the rank."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from workbench.adapters.base import ADAPTERS
from workbench.adapters.lora import Lora


@ADAPTERS.register(
    "rslora",
    label="RsLoRA",
    source="arXiv:2312.03732",
    equation="y = W x + (α/√r) · B (A x)",
    used_by="PEFT (use_rslora)",
    help="LoRA scaled by α/√r: gradients keep their size at any rank, so high ranks learn; it equals LoRA with α·√r.",
)
class RankStabilizedLora(Lora):
    """Differs from LoRA in the scale alone."""

    peft_flags: ClassVar[Mapping[str, bool]] = {"use_rslora": True, "use_dora": False}

    @staticmethod
    def scale_rule(alpha: float, r: int) -> float:
        return alpha / math.sqrt(r)
