"""Asking the hub: what models there are, what one of them holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from workbench import __version__
from workbench.core.control import Control
from workbench.core.errors import DownloadError
from workbench.core.events import Progress
from workbench.hub.describe import HubModel, HubPage, describe, page_of, parse_spec
from workbench.hub.failures import explain
from workbench.hub.line import Line, Stopped, follow

T = TypeVar("T")
TIMEOUT = (10.0, 30.0, 30.0, 10.0)
"""Seconds to connect, to wait for bytes, to send, to wait for a free connection."""
RESULTS = 30
_EXPAND = ("config", "downloads", "gated", "gguf", "lastModified", "likes", "safetensors", "siblings")


class Hub:
    """One hub. `endpoint` and `token` default to what `huggingface_hub` finds in the environment and in its saved login."""

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        self._endpoint = endpoint
        self._token = token

    @property
    def endpoint(self) -> str:
        """The hub's address, without a slash at its end."""
        from huggingface_hub import constants

        return (self._endpoint or constants.ENDPOINT).rstrip("/")

    def headers(self) -> dict[str, str]:
        """Who asks, and the token if there is one."""
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        headers = build_hf_headers(token=self._token, library_name="llm-workbench", library_version=__version__)
        return {**headers, "Accept-Encoding": "identity"}  # sizes and ranges are those of the files themselves

    def search(self, text: str, control: Control | None = None, limit: int = RESULTS) -> Generator[Progress, None, tuple[HubModel, ...]]:
        """Models whose name holds `text`, the most downloaded first. Raises `DownloadError` (offline, refused, stopped)."""
        ask = {"search": text.strip(), "sort": "downloads", "limit": limit, "expand": list(_EXPAND)}
        found = yield from self._ask("/api/models", ask, "the search", f"Searching for {text.strip()!r}", control)
        return tuple(self._understood(found, describe, "the search"))

    def look(self, repo: str, control: Control | None = None) -> Generator[Progress, None, HubPage]:
        """What a repository holds, with exact sizes and digests. Raises `DownloadError`."""
        repo, _ = parse_spec(repo)
        found = yield from self._ask(f"/api/models/{repo}", {"blobs": True}, repo, f"Looking at {repo}", control)
        page = self._understood([found], page_of, repo)[0]
        if page.model.id != repo:
            raise DownloadError(
                f"The hub answers for {page.model.id!r} when asked for {repo}.",
                hint="The model may have been renamed, or the address is no hub: search for it, and check HF_ENDPOINT.",
            )
        return page

    def _understood(self, found: Any, make: Callable[[Any], T], what: str) -> list[T]:
        """`make` of each of the models in an answer. Raises `DownloadError` when one is not as the hub describes models."""
        from huggingface_hub import ModelInfo

        try:
            return [make(ModelInfo(**item)) for item in found]  # type: ignore[no-untyped-call]
        except (TypeError, LookupError, ValueError, AttributeError, OverflowError) as error:
            raise explain(error, what, self.endpoint) from error

    def _ask(self, path: str, ask: dict[str, Any], what: str, message: str, control: Control | None) -> Generator[Progress, None, Any]:
        try:
            return (yield from follow(lambda line: self._get(line, path, ask), control or Control(), lambda: Progress(message=message)))
        except Stopped:
            raise DownloadError(f"Asking the hub for {what} was stopped.", hint="Ask again at any time.") from None
        except Exception as error:
            raise explain(error, what, self.endpoint) from error

    def _get(self, line: Line, path: str, ask: dict[str, Any]) -> Any:
        from huggingface_hub import get_session, hf_raise_for_status

        with get_session().stream("GET", self.endpoint + path, params=ask, headers=self.headers(), timeout=TIMEOUT) as response:
            with line.carrying(response):
                response.read()
            hf_raise_for_status(response)
            return response.json()


def retry_delay(response: Any, tries: int) -> float:
    """Seconds to wait before trying again: what the hub asks for, at most a minute, else 1, 2, 4, 8."""
    asked = str(response.headers.get("Retry-After", "")) if response is not None else ""
    return min(60.0, float(asked)) if asked.isdigit() else math.ldexp(1, min(tries, 3))
