"""A table as read from anywhere, before anything is known about what its columns mean."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

Row = Mapping[str, Any]
Shapes = Mapping[tuple[str, ...], int]
"""The different sets of columns that rows have, each with the index of its first row."""


@dataclass(frozen=True)
class Table:
    """Rows of named values, and where they stood.

    Attributes:
        name: how messages call the table: a file's name, a split, a hub id.
        columns: every column's name, in order of appearance.
        rows: read from start to end as often as wanted, from a file each time anew; a row may lack columns.
        lines: the line on which each row starts, counted from 1, where the source has lines.
        notes: what was decided while reading, one printable line each.
        is_uniform: whether every row has every column.
        known_shapes: the shapes, where reading has already met them.
        may_hold_lists: whether a cell can be a list; where the format has none, no pass has to look.
    """

    name: str
    columns: tuple[str, ...]
    rows: Iterable[Row]
    lines: Sequence[int] | None = None
    notes: tuple[str, ...] = field(default=())
    is_uniform: bool = False
    known_shapes: Shapes | None = None
    may_hold_lists: bool = True

    @cached_property
    def shapes(self) -> Shapes:
        """The different sets of columns that rows have, each with the index of its first row."""
        if self.is_uniform:
            return {self.columns: 0}
        return shapes_of(self.rows) if self.known_shapes is None else self.known_shapes

    def place(self, index: int) -> str:
        """``FILE, row N (line M)`` for messages; rows count from 1, a header does not count as one."""
        line = f" (line {self.lines[index]})" if self.lines is not None else ""
        return f"{self.name}, row {index + 1}{line}"


class LineNumbers(Sequence[int]):
    """The line on which each row starts, in little memory: rows on one line each take none.

    A run of rows on consecutive lines is kept as its first row and how far lines are ahead of rows.
    """

    def __init__(self, lines: Iterable[int] = ()) -> None:
        self._firsts = array("q")
        self._leads = array("q")
        self._lead: int | None = None
        self._length = 0
        for line in lines:
            self.append(line)

    def append(self, line: int) -> None:
        """Add the line of the next row."""
        lead = line - self._length
        if lead != self._lead:
            self._lead = lead
            self._firsts.append(self._length)
            self._leads.append(lead)
        self._length += 1

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(self._length))]
        position = range(self._length)[index]
        return position + self._leads[bisect_right(self._firsts, position) - 1]


def shapes_of(rows: Iterable[Row]) -> Shapes:
    """The different sets of columns that ``rows`` have, each with the index of its first row."""
    shapes: dict[tuple[str, ...], int] = {}
    for index, row in enumerate(rows):
        shapes.setdefault(tuple(map(str, row)), index)
    return shapes


def columns_of(shapes: Shapes) -> tuple[str, ...]:
    """Every column of any shape, in order of appearance."""
    return tuple(dict.fromkeys(column for shape in shapes for column in shape))


def table_of_rows(
    rows: Sequence[Row], name: str, *, lines: Sequence[int] | None = None, notes: tuple[str, ...] = ()
) -> Table:
    """A table whose rows may differ in their columns."""
    shapes = shapes_of(rows)
    return Table(name=name, columns=columns_of(shapes), rows=rows, lines=lines, notes=notes, known_shapes=shapes)
