"""Training data: files to examples, examples to ids with targets, ids to batches; and the report that is read before a run.

prepared = yield from load_data(config, tokenizer, template, max_length, control)     # .dataset, .report
prepared.report.require_usable()
training, validation = prepared.dataset.split(config.validation_fraction, seed)
for batch in batches(training, batch_size, seed=seed, epochs=None, start_step=step): ...
"""

from __future__ import annotations

from workbench.data.batches import IGNORED, Batch, batches, batches_per_epoch, collate, evaluation_batches, longest_batch
from workbench.data.builtin import SOURCES, stdlib_docstrings
from workbench.data.config import DataConfig
from workbench.data.dataset import Dataset
from workbench.data.examples import ChatExample, Example, RowProblem, TextExample
from workbench.data.files import FILES
from workbench.data.prepare import Prepared, load_data, prepare, prepare_events
from workbench.data.read import read_examples
from workbench.data.report import DataReport, Sample, Segment
from workbench.data.shapes import SHAPES
from workbench.data.windows import Corpus, Documents, read_documents, windows

__all__ = [
    "FILES", "IGNORED", "SHAPES", "SOURCES", "Batch", "ChatExample", "Corpus", "DataConfig", "DataReport", "Dataset", "Documents",
    "Example", "Prepared", "RowProblem", "Sample", "Segment", "TextExample", "batches", "batches_per_epoch", "collate",
    "evaluation_batches", "load_data", "longest_batch", "prepare", "prepare_events", "read_documents", "read_examples",
    "stdlib_docstrings", "windows",
]  # fmt: skip
