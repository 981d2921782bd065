"""A tokenizer whose ids are bytes, and files written on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench.tokenizers import ByteTokenizer, ChatTemplate, Tokenizer, chat_template


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return ByteTokenizer()


@pytest.fixture(scope="session")
def chatml(tokenizer: Tokenizer) -> ChatTemplate:
    return chat_template(None, tokenizer)


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(name, text or bytes or rows) -> path; rows become JSON Lines."""

    def make(name: str, content: str | bytes | list[Any]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        return path

    return make
