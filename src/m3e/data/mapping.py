"""A card's mapping over raw rows: which are kept, and what their columns become as fields of records."""

from __future__ import annotations

import re
import string
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from m3e.catalogue.cards import Fields, RowMapping, columns_of
from m3e.data.cleaning import DROPS_NAMED
from m3e.data.columns import PART_OF_FIELD, Part
from m3e.data.conversions import UnusableValueError, conversion, exploding, is_missing
from m3e.data.kinds import Layout
from m3e.data.normalise import to_simplified
from m3e.data.tableqa import Header
from m3e.data.tables import Row, Table
from m3e.errors import DataError
from m3e.records import Kind, kind_of_fields

_PLACE = re.compile(r"([^\[\]]+)((?:\[[^\[\]]+\])*)")
_SHOWN_VALUES = 5

Read = Callable[[Row], Any]


@dataclass
class MappedRows:
    """What raw rows come to, made anew each time they are read.

    Attributes:
        source: the raw rows.
        mapping: see :class:`m3e.catalogue.cards.RowMapping`; its ``records`` were read before.
        headers: of tables, by their ids, for ``tableqa_sql``.
        class_names: of columns that hold a class's number, so that ``where`` may give its name.
        kept: raw rows that ``where`` let through in the last reading.
        dropped: raw rows that gave none in it, by rule: ``where``, ``bad_sql``, ``not_text``.
        drops: the first of them that ``where`` did not leave out, one line each.
        unwanted: values in the columns of ``where`` that were left out, the first few of each.
    """

    source: Table
    mapping: RowMapping
    headers: Mapping[str, Header] = field(default_factory=dict)
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    drops: list[str] = field(default_factory=list)
    unwanted: dict[str, dict[str, None]] = field(default_factory=dict)
    _origins: array[int] = field(default_factory=lambda: array("q"))

    def __iter__(self) -> Iterator[Row]:
        self.kept, self.dropped, self.drops = 0, Counter(), []
        where = _accepted_values(self.mapping, self.class_names)
        expand = _expander(self.mapping, self.headers)
        count = 0
        for index, row in enumerate(self.source.rows):
            if not self._is_wanted(row, where):
                self.dropped["where"] += 1
                continue
            self.kept += 1
            try:
                mapped = expand(row)
            except UnusableValueError as error:
                self.dropped[error.rule] += 1
                if len(self.drops) < DROPS_NAMED:
                    self.drops.append(f"{self.source.place(index)}: {error}")
                continue
            for item in mapped:
                if count == len(self._origins):
                    self._origins.append(index)
                count += 1
                yield item

    def place(self, index: int) -> str:
        """Where the raw row stands that the row ``index`` came from."""
        return self.source.place(self._origins[index])

    def _is_wanted(self, row: Row, where: Mapping[str, _Accepted]) -> bool:
        for column, accepted in where.items():
            value = row.get(column)
            if value not in accepted:
                found = self.unwanted.setdefault(column, {})
                if len(found) < _SHOWN_VALUES:
                    found[_as_text(value)] = None
                return False
        return True


@dataclass(frozen=True)
class MappedTable(Table):
    """A table of :class:`MappedRows`, which says of a row where its raw row stands."""

    rows: MappedRows

    def place(self, index: int) -> str:
        """``FILE, row N (line M)`` of the raw row."""
        return self.rows.place(index)


def map_table(
    table: Table,
    mapping: RowMapping,
    *,
    headers: Mapping[str, Header] | None = None,
    class_names: Mapping[str, Sequence[str]] | None = None,
) -> MappedTable:
    """The table of what a mapping makes of a raw table's rows.

    Args:
        table: the raw rows.
        mapping: without ``fields``, rows keep their columns.
        headers: see :class:`MappedRows`.
        class_names: see :class:`MappedRows`.

    Raises:
        MissingExtraError: a conversion needs a package that is not installed.
    """
    if "simplified" in mapping.convert.values():
        to_simplified("")  # so that a missing package is told at once
    rows = MappedRows(table, mapping, headers or {}, class_names or {})
    columns = dict.fromkeys(name for fields in mapping.fields for name in fields.of_record) or table.columns
    uniform = table.is_uniform or bool(mapping.fields)
    return MappedTable(table.name, tuple(columns), rows, notes=table.notes, is_uniform=uniform)


def layout_of(mapping: RowMapping, name: str) -> Layout | None:
    """The layout of the rows that a mapping gives, or ``None`` where it names no fields and they tell themselves.

    Raises:
        DataError: the fields make no record, or records of several kinds.
    """
    kinds = {kind_of_fields(fields.of_record) for fields in mapping.fields}
    if not kinds:
        return None
    names = dict.fromkeys(name for fields in mapping.fields for name in fields.of_record)
    if len(kinds) > 1 or None in kinds:
        raise DataError(
            f"{name}: mapping.fields gives {', '.join(names)}, which is not one kind of record; "
            "kinds: text + text_pos (+ text_neg), sentence1 + sentence2 + label, query + pos (+ neg)"
        )
    kind = Kind(next(iter(kinds)) or "")
    parts: dict[Part, tuple[str, ...]] = {PART_OF_FIELD[name]: (name,) for name in names}
    columns = {name: template for fields in mapping.fields for name, template in fields.of_record.items()}
    taken = ", ".join(f"{name} <- {template}" for name, template in columns.items() if name != template)
    return Layout(kind, parts, (f"columns: {taken}",) if taken else ())


def named_columns(mapping: RowMapping) -> tuple[str, ...]:
    """Every raw column that a mapping names, each once."""
    names = [*mapping.where, *mapping.convert]
    for fields in mapping.fields:
        names += [fields.explode] if fields.explode else []
        for template in fields.of_record.values():
            names += [_split_place(place)[0] if template != place else place for place in columns_of(template)]
    names += ["table_id"] if "tableqa_sql" in mapping.convert.values() else []
    return tuple(dict.fromkeys(names))


def _as_text(value: Any) -> str:
    """A value as ``where`` compares it: 1, 1.0 and "1" are equal."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


@dataclass(frozen=True)
class _Accepted:
    """The texts of a column's accepted values: of rows that hold a class's number, and of all others."""

    numbers: frozenset[str]
    texts: frozenset[str]

    def __contains__(self, value: Any) -> bool:
        return _as_text(value) in (self.numbers if isinstance(value, int) else self.texts)


def _accepted_values(mapping: RowMapping, class_names: Mapping[str, Sequence[str]]) -> dict[str, _Accepted]:
    """Column to its accepted values; where it holds classes, a name stands for its number and the other way round."""
    accepted = {}
    for column, values in mapping.where.items():
        names = list(class_names.get(column, ()))
        texts = [_as_text(value) for value in values]
        numbers = {str(names.index(text)) if text in names else text for text in texts}
        named = {names[int(text)] for text in numbers if text.isdecimal() and int(text) < len(names)}
        accepted[column] = _Accepted(frozenset(numbers), frozenset(texts) | named)
    return accepted


def _expander(mapping: RowMapping, headers: Mapping[str, Header]) -> Callable[[Row], list[Row]]:
    """From a raw row to the rows that it gives."""
    exploded = {fields.explode for fields in mapping.fields}
    conversions = {
        column: exploding(conversion(name, headers)) if column in exploded else conversion(name, headers)
        for column, name in mapping.convert.items()
    }
    makers = [_maker(fields, mapping.labels) for fields in mapping.fields]

    def expand(row: Row) -> list[Row]:
        if conversions:
            changed = {column: convert(row.get(column), row) for column, convert in conversions.items()}
            row = {**row, **changed}
        return [item for make in makers for item in make(row)] if makers else [row]

    return expand


def _maker(fields: Fields, labels: Mapping[str, float]) -> Callable[[Row], Iterator[Row]]:
    readers = {name: _reader(template) for name, template in fields.of_record.items()}
    if labels and "label" in readers:
        read_label = readers["label"]
        readers["label"] = lambda row: labels.get(_as_text(read_label(row)))
    column = fields.explode

    def make(row: Row) -> Iterator[Row]:
        for item in _exploded(row, column) if column else (row,):
            yield {name: read(item) for name, read in readers.items()}

    return make


def _exploded(row: Row, column: str) -> Iterator[Row]:
    """The row once for each item of a list; an empty one still gives a row, so that it is counted as dropped."""
    value = row.get(column)
    items = value if isinstance(value, list | tuple) else [value]
    return ({**row, column: item} for item in items or [None])


def _reader(template: str) -> Read:
    """Gives the value of a column, or the text of a format string, stripped."""
    if columns_of(template) == [template]:
        return lambda row: row.get(template)
    pieces = [
        (literal, None if place is None else _split_place(place))
        for literal, place, _, _ in string.Formatter().parse(template)
    ]

    def read(row: Row) -> str:
        text = ""
        for literal, place in pieces:
            text += literal if place is None else literal + _inserted(row, *place)
        return text.strip()

    return read


def _split_place(place: str) -> tuple[str, tuple[str, ...]]:
    """The column and the keys in ``column``, ``column[0]``, ``column[key][0]``, as :meth:`str.format` reads them."""
    match = _PLACE.fullmatch(place)
    if match is None:
        return place, ()
    return match[1], tuple(re.findall(r"\[([^\[\]]+)\]", match[2]))


def _inserted(row: Row, column: str, keys: tuple[str, ...]) -> str:
    """A value as a format string has it: nothing where it is missing."""
    value = row.get(column)
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list | tuple) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return ""
    if isinstance(value, str):
        return value
    if is_missing(value):
        return ""
    if isinstance(value, int | float):
        return str(value)
    raise UnusableValueError("not_text", f"{column} is not text, but a {type(value).__name__}")
