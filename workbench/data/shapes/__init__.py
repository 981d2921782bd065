"""What a row means: formats of conversations and documents. A new one is one file here and one import line below.

Imported in the order in which they are tried.
"""

from __future__ import annotations

from workbench.data.shapes.base import SHAPES, RoleMap, RowShape, role_map, shape_of

from workbench.data.shapes.messages import Messages  # isort: skip
from workbench.data.shapes.sharegpt import ShareGPT  # isort: skip
from workbench.data.shapes.alpaca import Alpaca  # isort: skip
from workbench.data.shapes.prompt_completion import PromptCompletion  # isort: skip
from workbench.data.shapes.columns import Columns  # isort: skip
from workbench.data.shapes.document import Document  # isort: skip

__all__ = [
    "SHAPES", "Alpaca", "Columns", "Document", "Messages", "PromptCompletion", "RoleMap", "RowShape", "ShareGPT", "role_map", "shape_of",
]  # fmt: skip
