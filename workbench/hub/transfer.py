"""One file over HTTP: resumed by range, counted, checked.

`huggingface_hub.hf_hub_download` keeps no partial files (since 1.x each process writes to a file of its own and removes it,
huggingface_hub pull request 4228), so the bytes are read here, through that library's session, headers and errors.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from workbench.core.errors import DownloadError
from workbench.hub.client import TIMEOUT, Hub, retry_delay
from workbench.hub.describe import HubFile, HubPage
from workbench.hub.line import Line
from workbench.hub.progress import Tally

if TYPE_CHECKING:
    from hashlib import _Hash

TRIES = 5
"""Failures in a row, without a byte in between, before a download gives up."""
CHUNK = 1 << 20
_TRANSIENT = (408, 429, 500, 502, 503, 504)


def key_of(file: HubFile, page: HubPage) -> str:
    """Its name while it is on its way: of its content, so that parts survive a commit that did not touch the file."""
    content = file.digest or f"{page.commit}/{file.name}"
    return f"{hashlib.sha256(content.encode()).hexdigest()[:12]}-{file.base}"


def bring(hub: Hub, page: HubPage, file: HubFile, work: Path, line: Line, tally: Tally) -> None:
    """Have `file` whole and checked in `work` under its key. Raises what the network or the disk raise, or `DownloadError`."""
    done = work / key_of(file, page)
    part = done.with_name(f"{done.name}.part")
    if done.is_file():
        tally.found(file.size)
        return
    before = tally.done
    failures = 0
    with part.open("ab") as out:
        digest = _take_up(part, out, file, line, tally)
        while out.tell() < file.size:
            had = out.tell()
            try:
                digest = _stream(hub, page, file, out, digest, line, tally)
                failures = 0 if out.tell() > had else failures + 1
                error: Exception | None = None
            except Exception as found:
                line.check()  # the socket of a call that was given up is closed under it
                if not _is_transient(found):
                    raise
                error, failures = found, 1 if out.tell() > had else failures + 1
            if out.tell() < file.size:
                if failures >= TRIES:
                    raise error or DownloadError(
                        f"The hub sends nothing of {file.name}.", hint="Try again later; what has arrived is kept."
                    )
                tally.message = f"The connection was lost; trying again to get {file.name}"
                line.pause(retry_delay(getattr(error, "response", None), failures))
                tally.message = f"Downloading {page.model.id}"
        out.flush()
        os.fsync(out.fileno())
    if file.digest and digest.hexdigest() != file.digest.partition(":")[2]:
        part.unlink()
        tally.found(before - tally.done)
        raise DownloadError(
            f"{file.name} of {page.model.id} arrived damaged: its checksum is not the one the hub gives.",
            hint="Fetch it again: the other files are kept. If it happens twice, check the proxy or HF_ENDPOINT.",
        )
    line.check()
    os.replace(part, done)


def matches(path: Path, file: HubFile, line: Line, tally: Tally) -> bool:
    """Whether a file that is here has the hub's checksum."""
    with path.open("rb") as opened:
        digest = _read_into(_new_digest(file), opened, line, tally)
    return not file.digest or digest.hexdigest() == file.digest.partition(":")[2]


def _new_digest(file: HubFile) -> _Hash:
    if file.digest.startswith("git:"):  # a git blob's id: SHA-1 over a header and the content
        return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    return hashlib.sha256()


def _read_into(digest: _Hash, opened: BinaryIO, line: Line, tally: Tally) -> _Hash:
    while chunk := opened.read(CHUNK):
        line.check()
        digest.update(chunk)
        tally.found(len(chunk))
    return digest


def _take_up(part: Path, out: BinaryIO, file: HubFile, line: Line, tally: Tally) -> _Hash:
    """The digest of what an earlier try brought; more than the file can have is thrown away."""
    if part.stat().st_size > file.size:
        out.truncate(0)
        out.seek(0)
    with part.open("rb") as before:
        digest = _read_into(_new_digest(file), before, line, tally)
    out.seek(0, os.SEEK_END)
    return digest


def _stream(hub: Hub, page: HubPage, file: HubFile, out: BinaryIO, digest: _Hash, line: Line, tally: Tally) -> _Hash:
    """Append what one answer brings."""
    from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status

    have = out.tell()
    url = hf_hub_url(page.model.id, file.name, revision=page.commit, endpoint=hub.endpoint)
    headers = hub.headers() | ({"Range": f"bytes={have}-"} if have else {})
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as response, line.carrying(response):
        if response.status_code >= 400:
            response.read()
        hf_raise_for_status(response)
        if have and response.status_code == 200:  # a server or proxy that knows no ranges begins anew
            tally.found(-have)
            out.truncate(0)
            out.seek(0)
            digest = _new_digest(file)
        for chunk in response.iter_bytes():
            line.check()
            out.write(chunk)
            digest.update(chunk)
            tally.arrived(len(chunk))
            if out.tell() > file.size:
                raise DownloadError(
                    f"The hub sends more of {file.name} than its {file.size} bytes.", hint="Check the proxy or HF_ENDPOINT."
                )
    return digest


def _is_transient(error: Exception) -> bool:
    """Whether trying again may help."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _TRANSIENT
    refused = (httpx2.ProxyError, httpx2.UnsupportedProtocol)
    return isinstance(error, httpx2.TransportError) and not isinstance(error, refused)
