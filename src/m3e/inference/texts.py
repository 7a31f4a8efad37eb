"""The texts of a file's field, one after the other, and in chunks that are known again by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from m3e.data.columns import normal_name
from m3e.data.keys import has_lone_surrogate
from m3e.data.tables import Table
from m3e.data.text_files import read_lines, read_table
from m3e.errors import DataError

TEXT_FIELDS = ("text", "sentence", "sentence1", "query", "question", "title", "content", "问题", "文本", "标题", "内容")
"""Names of fields that are taken for the text where there is no ``text``: the file's first of them."""

ID_FIELDS = ("id", "_id", "uid", "uuid", "docid", "key", "url", "编号", "序号")
"""Names of fields that are strings and no text."""

_ROWS_LOOKED_AT = 100


@dataclass(frozen=True)
class Bounds:
    """Where a chunk ends: after so many texts, or sooner with the text that makes it hold so many characters."""

    texts: int = 4096
    characters: int = 4_000_000


@dataclass(frozen=True)
class Chunk:
    """Texts that are encoded together.

    Attributes:
        texts: in the order of the file.
        digest: SHA-256 over the texts, in hex.
    """

    texts: list[str]
    digest: str


@dataclass(frozen=True)
class Texts:
    """The texts of one field, read anew each time.

    Attributes:
        table: the file's rows.
        field: the field's name.
    """

    table: Table
    field: str

    def __iter__(self) -> Iterator[str]:
        for index, row in enumerate(self.table.rows):
            text = row.get(self.field)
            if not isinstance(text, str):
                raise DataError(
                    f"{self.table.place(index)}: {self.field} is {_what(text, self.field in row)}, not text; "
                    "every row gives a vector, so mend or delete this row"
                )
            yield text

    def chunks(self, bounds: Bounds) -> Iterator[Chunk]:
        """All texts, cut into chunks by ``bounds``.

        Raises:
            DataError: a row without text, or whose text no encoding can write; it is named.
        """
        start = 0
        for texts in _parts(self, bounds):
            try:
                yield Chunk(texts, _digest(texts))
            except UnicodeEncodeError as error:
                bad = next(index for index, text in enumerate(texts) if has_lone_surrogate(text))
                raise DataError(
                    f"{self.table.place(start + bad)}: {self.field} holds half of a surrogate pair, which is no "
                    "character; mend or delete this row"
                ) from error
            start += len(texts)


def open_texts(source: Path, field: str | None = None) -> Texts:
    """The texts of a file: of ``field``, else of ``text``, else of the file's first text field.

    Args:
        source: jsonl, json, csv, tsv, parquet, or txt (one text a line, field ``line``); all but parquet also
            compressed with gzip.

    Raises:
        DataError: the file cannot be read, or has no such field.
    """
    table = read_lines(source) if _is_plain(source) else read_table(source)
    chosen = field or _text_field(table)
    if chosen not in table.columns:
        wanted = f"no field {chosen!r}" if chosen else "no field that holds text"
        raise DataError(f"{source} has {wanted}; it has: {', '.join(table.columns)}; name one with --field")
    if source.suffix.lower() == ".parquet":  # whose other columns, perhaps large, need not be read
        table = read_table(source, columns=[chosen])
    return Texts(table, chosen)


def _is_plain(source: Path) -> bool:
    endings = [ending.lower() for ending in source.suffixes]
    return endings[-1:] == [".txt"] or endings[-2:] == [".txt", ".gz"]


def _text_field(table: Table) -> str:
    if "text" in table.columns:
        return "text"
    known = next((name for name in table.columns if normal_name(name) in TEXT_FIELDS), None)
    if known or table.columns == ("line",):
        return known or "line"
    rows = list(islice(table.rows, _ROWS_LOOKED_AT))
    names = (name for name in table.columns if normal_name(name) not in _ID_NAMES)
    return next((name for name in names if _holds_text([row.get(name) for row in rows])), "")


_ID_NAMES = {normal_name(name) for name in ID_FIELDS}


def _holds_text(cells: list[Any]) -> bool:
    """Whether some of the cells are strings that are no numbers."""
    return any(isinstance(cell, str) and not _is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell.strip()
    return True


def _parts(texts: Iterable[str], bounds: Bounds) -> Iterator[list[str]]:
    part: list[str] = []
    characters = 0
    for text in texts:
        part.append(text)
        characters += len(text)
        if len(part) == bounds.texts or characters >= bounds.characters:
            yield part
            part, characters = [], 0
    if part:
        yield part


def _digest(texts: list[str]) -> str:
    digest = hashlib.sha256(np.fromiter(map(len, texts), "<u8", len(texts)).tobytes())
    digest.update("".join(texts).encode())
    return digest.hexdigest()


def _what(value: Any, is_there: bool) -> str:
    if value is None:
        return "null" if is_there else "missing"
    return f"{'a number' if isinstance(value, int | float) else type(value).__name__} ({value!r:.40})"
