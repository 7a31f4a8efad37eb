"""JSON and JSON lines to rows, whatever the extension promised: an array, one object a line, a wrapped list."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from m3e.data.encodings import OpenText
from m3e.data.tables import LineNumbers, Row, Table, columns_of, table_of_rows
from m3e.errors import DataError

_DECODER = json.JSONDecoder()
_WHITESPACE = " \t\n\r"


def read_json(open_text: OpenText, name: str) -> Table:
    """The table of a JSON or JSON lines text.

    Lines of JSON are all checked here and parsed anew whenever the rows are read; anything else is
    parsed once and held.

    Args:
        open_text: opens the text.
        name: the file's name for messages.

    Raises:
        DataError: no rows, broken JSON (with the line's number), something that is not an object where
            a row should be, several lists of rows.
    """
    with open_text() as stream:
        lines = (line.rstrip("\r\n") for line in stream if line.strip())
        first, second = next(lines, ""), next(lines, "")
    if not first:
        raise DataError(f"{name} has no rows: the file is empty")
    if _holds_a_row_a_line(first, second):
        return _table_of_lines(_JsonLines(open_text, name))
    with open_text() as stream:
        text = stream.read().replace("\r\n", "\n").replace("\r", "\n")
    values = _read_values(text, name)
    if len(values) == 1:
        return table_of_value(values[0][1], name)
    return _table_of_objects([value for _, value in values], name, lines=[line for line, _ in values])


def table_of_value(value: Any, name: str) -> Table:
    """The table in a JSON-like value: a list of objects, an object of columns, an object around a list, one row.

    Raises:
        DataError: as :func:`read_json`.
    """
    if isinstance(value, Mapping):
        return _table_of_mapping(value, name)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return _table_of_objects(value, name)
    raise DataError(f"{name} holds {_what(value)}, not rows; expected a list of objects with named fields")


def table_of_columns(columns: Mapping[str, Sequence[Any]], name: str) -> Table:
    """The table of an object that holds one list a column.

    Raises:
        DataError: the lists differ in length, or are empty.
    """
    lengths = {str(key): len(values) for key, values in columns.items()}
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"{key}: {length}" for key, length in lengths.items())
        raise DataError(f"{name}: the columns differ in length ({found})")
    if not next(iter(lengths.values())):
        raise DataError(f"{name} has no rows")
    rows = [dict(zip(lengths, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return Table(name=name, columns=tuple(lengths), rows=rows, is_uniform=True)


def holds_columns(value: Mapping[Any, Any]) -> bool:
    """Whether every value is a list of cells, so that the object is a table by columns."""
    return bool(value) and all(
        isinstance(cells, Sequence)
        and not isinstance(cells, str | bytes)
        and not any(isinstance(cell, Mapping) for cell in cells)
        for cells in value.values()
    )


def _holds_a_row_a_line(first: str, second: str) -> bool:
    """Whether the first line, or where that is broken the second, is a whole object; blank lines do not count.

    The second decides too, so that a first line that is cut off is named rather than glued to the next.
    """
    if not first.lstrip().startswith("{"):
        return _is_complete(first, list) and _is_complete(second, (list, dict))
    return _is_complete(second, dict) or (bool(second) and _is_complete(first, dict))


def _is_complete(line: str, types: type | tuple[type, ...]) -> bool:
    try:
        return isinstance(json.loads(line), types)
    except (ValueError, RecursionError):
        return False


@dataclass(frozen=True)
class _JsonLines:
    """The objects of a text that holds one a line, parsed each time they are read."""

    open_text: OpenText
    name: str

    def __iter__(self) -> Iterator[Row]:
        return map(itemgetter(1), self.numbered())

    def numbered(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each object, and before it its line's number."""
        with self.open_text() as lines:
            for number, line in enumerate(lines, start=1):
                text = line.strip(_WHITESPACE)
                if not text or text.isspace():
                    continue
                try:
                    value = _value(text, line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{self.name}, line {number}: {_reason(error, line.rstrip())}") from error
                if not isinstance(value, dict):
                    what = _what(value)
                    raise DataError(f"{self.name}, line {number}: {what} where an object with named fields should be")
                yield number, value


def _value(text: str, line: str) -> Any:
    """The one JSON value in ``text``; errors count columns in ``line``, of which it is the part without margins."""
    try:
        value, end = _DECODER.raw_decode(text)
    except ValueError:
        end = -1
    return value if end == len(text) else json.loads(line.rstrip("\r\n"))


def _table_of_lines(rows: _JsonLines) -> Table:
    shapes: dict[tuple[str, ...], int] = {}
    lines = LineNumbers()
    for index, (number, row) in enumerate(rows.numbered()):
        shapes.setdefault(tuple(row), index)
        lines.append(number)
    return Table(rows.name, columns_of(shapes), rows, lines, known_shapes=shapes)


def _read_values(text: str, name: str) -> list[tuple[int, Any]]:
    """The JSON values of a text, one after the other over any number of lines, each with its first line."""
    values: list[tuple[int, Any]] = []
    position, line = 0, 1
    while True:
        start = position
        while position < len(text) and text[position] in _WHITESPACE:
            position += 1
        if position == len(text):
            return values
        line += text.count("\n", start, position)
        try:
            value, end = _DECODER.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise DataError(f"{name}, line {error.lineno}: {_reason(error, text)}") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name}, line {line}: {_reason(error, text)}") from error
        values.append((line, value))
        line += text.count("\n", position, end)
        position = end


def _reason(error: Exception, text: str) -> str:
    if isinstance(error, RecursionError):
        return "the JSON is nested too deeply"
    if not isinstance(error, json.JSONDecodeError):
        return f"the JSON cannot be read: {error}"
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return "the JSON is cut off before its end"
    return f"the JSON is broken at column {error.colno}: {error.msg}"


def _table_of_objects(values: Sequence[Any], name: str, *, lines: Sequence[int] | None = None) -> Table:
    if not values:
        raise DataError(f"{name} has no rows: its list is empty")
    rows: list[Row] = []
    for index, value in enumerate(values):
        if not isinstance(value, Mapping):
            where = f"{name}, line {lines[index]}" if lines else f"{name}, row {index + 1}"
            raise DataError(f"{where}: {_what(value)} where an object with named fields should be")
        rows.append(value)
    return table_of_rows(rows, name, lines=lines)


def _table_of_mapping(value: Mapping[str, Any], name: str) -> Table:
    if holds_columns(value):
        return table_of_columns(value, name)
    lists = _lists_of_objects(value)
    if not lists:
        if any(isinstance(item, list) and not item for item in value.values()) and len(value) == 1:
            raise DataError(f"{name} has no rows: its list is empty")
        return table_of_rows([value], name)
    if len(lists) > 1:
        keys = ", ".join(repr(key) for key in lists)
        raise DataError(
            f"{name} holds several lists of rows, under {keys}; write each to a file of its own "
            "(and name the held-out one with --val)"
        )
    (key, rows), *_ = lists.items()
    table = _table_of_objects(rows, name)
    return Table(name, table.columns, table.rows, notes=(f"{name}: used the list under {key!r}",))


def _lists_of_objects(value: Mapping[str, Any], prefix: str = "") -> dict[str, Sequence[Any]]:
    """Every list that starts with an object, by its dotted key; lists inside rows are not looked into."""
    found: dict[str, Sequence[Any]] = {}
    for key, item in value.items():
        if isinstance(item, list) and item and isinstance(item[0], Mapping):
            found[f"{prefix}{key}"] = item
        elif isinstance(item, Mapping):
            found.update(_lists_of_objects(item, f"{prefix}{key}."))
    return found


def _what(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list | tuple):
        return "a list"
    return "a number" if isinstance(value, int | float) else type(value).__name__
