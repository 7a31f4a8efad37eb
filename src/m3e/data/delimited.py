"""CSV and TSV as text: every cell stays as typed, no row is lost in silence.

The quoting is RFC 4180's. It is read here rather than by :mod:`csv` because a message has to
name the line on which a quote was opened, and because :mod:`csv` drops quotes inside a cell.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from m3e.data.tables import Table
from m3e.errors import DataError

_OTHER_DELIMITERS = {",": ("\t", ";"), "\t": (",", ";")}
_DELIMITER_NAMES = {",": "comma", "\t": "tab", ";": "semicolon"}
_LITERAL_NOTE = "{}: quotation marks are kept as typed"


@dataclass(frozen=True)
class _Cells:
    """One row's cells and the lines that they came from, first and last."""

    cells: list[str]
    first_line: int
    last_line: int


class _QuoteError(Exception):
    """A quote opened on ``line`` that does not close as RFC 4180 wants."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


def read_delimited(text: str, name: str, delimiter: str) -> Table:
    """The table of a CSV or TSV text whose first line holds the column names.

    Args:
        text: the whole file, its line ends as they are.
        name: the file's name for messages.
        delimiter: what the extension promises; another is taken, and noted, where the header has only that.

    Raises:
        DataError: no rows, a quote that never closes, a row with another number of cells than the header,
            a column name twice; the message has the line's number.
    """
    lines = list(io.StringIO(text, newline=""))
    if all(not line.strip() for line in lines):
        raise DataError(f"{name} has no rows: the file is empty")
    delimiter, notes = _delimiter_of_header(lines, name, delimiter)
    records, quote_notes = _records(lines, name, delimiter)
    notes += quote_notes
    header, *body = records
    columns = _column_names(header, name)
    if not body:
        raise DataError(f"{name} has no rows: there is a line of column names and nothing below it")
    _check_widths(body, len(columns), name, delimiter)
    named = [index for index, column in enumerate(columns) if column]
    rows = [{columns[index]: record.cells[index] for index in named} for record in body]
    return Table(
        name=name,
        columns=tuple(column for column in columns if column),
        rows=rows,
        lines=[record.first_line for record in body],
        notes=tuple(notes),
        is_uniform=True,
    )


def _delimiter_of_header(lines: Sequence[str], name: str, delimiter: str) -> tuple[str, list[str]]:
    header = next(line for line in lines if line.strip())
    if delimiter in header:
        return delimiter, []
    for other in _OTHER_DELIMITERS[delimiter]:
        if other in header:
            return other, [f"{name}: cells are parted by {_DELIMITER_NAMES[other]}s"]
    return delimiter, []


def _records(lines: Sequence[str], name: str, delimiter: str) -> tuple[list[_Cells], list[str]]:
    """The file's rows, header first, and notes about its quotes."""
    try:
        records = list(_quoted_records(lines, delimiter))
    except _QuoteError as error:
        if delimiter == "\t":
            return list(_literal_records(lines, delimiter)), [_LITERAL_NOTE.format(name)]
        raise DataError(
            f"{name}, line {error.line}: {error.reason}; close it, or double every quotation mark that is text"
        ) from error
    joined = [record for record in records if record.last_line > record.first_line]
    if delimiter == "\t" and (joined or not _is_even(records)):
        # plain TSV has no quoting: where every line is a row by itself, quotes that join lines are text
        literal = list(_literal_records(lines, delimiter))
        if _is_even(literal):
            return literal, [_LITERAL_NOTE.format(name)]
    if not joined:
        return records, []
    first, count = joined[0], len(joined)
    return records, [
        f"{name}: {count} row{'s hold' if count > 1 else ' holds'} line breaks inside quotes "
        f"(first: lines {first.first_line} to {first.last_line})"
    ]


def _is_even(records: Sequence[_Cells]) -> bool:
    return len({len(record.cells) for record in records}) == 1


def _literal_records(lines: Sequence[str], delimiter: str) -> Iterator[_Cells]:
    for number, line in enumerate(lines, start=1):
        content = line.rstrip("\r\n")
        if content.strip(" "):
            yield _Cells(content.split(delimiter), number, number)


def _quoted_records(lines: Sequence[str], delimiter: str) -> Iterator[_Cells]:
    number = 0
    while number < len(lines):
        first = number
        line = lines[number]
        number += 1
        if '"' not in line:
            content = line.rstrip("\r\n")
            if content.strip(" "):
                yield _Cells(content.split(delimiter), first + 1, first + 1)
            continue
        cells, number = _split_quoted(lines, first, delimiter)
        yield _Cells(cells, first + 1, number)


def _split_quoted(lines: Sequence[str], start: int, delimiter: str) -> tuple[list[str], int]:
    """The cells of the row that starts on line index ``start``, and the index of the line after it."""
    cells: list[str] = []
    index, position = start, 0
    content = lines[start].rstrip("\r\n")
    while True:
        if content.startswith('"', position):
            cell, index, position = _quoted_cell(lines, index, position, delimiter)
            content = lines[index].rstrip("\r\n")
        else:
            end = content.find(delimiter, position)
            end = len(content) if end < 0 else end
            cell, position = content[position:end], end
        cells.append(cell)
        if position >= len(content):
            return cells, index + 1
        position += 1


def _quoted_cell(lines: Sequence[str], index: int, position: int, delimiter: str) -> tuple[str, int, int]:
    """The cell whose opening quote is at ``position``, and the line index and position just after it."""
    opened, parts = index, []
    start = position + 1
    line = lines[index]
    while True:
        end = line.find('"', start)
        if end < 0:
            parts.append(line[start:])
            index += 1
            if index == len(lines):
                raise _QuoteError(opened + 1, "a quotation mark opens a cell and never closes")
            line, start = lines[index], 0
        elif line.startswith('"', end + 1):
            parts.append(line[start : end + 1])
            start = end + 2
        else:
            parts.append(line[start:end])
            break
    after = line[end + 1 :].rstrip("\r\n")
    if not after or after.startswith(delimiter):
        return "".join(parts), index, end + 1
    return _cell_with_inner_quotes(line, index, position, end, opened, delimiter)


def _cell_with_inner_quotes(
    line: str, index: int, position: int, end: int, opened: int, delimiter: str
) -> tuple[str, int, int]:
    """A cell such as ``"618"大促``: as typed where that has one reading, else an error."""
    content = line.rstrip("\r\n")
    if delimiter == "\t" or index != opened or delimiter in line[position:end]:
        raise _QuoteError(opened + 1, "a quotation mark opens a cell and closes in the middle of one")
    stop = content.find(delimiter, end)
    stop = len(content) if stop < 0 else stop
    return content[position:stop], index, stop


def _column_names(header: _Cells, name: str) -> list[str]:
    names = [cell.strip() for cell in header.cells]
    twice = [column for column, count in Counter(names).items() if count > 1 and column]
    if twice:
        raise DataError(f"{name}, line {header.first_line}: the column {twice[0]!r} is there twice; rename one")
    return names


def _check_widths(body: Sequence[_Cells], expected: int, name: str, delimiter: str) -> None:
    for record in body:
        if len(record.cells) != expected:
            raise DataError(
                f"{name}, line {record.first_line}: {len(record.cells)} cells where the header has {expected}; "
                f"a {_DELIMITER_NAMES[delimiter]} inside a text needs quotation marks around the cell"
            )
