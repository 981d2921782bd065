"""A Hugging Face hub on this machine: the endpoints that are asked here, and everything that may go wrong with them."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

LFS_ABOVE = 1000
"""Bytes; larger files are kept in Git LFS and served by redirect, as on the hub."""
PIECE = 4096


def commit_of(files: Mapping[str, bytes]) -> str:
    """Another commit whenever a file changes."""
    digest = hashlib.sha1()
    for name, content in sorted(files.items()):
        digest.update(name.encode() + content)
    return digest.hexdigest()


@dataclass
class Repo:
    """One repository. `info` overrides what its page says; `token` is who may read it ("" everybody)."""

    files: dict[str, bytes]
    downloads: int = 100
    likes: int = 7
    gated: bool = False
    token: str = ""
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        return commit_of(self.files)

    def siblings(self, blobs: bool) -> list[dict[str, Any]]:
        if not blobs:
            return [{"rfilename": name} for name in self.files]
        found = []
        for name, content in self.files.items():
            blob = b"blob %d\0" % len(content) + content
            one: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": hashlib.sha1(blob).hexdigest()}
            if len(content) > LFS_ABOVE:
                one["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 130}
            found.append(one)
        return found

    def page(self, id: str, blobs: bool) -> dict[str, Any]:
        about: dict[str, Any] = {
            "id": id, "modelId": id, "sha": self.commit, "downloads": self.downloads, "likes": self.likes,
            "lastModified": "2026-03-04T05:06:07.000Z", "gated": "manual" if self.gated else False, "private": False,
            "siblings": self.siblings(blobs),
        }  # fmt: skip
        if "config.json" in self.files:
            config = json.loads(self.files["config.json"])
            about["config"] = {k: config[k] for k in ("model_type", "architectures", "quantization_config") if k in config}
        return {**about, **self.info}


class HubServer:
    """`repos` by id. What goes wrong next is set on the attributes; `asked` is the log of (method, path, headers)."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.status: int | None = None
        """Every answer has this status."""
        self.drop_after: int | None = None
        """The connection breaks once after so many bytes of a large file; `drops` times."""
        self.drops = 0
        self.ignore_ranges = False
        self.corrupt = False
        self.hold_after: int | None = None
        """After so many bytes of a large file nothing comes any more, until `go_on` is set."""
        self.go_on = threading.Event()
        self.holding = threading.Event()
        server = self

        class Handler(_Handler):
            hub = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self.go_on.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def ranges(self) -> list[str]:
        """The Range headers of the requests for file contents, "" for whole files."""
        return [headers.get("Range", "") for method, path, headers in self.asked if method == "GET" and path.startswith("/cdn/")]


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        self.hub.asked.append((self.command, url.path, dict(self.headers.items())))
        if self.hub.status is not None:
            self._send(self.hub.status, b'{"error": "as the test wants it"}')
        elif url.path == "/api/models":
            self._search(query)
        elif url.path.startswith("/api/models/"):
            self._page(url.path.removeprefix("/api/models/"), query)
        elif url.path.startswith("/cdn/"):
            self._content(url.path.removeprefix("/cdn/"))
        elif "/resolve/" in url.path:
            self._resolve(url.path)
        else:
            self._send(404, b"{}")

    def _search(self, query: dict[str, list[str]]) -> None:
        text, limit = query.get("search", [""])[0].lower(), int(query.get("limit", ["20"])[0])
        hits = sorted(((id, r) for id, r in self.hub.repos.items() if text in id.lower()), key=lambda x: -x[1].downloads)
        self._send(200, json.dumps([repo.page(id, False) for id, repo in hits[:limit]]).encode())

    def _page(self, rest: str, query: dict[str, list[str]]) -> None:
        id, _, tree = rest.partition("/tree/")
        repo = self._allowed(id, contents=False)
        if repo is None:
            return
        if tree:
            entries = [{"type": "file", "path": s["rfilename"], "size": s["size"], "oid": s["blobId"]} for s in repo.siblings(True)]
            self._send(200, json.dumps(entries).encode())
        else:
            self._send(200, json.dumps(repo.page(id, query.get("blobs", ["false"])[0].lower() == "true")).encode())

    def _resolve(self, path: str) -> None:
        id, _, rest = path.lstrip("/").partition("/resolve/")
        name = urllib.parse.unquote(rest.partition("/")[2])
        repo = self._allowed(id, contents=True)
        if repo is None:
            return
        if name not in repo.files:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return
        content = repo.files[name]
        sha = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{sha[:40]}"'}
        if len(content) > LFS_ABOVE:
            moved = {"X-Linked-Etag": f'"{sha}"', "X-Linked-Size": str(len(content)), "Location": f"/cdn/{id}/{urllib.parse.quote(name)}"}
            self._send(302, b"", headers | moved)
        else:
            self._send(200, content, headers)

    def _allowed(self, id: str, contents: bool) -> Repo | None:
        """The repository, unless it is not there or the token is wrong; then the answer that the hub gives."""
        repo, token = self.hub.repos.get(id), self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token == "revoked":
            self._send(401, b"{}", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif repo is None or (repo.token and not repo.gated and token != repo.token):
            self._send(401 if not token else 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif repo.gated and contents and token != repo.token:
            self._send(403 if token else 401, b"{}", {"X-Error-Code": "GatedRepo"})
        else:
            return repo
        return None

    def _content(self, path: str) -> None:
        owner, repo, name = urllib.parse.unquote(path).split("/", 2)
        content = self.hub.repos[f"{owner}/{repo}"].files[name]
        if self.hub.corrupt:
            content = bytes([content[0] ^ 1]) + content[1:]
        begin, status, headers = 0, 200, {"Accept-Ranges": "bytes"}
        wanted = self.headers.get("Range", "")
        if wanted and not self.hub.ignore_ranges:
            begin, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self._head(status, len(content) - begin, headers)
        sent = 0
        for at in range(begin, len(content), PIECE):
            if self.hub.hold_after is not None and sent >= self.hub.hold_after:
                self.wfile.flush()
                self.hub.holding.set()
                self.hub.go_on.wait()
            if self.hub.drop_after is not None and self.hub.drops and sent >= self.hub.drop_after:
                self.hub.drops -= 1
                self.close_connection = True
                return
            try:
                self.wfile.write(content[at : at + PIECE])
            except OSError:  # the other side hung up
                self.close_connection = True
                return
            sent += PIECE

    def _head(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._head(status, len(body), headers or {})
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def hub_on_this_machine(patch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A running server, and `huggingface_hub` online with no token and no proxy between."""
    from huggingface_hub import close_session, constants

    server = HubServer()
    close_session()
    try:
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_TOKEN_PATH", "/nowhere/token")
        patch.delenv("HF_TOKEN", raising=False)
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield server
    finally:
        server.close()
        close_session()
