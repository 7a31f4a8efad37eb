"""Documents to index, streamed from users' files: ids, texts, metadata.

The input is looked through once before its documents are read: it shows which rows share an id (the last one
counts), and a run that could not end well ends before anything is written.
"""

from __future__ import annotations

import datetime
import decimal
import hashlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3e.data.encodings import decode
from m3e.data.keys import is_blank
from m3e.data.tables import Row as TableRow
from m3e.data.tables import Table
from m3e.data.text_files import is_readable_name, read_table
from m3e.errors import DataError
from m3e.files import hash_file, hash_settings, json_safe
from m3e.inference.texts import TEXT_FIELDS
from m3e.retrieval.stores.database import digest_of, dump_metadata

ID_FIELDS = ("id", "_id")
"""Columns that hold ids where none is named."""


@dataclass(frozen=True)
class Document:
    """A row of the input; ``text`` is ``None`` where it was blank: the id has no document any more."""

    id: str
    text: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Documents:
    """The documents of a file or folder; iterating reads them anew.

    Attributes:
        rows: of the input.
        blank: rows dropped for a text with nothing visible in it.
        duplicate_ids: rows dropped since a later one has the same id.
        field: the column of texts.
        id_field: the column of ids; ``None``: ids are hashes of text and metadata.
        fingerprint: of the files' bytes and the fields.
        notes: lines to print.
    """

    tables: Sequence[Table]
    rows: int
    blank: int
    duplicate_ids: int
    field: str
    id_field: str | None
    fingerprint: str
    notes: list[str]
    _last: Mapping[int, int]

    def __iter__(self) -> Iterator[Document]:
        for number, document in enumerate(_read(self.tables, self.field, self.id_field)):
            # of the few ids that come twice, where the last is
            if document is not None and self._last.get(_hash(document.id), number) == number:
                yield document


def open_documents(source: Path, *, field: str | None = None, id_field: str | None = None) -> Documents:
    """The documents in a file (jsonl, json, csv, tsv, parquet, or txt, a text a line) or a folder of files.

    Args:
        field: the column of texts; by default ``text``, else the first that holds text.
        id_field: the column of ids; by default ``id`` or ``_id``; where there is none, ids are hashes.

    Raises:
        DataError: the input cannot be read, has no such column, a cell of another kind, or no text at all; names
            file and row.
    """
    tables = _tables(source)
    chosen_id = _id_field(tables, id_field)
    chosen = _text_field(tables, field, chosen_id)
    hashes, is_blank_row = array("Q"), bytearray()
    for document in _read(tables, chosen, chosen_id):
        hashes.append(0 if document is None else _hash(document.id))
        is_blank_row.append(document is None or document.text is None)
    last, superseded = _last_rows(hashes)
    if all(is_blank_row):
        raise DataError(
            f"{source.name}: {chosen} is blank in all {len(hashes)} rows; name the column of texts: --field"
        )
    notes = [note for table in tables for note in table.notes]
    if chosen_id is None:
        notes.append("there is no column of ids (--id-field), so each id is a hash of text and metadata")
    files = [[table.name, hash_file(_path(source, table))] for table in tables]
    return Documents(
        tables=tables,
        rows=len(hashes),
        blank=int((np.frombuffer(is_blank_row, bool) & ~superseded).sum()),
        duplicate_ids=int(superseded.sum()),
        field=chosen,
        id_field=chosen_id,
        fingerprint=hash_settings([files, chosen, chosen_id]),
        notes=notes,
        _last=last,
    )


def _tables(source: Path) -> list[Table]:
    if not source.exists():
        raise DataError(f"there is no file {source}")
    if not source.is_dir():
        return [_table(source, source.name)]
    files = sorted(path for path in source.rglob("*") if path.is_file() and _is_input(path.relative_to(source)))
    if not files:
        raise DataError(f"{source} holds no file that can be read")
    return [_table(path, path.relative_to(source).as_posix()) for path in files]


def _is_input(path: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in path.parts)
    return not is_hidden and (is_readable_name(path) or path.suffix.lower() == ".txt")


def _table(path: Path, name: str) -> Table:
    if path.suffix.lower() != ".txt":
        return read_table(path, name)
    lines = decode(path.read_bytes(), name).text.splitlines()
    return Table(name=name, columns=("text",), rows=[{"text": line} for line in lines], is_uniform=True)


def _path(source: Path, table: Table) -> Path:
    return source / table.name if source.is_dir() else source


def _id_field(tables: Sequence[Table], wanted: str | None) -> str | None:
    columns = [set(table.columns) for table in tables]
    if wanted is None:
        return next((name for name in ID_FIELDS if all(name in part for part in columns)), None)
    for table in tables:
        if wanted not in table.columns:
            raise DataError(f"{table.name} has no column {wanted!r}; it has: {', '.join(table.columns)}")
    return wanted


def _text_field(tables: Sequence[Table], wanted: str | None, id_field: str | None) -> str:
    first = tables[0]
    chosen = wanted or next((name for name in TEXT_FIELDS if name in first.columns), None)
    if chosen is None:
        row = next(iter(first.rows), {})
        chosen = next((name for name in first.columns if name != id_field and isinstance(row.get(name), str)), "")
    for table in tables:
        if chosen not in table.columns:
            raise DataError(
                f"{table.name} has no column {chosen or 'of text'!r}; it has: {', '.join(table.columns)}; use --field"
            )
    return chosen


def _read(tables: Sequence[Table], field: str, id_field: str | None) -> Iterator[Document | None]:
    """A document for each row; ``None`` for one that has neither text nor id."""
    for table in tables:
        for index, row in enumerate(table.rows):
            yield _document(table, index, row, field, id_field)


def _document(table: Table, index: int, row: TableRow, field: str, id_field: str | None) -> Document | None:
    text = row.get(field)
    if not isinstance(text, str | None):
        raise DataError(f"{table.place(index)}: {field} is {type(text).__name__}, not text")
    metadata = {
        str(name): _json_value(value)
        for name, value in row.items()
        if name not in (field, id_field) and not isinstance(value, bytes)
    }
    kept = None if text is None or is_blank(text) else text
    identifier = _identifier(table, index, row.get(id_field)) if id_field else None
    if identifier is None and kept is None:
        return None
    document = Document(identifier or digest_of(kept or "", metadata), kept, metadata)
    _check_unicode(table, index, document)
    return document


def _identifier(table: Table, index: int, value: Any) -> str | None:
    """An id as a string, whatever its type; ``None`` where the row has none."""
    if value is None or value == "":
        return None
    if isinstance(value, dict | list | bytes) or (isinstance(value, float) and value != value):
        raise DataError(f"{table.place(index)}: an id is a string or a number, not {value!r:.40}")
    return str(value)


def _json_value(value: Any) -> Any:
    """What JSON can hold: dates become ISO 8601, decimals strings, numbers that are not finite null."""
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items() if not isinstance(item, bytes)}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value if not isinstance(item, bytes)]
    return json_safe(value) if isinstance(value, str | int | float | None) else str(value)


def _check_unicode(table: Table, index: int, document: Document) -> None:
    """Refuse half characters, which JSON can spell and no database keeps."""
    for what, text in (
        ("id", document.id),
        ("text", document.text or ""),
        ("metadata", dump_metadata(document.metadata)),
    ):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise DataError(f"{table.place(index)}: the {what} holds half a character (surrogate {half!r})") from error


def _hash(identifier: str) -> int:
    digest = hashlib.blake2b(identifier.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1  # 0 marks rows without an id


def _last_rows(hashes: array[int]) -> tuple[dict[int, int], NDArray[np.bool_]]:
    """Where the last of each id that comes more than once is, and which rows come before such a last one."""
    values = np.frombuffer(hashes, np.uint64)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    is_followed = np.zeros(len(values), bool)
    is_followed[:-1] = (ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)
    superseded = np.zeros(len(values), bool)
    superseded[order[is_followed]] = True
    repeated = np.unique(ordered[is_followed])
    ends = np.searchsorted(ordered, repeated, side="right") - 1
    return dict(zip(repeated.tolist(), order[ends].tolist(), strict=True)), superseded
