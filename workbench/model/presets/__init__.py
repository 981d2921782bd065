"""Named architectures, as the literature means them. A new lineage is one file with a tuple `MEMBERS`, and one line below."""

from __future__ import annotations

from workbench.model.presets import bert, bloom, falcon, gemma, gpt, llama, mistral, neox, olmo, phi, qwen, smollm, tiny, transformer
from workbench.model.presets.base import Preset

_LINEAGES = (tiny, transformer, gpt, bert, neox, bloom, llama, smollm, mistral, qwen, falcon, phi, olmo, gemma)

PRESETS: dict[str, Preset] = {preset.name: preset for lineage in _LINEAGES for preset in lineage.MEMBERS}

__all__ = ["PRESETS", "Preset"]
