"""What went wrong between here and the hub, as one sentence and what to do."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path
from typing import Any

from workbench.core.errors import DownloadError, FileError, WorkbenchError

_LATER = "Try again later; what has arrived is kept."


def explain(error: BaseException, what: str, endpoint: str) -> WorkbenchError:
    """The error for people. `what` was being looked at ("owner/repo", "the search")."""
    import ssl

    import httpx2
    from huggingface_hub import errors

    details = "".join(traceback.format_exception_only(error)).strip()
    if isinstance(error, WorkbenchError):
        return error
    if isinstance(error, errors.OfflineModeIsEnabled):
        return DownloadError(
            "Offline mode is on (HF_HUB_OFFLINE), so the hub is not asked.",
            hint="Unset HF_HUB_OFFLINE and start again; what is on this machine opens as it is.",
        )
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(error, what, endpoint, details)
    if isinstance(error, httpx2.ProxyError):
        return DownloadError(f"The proxy did not let {what} through: {error}.", hint="Check HTTPS_PROXY and NO_PROXY.", details=details)
    if isinstance(error, httpx2.TimeoutException):
        return DownloadError(
            f"The hub ({endpoint}) does not answer.", hint="Check the network, then try again; what has arrived is kept.", details=details
        )
    if isinstance(error, httpx2.TransportError):
        if isinstance(_root(error), ssl.SSLError):
            hint = "Set SSL_CERT_FILE to your organisation's certificates, or check the clock."
            return DownloadError(f"The certificate of {endpoint} is not trusted.", hint=hint, details=details)
        hint = "Check the network (and HTTPS_PROXY or HF_ENDPOINT, if you use them), then try again; what has arrived is kept."
        return DownloadError(f"The hub ({endpoint}) cannot be reached.", hint=hint, details=details)
    return DownloadError(f"The hub gave an answer for {what} that cannot be understood.", hint="Try again later.", details=details)


def _root(error: BaseException) -> BaseException:
    """What the network library's error was made of."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _refused(error: Any, what: str, endpoint: str, details: str) -> DownloadError:
    from huggingface_hub import errors, get_token

    status = error.response.status_code
    token = "Give a token that may read it: hf auth login, or the environment variable HF_TOKEN."
    if isinstance(error, errors.GatedRepoError):
        asked = "your token has not been granted access" if get_token() else "it needs an account"
        page = f"{endpoint}/{what.partition(':')[0]}"
        hint = f"Accept its conditions at {page}, then use a token of that account: hf auth login, or HF_TOKEN."
        return DownloadError(f"{what} is gated by its owner, and {asked}.", hint=hint, details=details)
    if isinstance(error, errors.RepositoryNotFoundError):
        return DownloadError(f"There is no model {what} on the hub, or it is private.", hint=f"Check the name. {token}", details=details)
    if isinstance(error, errors.RemoteEntryNotFoundError | errors.RevisionNotFoundError):
        return DownloadError(f"A file of {what} is no longer on the hub.", hint="Search again; it has changed.", details=details)
    told = {
        401: ("The hub does not accept your token.", "Sign in again: hf auth login, or correct HF_TOKEN."),
        403: (f"The hub does not allow {what}.", token),
        404: (f"There is no model {what} on the hub.", "Check the name."),
        429: ("The hub asks to wait: too many requests from here.", "Try again in a few minutes; a token raises the limit (HF_TOKEN)."),
    }
    if status in told:
        return DownloadError(told[status][0], hint=told[status][1], details=details)
    if status >= 500:
        return DownloadError(f"The hub has a problem of its own (status {status}).", hint=_LATER, details=details)
    return DownloadError(f"The hub refused {what} (status {status}).", hint="Check the name and HF_ENDPOINT.", details=details)


def disk_error(error: OSError, what: str, folder: Path) -> FileError:
    """A disk that is full or refuses."""
    if error.errno == errno.ENOSPC:
        return FileError(
            f"The disk is full, so {what} did not arrive whole in {folder}.",
            hint="Free some space and fetch it again: it goes on where it ended. WORKBENCH_HOME can name a folder on another disk.",
        )
    return FileError(
        f"{what} cannot be stored in {folder}: {error.strerror or error}.",
        hint="Check the folder's permissions, or set WORKBENCH_HOME to another folder.",
    )
