"""Tiny models and tiny data for training."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.training.tools import dataset, make
from workbench.data import Dataset
from workbench.model import Transformer


@pytest.fixture
def data() -> Dataset:
    return dataset()


@pytest.fixture
def make_model() -> Callable[..., Transformer]:
    return make
