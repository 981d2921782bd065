"""Kinds of data files: what turns a path into rows. A new kind is one file here and one import line below."""

from __future__ import annotations

from workbench.data.files.base import FILES, FileReader, reader_of, suffixes
from workbench.data.files.delimited import Delimited
from workbench.data.files.json_array import JsonArray
from workbench.data.files.json_lines import JsonLines
from workbench.data.files.text import PlainText

__all__ = ["FILES", "Delimited", "FileReader", "JsonArray", "JsonLines", "PlainText", "reader_of", "suffixes"]
