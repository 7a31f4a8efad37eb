"""CSV and TSV as text: every cell stays as typed, no row is lost in silence.

The quoting is RFC 4180's. It is read here rather than by :mod:`csv` because a message has to
name the line on which a quote was opened, and because :mod:`csv` drops quotes inside a cell.

What the quotes of a file mean can depend on its last line, so every file is looked through once (a TSV
with quotes perhaps twice) before its rows are read; no look holds more than one row.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from m3e.data.encodings import OpenText
from m3e.data.tables import LineNumbers, Row, Table
from m3e.errors import DataError

_OTHER_DELIMITERS = {",": ("\t", ";"), "\t": (",", ";")}
_DELIMITER_NAMES = {",": "comma", "\t": "tab", ";": "semicolon"}
_LITERAL_NOTE = "{}: quotation marks are kept as typed"


_Record = tuple[int, int, list[str]]
"""The lines that a row came from, first and last, and its cells."""


class _QuoteError(Exception):
    """A quote opened on ``line`` that does not close as RFC 4180 wants."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


def read_delimited(open_text: OpenText, name: str, delimiter: str) -> Table:
    """The table of a CSV or TSV text whose first line holds the column names.

    Args:
        open_text: opens the text.
        name: the file's name for messages.
        delimiter: what the extension promises; another is taken, and noted, where the header has only that.

    Raises:
        DataError: no rows, a quote that never closes, a row with another number of cells than the header,
            a column name twice; the message has the line's number.
    """
    with open_text() as lines:
        header_line = next((line for line in lines if line.strip()), None)
    if header_line is None:
        raise DataError(f"{name} has no rows: the file is empty")
    delimiter, notes = _delimiter_of_header(header_line, name, delimiter)
    rows, outline, quote_notes = _choose_quoting(open_text, name, delimiter)
    columns = _column_names(next(rows.records()), name)
    if not outline.lines:
        raise DataError(f"{name} has no rows: there is a line of column names and nothing below it")
    _check_widths(outline, name, delimiter)
    return Table(
        name=name,
        columns=tuple(column for column in columns if column),
        rows=_NamedRows(rows, columns),
        lines=outline.lines,
        notes=(*notes, *quote_notes),
        is_uniform=True,
        may_hold_lists=False,
    )


@dataclass(frozen=True)
class _Rows:
    """The rows of a text, header first, parsed each time they are read.

    Attributes:
        open_text: opens the text.
        delimiter: between cells.
        is_quoted: whether quotation marks around a cell are no part of it.
    """

    open_text: OpenText
    delimiter: str
    is_quoted: bool

    def records(self, *, with_text: bool = True) -> Iterator[_Record]:
        """Each row; the cells in quotation marks may be left empty where only their number matters."""
        with self.open_text() as lines:
            if self.is_quoted:
                yield from _QuotedLines(lines, self.delimiter, with_text).records()
            else:
                yield from _literal_records(lines, self.delimiter)


@dataclass(frozen=True)
class _NamedRows:
    """The rows below the header, by the names of the columns that have one."""

    rows: _Rows
    columns: list[str]

    def __iter__(self) -> Iterator[Row]:
        is_complete = all(self.columns)
        for _, _, cells in islice(self.rows.records(), 1, None):
            row = dict(zip(self.columns, cells, strict=True))
            if not is_complete:
                del row[""]
            yield row


@dataclass
class _Outline:
    """What a look through all rows tells.

    Attributes:
        width: how many cells the header has.
        lines: where the rows below it start.
        uneven: the line of the first row of another width, and this width.
        joined: how many rows go over several lines.
        first_joined: the first such row's first and last line.
    """

    width: int = 0
    lines: LineNumbers = field(default_factory=LineNumbers)
    uneven: tuple[int, int] | None = None
    joined: int = 0
    first_joined: tuple[int, int] | None = None


def _outline(rows: _Rows) -> _Outline:
    outline = _Outline()
    for first, last, cells in rows.records(with_text=False):
        if last > first:
            outline.joined += 1
            outline.first_joined = outline.first_joined or (first, last)
        if not outline.width:
            outline.width = len(cells)
            continue
        if len(cells) != outline.width and not outline.uneven:
            outline.uneven = first, len(cells)
        outline.lines.append(first)
    return outline


def _delimiter_of_header(header: str, name: str, delimiter: str) -> tuple[str, list[str]]:
    if delimiter in header:
        return delimiter, []
    for other in _OTHER_DELIMITERS[delimiter]:
        if other in header:
            return other, [f"{name}: cells are parted by {_DELIMITER_NAMES[other]}s"]
    return delimiter, []


def _choose_quoting(open_text: OpenText, name: str, delimiter: str) -> tuple[_Rows, _Outline, list[str]]:
    """The file's rows, what they look like, and notes about its quotes."""
    quoted, literal = _Rows(open_text, delimiter, True), _Rows(open_text, delimiter, False)
    try:
        outline = _outline(quoted)
    except _QuoteError as error:
        if delimiter == "\t":
            return literal, _outline(literal), [_LITERAL_NOTE.format(name)]
        raise DataError(
            f"{name}, line {error.line}: {error.reason}; close it, or double every quotation mark that is text"
        ) from error
    if delimiter == "\t" and (outline.joined or outline.uneven):
        # plain TSV has no quoting: where every line is a row by itself, quotes that join lines are text
        literal_outline = _outline(literal)
        if not literal_outline.uneven:
            return literal, literal_outline, [_LITERAL_NOTE.format(name)]
    if not outline.first_joined:
        return quoted, outline, []
    first, last = outline.first_joined
    holds = "rows hold" if outline.joined > 1 else "row holds"
    return (
        quoted,
        outline,
        [f"{name}: {outline.joined} {holds} line breaks inside quotes (first: lines {first} to {last})"],
    )


def _literal_records(lines: Iterable[str], delimiter: str) -> Iterator[_Record]:
    for number, line in enumerate(lines, start=1):
        content = line.rstrip("\r\n")
        if content.strip(" "):
            yield number, number, content.split(delimiter)


class _QuotedLines:
    """Lines whose quotation marks may hold delimiters and line ends, read as rows, once.

    Args:
        lines: with their line ends.
        delimiter: between cells.
        with_text: whether cells in quotation marks that go over several lines are wanted, or left empty:
            where a quote never closes, the rest of the file would be such a cell.
    """

    def __init__(self, lines: Iterable[str], delimiter: str, with_text: bool) -> None:
        self._following = enumerate(lines, start=1)
        self._delimiter = delimiter
        self._with_text = with_text
        self._number = 0
        self._line = ""

    def records(self) -> Iterator[_Record]:
        """Each row that is not blank.

        Raises:
            _QuoteError: a quote that does not close, or closes inside a cell.
        """
        for number, line in self._following:
            if '"' not in line:
                content = line.rstrip("\r\n")
                if content.strip(" "):
                    yield number, number, content.split(self._delimiter)
                continue
            try:
                cells = next(csv.reader((line,), delimiter=self._delimiter, strict=True))
            except csv.Error:
                # what goes over several lines, or has quotes that csv would drop, and errors
                self._number, self._line = number, line
                cells = self._cells()
                yield number, self._number, cells
            else:
                yield number, number, cells

    def _cells(self) -> list[str]:
        """The cells of the row that starts on the current line; its last line is then the current one."""
        cells: list[str] = []
        position = 0
        content = self._line.rstrip("\r\n")
        while True:
            if content.startswith('"', position):
                cell, position = self._quoted_cell(position)
                content = self._line.rstrip("\r\n")
            else:
                end = content.find(self._delimiter, position)
                end = len(content) if end < 0 else end
                cell, position = content[position:end], end
            cells.append(cell)
            if position >= len(content):
                return cells
            position += 1

    def _quoted_cell(self, position: int) -> tuple[str, int]:
        """The cell whose opening quote is at ``position``, and the position just after it."""
        opened = self._number
        parts: list[str] = []
        start = position + 1
        while True:
            end = self._line.find('"', start)
            if end < 0:
                if self._with_text:
                    parts.append(self._line[start:])
                following = next(self._following, None)
                if following is None:
                    raise _QuoteError(opened, "a quotation mark opens a cell and never closes")
                (self._number, self._line), start = following, 0
            elif self._line.startswith('"', end + 1):
                if self._with_text:
                    parts.append(self._line[start : end + 1])
                start = end + 2
            else:
                parts.append(self._line[start:end])
                break
        after = self._line[end + 1 :].rstrip("\r\n")
        if not after or after.startswith(self._delimiter):
            return "".join(parts), end + 1
        return self._cell_with_inner_quotes(position, end, opened)

    def _cell_with_inner_quotes(self, position: int, end: int, opened: int) -> tuple[str, int]:
        """A cell such as ``"618"大促``: as typed where that has one reading, else an error."""
        content = self._line.rstrip("\r\n")
        if self._delimiter == "\t" or self._number != opened or self._delimiter in self._line[position:end]:
            raise _QuoteError(opened, "a quotation mark opens a cell and closes in the middle of one")
        stop = content.find(self._delimiter, end)
        stop = len(content) if stop < 0 else stop
        return content[position:stop], stop


def _column_names(header: _Record, name: str) -> list[str]:
    line, _, cells = header
    names = [cell.strip() for cell in cells]
    twice = [column for column, count in Counter(names).items() if count > 1 and column]
    if twice:
        raise DataError(f"{name}, line {line}: the column {twice[0]!r} is there twice; rename one")
    return names


def _check_widths(outline: _Outline, name: str, delimiter: str) -> None:
    if outline.uneven:
        line, width = outline.uneven
        raise DataError(
            f"{name}, line {line}: {width} cells where the header has {outline.width}; "
            f"a {_DELIMITER_NAMES[delimiter]} inside a text needs quotation marks around the cell"
        )
