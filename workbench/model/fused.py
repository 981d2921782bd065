"""Where q, k and v lie in matrices that hold all three, as other programs store them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.model.config import ModelConfig


def group_rows(config: ModelConfig) -> Sequence[np.ndarray[Any, Any]]:
    """The rows of q, of k and of v in a matrix laid out group by group: the queries that share a key/value head, its key, its value.

    One head to a group (GPT-NeoX, Falcon-RW) and one group in all (Falcon-7B) are special cases of it.
    """
    groups, width = config.kv_heads, config.head_width
    rows = np.arange((config.n_heads + 2 * groups) * width).reshape(groups, -1, width)
    return [rows[:, part].reshape(-1) for part in (slice(0, -2), slice(-2, -1), slice(-1, None))]
