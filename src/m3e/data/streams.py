"""Records one after the other, from sources of any size, with an account of what was dropped on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from m3e.data.cleaning import DROPS_NAMED, Cleaned, stream_records
from m3e.data.kinds import Layout, find_layout
from m3e.data.tables import Table
from m3e.records import Kind, Record

Check = Callable[[str, Layout], None]
"""Called with each table's name and layout before its rows are read; raises where they do not go together."""


@dataclass
class Account:
    """What reading came to so far.

    Attributes:
        rows: rows that gave a record.
        dropped: rows that gave none, by rule.
        drops: the first of them, one line each.
        notes: lines to print, each once.
        mapping: record field to column, where the two names differ.
    """

    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    drops: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    mapping: dict[str, str] = field(default_factory=dict)

    def note(self, *lines: str) -> None:
        """Keep lines that are not there yet."""
        self.notes += [line for line in dict.fromkeys(lines) if line not in self.notes]


def stream_tables(
    tables: Sequence[Callable[[], Table]],
    columns: dict[str, str],
    account: Account,
    check: Check = lambda name, layout: None,
) -> Iterator[tuple[Kind, Record]]:
    """The records of tables that are read one after the other, each with its kind.

    Args:
        tables: give a table each, when called.
        columns: record field to column, where the tables' names are not known ones.
        account: filled while the records are taken.
        check: may refuse a table's layout.

    Raises:
        DataError: a table cannot be read; one line says which, where and why.
    """
    for load in tables:
        table = load()
        layout = find_layout(table, columns)
        check(table.name, layout)
        yield from stream_table(table, layout, account)


def stream_table(table: Table, layout: Layout, account: Account) -> Iterator[tuple[Kind, Record]]:
    """The records of one table whose layout is known, in a single pass over its rows.

    Raises:
        DataError: a row cannot be read; one line says which, where and why.
    """
    account.note(*table.notes, *layout.notes)
    account.mapping = {**layout.mapping, **account.mapping}
    cleaned = Cleaned()
    for record in stream_records(table, layout, cleaned):
        account.rows += 1
        yield layout.kind, record
    account.dropped += cleaned.dropped
    account.drops += cleaned.drops[: DROPS_NAMED - len(account.drops)]
