"""A table as read from anywhere, before anything is known about what its columns mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows of named values, and where they stood.

    Attributes:
        name: how messages call the table: a file's name, a split, a hub id.
        columns: every column's name, in order of appearance.
        rows: read from start to end as often as wanted; a row may lack columns.
        lines: the line on which each row starts, counted from 1, where the source has lines.
        notes: what was decided while reading, one printable line each.
        is_uniform: whether every row has every column.
    """

    name: str
    columns: tuple[str, ...]
    rows: Iterable[Row]
    lines: Sequence[int] | None = None
    notes: tuple[str, ...] = field(default=())
    is_uniform: bool = False

    @cached_property
    def shapes(self) -> dict[tuple[str, ...], int]:
        """The different sets of columns that rows have, each with the index of its first row."""
        if self.is_uniform:
            return {self.columns: 0}
        shapes: dict[tuple[str, ...], int] = {}
        for index, row in enumerate(self.rows):
            shapes.setdefault(tuple(map(str, row)), index)
        return shapes

    def place(self, index: int) -> str:
        """``FILE, row N (line M)`` for messages; rows count from 1, a header does not count as one."""
        line = f" (line {self.lines[index]})" if self.lines is not None else ""
        return f"{self.name}, row {index + 1}{line}"


def table_of_rows(
    rows: Sequence[Row], name: str, *, lines: Sequence[int] | None = None, notes: tuple[str, ...] = ()
) -> Table:
    """A table whose rows may differ in their columns."""
    columns = dict.fromkeys(str(key) for row in rows for key in row)
    return Table(name=name, columns=tuple(columns), rows=rows, lines=lines, notes=notes)
