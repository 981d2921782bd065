"""Errors for people."""

from __future__ import annotations

import pytest

from workbench.core import errors
from workbench.core.errors import WorkbenchError

KINDS = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, WorkbenchError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_an_error_says_what_and_what_next(kind: type[WorkbenchError]) -> None:
    error = kind("The file has 3 bytes; a header needs 8.", hint="Fetch it again.", details="a trace")
    assert str(error) == "The file has 3 bytes; a header needs 8. Fetch it again."
    assert (error.message, error.hint, error.details) == ("The file has 3 bytes; a header needs 8.", "Fetch it again.", "a trace")
    assert str(kind("Broken.")) == "Broken."
    assert kind.__doc__
