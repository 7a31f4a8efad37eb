"""A file of any accepted format to a table."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from m3e.data.arrow_tables import read_parquet
from m3e.data.delimited import read_delimited
from m3e.data.encodings import decode
from m3e.data.json_rows import read_json_text
from m3e.data.tables import Table
from m3e.errors import DataError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson", ".json")
EXTENSIONS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""What can be read, for messages; the text formats also with ``.gz`` after them."""

_EXCEL = (".xlsx", ".xls", ".xlsm", ".et", ".numbers", ".ods")


def is_readable_name(path: Path) -> bool:
    """Whether a file of this name is of a format that can be read."""
    return _format_of(path) in (*_DELIMITERS, *_JSON, ".parquet")


def read_table(path: Path, name: str | None = None) -> Table:
    """The rows of a file, every cell as it was typed.

    Args:
        path: jsonl, json, csv, tsv or parquet; the text formats also compressed with gzip.
        name: what messages call the file; its own name by default.

    Raises:
        DataError: the file is missing, of another format, damaged, or has no rows. The message names the
            file, and the line where there is one to blame.
    """
    name = name or path.name
    extension = _format_of(path)
    if not is_readable_name(path):
        raise DataError(f"{name}: {_format_message(extension)}")
    if extension == ".parquet":
        if not path.is_file():
            raise DataError(f"{name}: there is no such file: {path}")
        if path.stat().st_size == 0:
            raise DataError(f"{name} has no rows: the file is empty")
        return read_parquet(path, name)
    decoded = decode(_read_bytes(path, name), name)
    if extension in _DELIMITERS:
        table = read_delimited(decoded.text, name, _DELIMITERS[extension])
    else:
        table = read_json_text(decoded.text, name)
    if decoded.encoding is None:
        return table
    note = f"{name}: read as {decoded.encoding}"
    return Table(table.name, table.columns, table.rows, table.lines, (note, *table.notes), table.is_uniform)


def _format_of(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"] and suffixes[-2:-1] != [".parquet"]:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _format_message(extension: str) -> str:
    accepted = ", ".join(EXTENSIONS)
    if extension in _EXCEL:
        return f"{extension} files are not read; save the sheet as CSV UTF-8 (accepted: {accepted})"
    what = f"the extension {extension} is not known" if extension else "a file name needs an extension"
    return f"{what}; accepted: {accepted}"


def _read_bytes(path: Path, name: str) -> bytes:
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path) as stream:
                return stream.read()
        return path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{name} cannot be read: {reason}") from error
