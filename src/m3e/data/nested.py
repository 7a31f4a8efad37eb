"""Rows that lie deep inside a JSON document, as SQuAD's questions do."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from m3e.data.encodings import decode
from m3e.data.tables import Row, Table, table_of_rows
from m3e.data.text_files import read_table
from m3e.errors import DataError


def read_nested(path: Path, name: str, records: str) -> Table:
    """The table of the rows that lie at ``records`` in a file, all in memory.

    Args:
        path: a JSON document, or rows (jsonl, parquet, …) that are a document each.
        name: what messages call the file.
        records: names divided by dots, ``[]`` after those of lists: ``data[].paragraphs[].qas[]``.

    Raises:
        DataError: the file is damaged, or nothing lies there.
    """
    documents, notes = _documents(path, name)
    rows = list(nested_rows(documents, records))
    if not rows:
        found = ", ".join(dict.fromkeys(str(key) for document in documents[:1] for key in document))
        raise DataError(f"{name}: no rows lie at {records}; at the top are: {found or 'no names'}")
    return table_of_rows(rows, name, notes=notes)


def nested_rows(documents: Iterable[Mapping[str, Any]], records: str) -> Iterator[Row]:
    """The objects that lie at ``records`` in each document, with the values of all that they lie in.

    Of the levels above, values that are no lists or objects; a name further inside wins.
    """
    for document in documents:
        yield from _rows_at(document, records.split("."), {})


def _rows_at(value: Any, steps: list[str], outer: dict[str, Any]) -> Iterator[Row]:
    if not isinstance(value, Mapping):
        return
    if not steps:
        yield {**outer, **value}
        return
    outer = {**outer, **{key: item for key, item in value.items() if not isinstance(item, list | dict)}}
    step, *deeper = steps
    inner = value.get(step.removesuffix("[]"))
    items = inner if step.endswith("[]") and isinstance(inner, list) else [inner]
    for item in items:
        yield from _rows_at(item, deeper, outer)


def _documents(path: Path, name: str) -> tuple[list[Any], tuple[str, ...]]:
    is_packed = path.suffix.lower() == ".gz"
    if (path.with_suffix("") if is_packed else path).suffix.lower() == ".json":
        decoded = decode(_read_bytes(path, name, is_packed=is_packed), name)
        try:
            value = json.loads(decoded.text)
        except RecursionError as error:
            raise DataError(f"{name}: the JSON is nested too deeply") from error
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":  # which is what several documents are, one a line
                raise DataError(f"{name}, line {error.lineno}: the JSON is broken or cut off: {error.msg}") from error
        else:
            notes = (f"{name}: read as {decoded.encoding}",) if decoded.encoding else ()
            documents = value if isinstance(value, list) else [value]
            return [document for document in documents if isinstance(document, Mapping)], notes
    table = read_table(path, name)
    return list(table.rows), table.notes


def _read_bytes(path: Path, name: str, *, is_packed: bool) -> bytes:
    try:
        if is_packed:
            with gzip.open(path) as stream:
                return stream.read()
        return path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
