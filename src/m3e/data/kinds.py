"""Which kind of record a table holds, told from its columns and values, and whether all its rows agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m3e.data.columns import Part, Parts, check_chosen, mapping_of, match_columns, require_texts
from m3e.data.labels import is_entailment_class, is_number, parse_label
from m3e.data.tables import Table
from m3e.errors import DataError
from m3e.records import Kind

_SHOWN_NAMES = 12


@dataclass(frozen=True)
class Layout:
    """What a table holds: the kind of its records, and the columns of each part."""

    kind: Kind
    parts: Parts
    notes: tuple[str, ...]

    @property
    def mapping(self) -> dict[str, str]:
        """Record field to column, where the two names differ."""
        return mapping_of(self.parts, self.kind)


@dataclass(frozen=True)
class _Shape:
    """Rows with the same columns: the parts that these name, and the index of the first such row."""

    parts: dict[Part, tuple[str, ...]]
    first: int

    @property
    def texts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.parts[Part.QUERY], self.parts[Part.POSITIVE]


def find_layout(table: Table, chosen: Mapping[str, str]) -> Layout:
    """The kind and the columns of ``table``'s records.

    Args:
        table: at least one row.
        chosen: record field to column, where the user says so.

    Raises:
        DataError: no column for a text, several for one part, labels that are no numbers, or rows of
            different kinds (the message names the first row that disagrees, and both kinds).
    """
    check_chosen(chosen, table.columns, table.name)
    shapes = _complete_shapes(table, chosen)
    parts = _merged_parts(table, shapes)
    kind, notes = _decide(table, parts)
    _check_rows_agree(table, shapes, kind)
    return Layout(kind, _parts_of_kind(parts, kind), (*notes, *_column_notes(table, parts, kind)))


def is_list(value: Any) -> bool:
    """Whether ``value`` is a list of cells, as JSON, Arrow or NumPy give it."""
    return isinstance(value, list | tuple) or (hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1)


def _complete_shapes(table: Table, chosen: Mapping[str, str]) -> list[_Shape]:
    """The sets of columns that name both texts, in order of their first rows."""

    def is_empty(column: str) -> bool:
        return all(_is_missing(row.get(column)) for row in table.rows)

    shapes = [
        _Shape(match_columns(columns, chosen, table.name, is_empty=is_empty), first)
        for columns, first in table.shapes.items()
    ]
    complete = [shape for shape in shapes if Part.QUERY in shape.parts and Part.POSITIVE in shape.parts]
    if not complete:
        require_texts(match_columns(table.columns, chosen, table.name, is_empty=is_empty), table.columns, table.name)
        raise DataError(f"{table.name}: no row has both texts; the two stand in different rows")
    return complete


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or (is_list(value) and len(value) == 0)


def _merged_parts(table: Table, shapes: Sequence[_Shape]) -> dict[Part, tuple[str, ...]]:
    """The parts of the first shape, with those that only later rows have; all must agree on the texts."""
    first = shapes[0]
    parts = dict(first.parts)
    for shape in shapes[1:]:
        if shape.texts != first.texts:
            raise _disagreement(table, first, shape)
        for part, columns in shape.parts.items():
            parts[part] = tuple(dict.fromkeys((*parts.get(part, ()), *columns)))
    return parts


def _disagreement(table: Table, first: _Shape, other: _Shape) -> DataError:
    kinds = _kind_of_row(table, first), _kind_of_row(table, other)
    place, first_place = table.place(other.first), f"row {first.first + 1}"
    if kinds[0] == kinds[1]:
        columns, first_columns = (" and ".join(map("+".join, shape.texts)) for shape in (other, first))
        return DataError(
            f"{place} has its texts in {columns}, but {first_place} in {first_columns}; use one pair of names in a file"
        )
    return DataError(
        f"{place} is a {_spoken(kinds[1])}, but {first_place} is a {_spoken(kinds[0])}; "
        "a file holds one kind of record: part it in two"
    )


def _spoken(kind: Kind) -> str:
    return kind.value.replace("_", " ")


def _kind_of_row(table: Table, shape: _Shape) -> Kind:
    row = next(row for index, row in enumerate(table.rows) if index == shape.first)
    if is_list(row.get(shape.parts[Part.POSITIVE][0])):
        return Kind.RANKED
    if Part.NEGATIVE in shape.parts:
        return Kind.TRIPLET
    return Kind.SCORED_PAIR if Part.LABEL in shape.parts else Kind.PAIR


def _decide(table: Table, parts: Parts) -> tuple[Kind, list[str]]:
    if _is_ranked(table, parts):
        return Kind.RANKED, []
    if Part.NEGATIVE in parts:
        return Kind.TRIPLET, []
    if Part.LABEL in parts:
        return _decide_by_labels(table, parts)
    return Kind.PAIR, []


def _is_ranked(table: Table, parts: Parts) -> bool:
    """Whether positives are lists, or scored, or some row of listed negatives has none."""
    if Part.POSITIVE_SCORES in parts or Part.NEGATIVE_SCORES in parts:
        return True
    if not table.may_hold_lists:
        return False
    positive, negatives = parts[Part.POSITIVE][0], parts.get(Part.NEGATIVE, ())
    rows = lists = negative_lists = without_negative = 0
    for row in table.rows:
        rows += 1
        lists += is_list(row.get(positive))
        for column in negatives[:1]:
            value = row.get(column)
            negative_lists += is_list(value)
            without_negative += value is None or (is_list(value) and len(value) == 0)
    if lists and (positive == "pos" or lists * 2 > rows):
        return True
    return bool(negative_lists and without_negative) and negatives[0] != "text_neg"


def _decide_by_labels(table: Table, parts: Parts) -> tuple[Kind, list[str]]:
    """A scored pair where labels are numbers; where they never are, a pair whose label is something else.

    Raises:
        DataError: classes of natural language inference, or ``sentence1``, ``sentence2`` and no number.
    """
    column = parts[Part.LABEL][0]
    numbers = others = 0
    examples: dict[str, None] = {}
    classes = True
    for row in table.rows:
        value = row.get(column)
        if is_number(value):
            numbers += 1
        elif parse_label(value) == "bad_label":
            others += 1
            classes = classes and is_entailment_class(value)
            if len(examples) < 3:
                examples[f"{value!r:.40}"] = None
    texts = parts[Part.QUERY][0], parts[Part.POSITIVE][0]
    is_scored = texts == ("sentence1", "sentence2")
    if others and not numbers and (classes or is_scored):
        raise DataError(_labels_message(table.name, column, list(examples), classes))
    if (numbers and numbers >= others) or is_scored:
        return Kind.SCORED_PAIR, [] if is_scored else [_scored_note(table.name, column)]
    return Kind.PAIR, []


def _labels_message(name: str, column: str, examples: Sequence[str], classes: bool) -> str:
    what = "make triplets of them (text, entailment as text_pos, contradiction as text_neg) or " if classes else ""
    found = f"{column} holds {', '.join(examples)}"
    return f"{name}: labels must be numbers (higher means more alike), but {found}; {what}write numbers"


def _scored_note(name: str, column: str) -> str:
    return f"{name}: read as scored pairs, as the column {column} holds numbers; without it they are pairs"


def _check_rows_agree(table: Table, shapes: Sequence[_Shape], kind: Kind) -> None:
    """Refuse a file where some rows are pairs and others triplets, or scored; a hole in a column is no such thing."""
    first = shapes[0]
    if kind is Kind.RANKED:
        return
    parts = [Part.NEGATIVE] if kind is Kind.TRIPLET else []
    if kind is Kind.SCORED_PAIR and first.texts == (("text",), ("text_pos",)):
        parts.append(Part.LABEL)
    for shape in shapes[1:]:
        if any((part in shape.parts) != (part in first.parts) for part in parts):
            raise _disagreement(table, first, shape)


def _parts_of_kind(parts: Parts, kind: Kind) -> dict[Part, tuple[str, ...]]:
    unused = {
        Kind.PAIR: {Part.NEGATIVE, Part.LABEL},
        Kind.TRIPLET: {Part.LABEL},
        Kind.SCORED_PAIR: {Part.NEGATIVE},
        Kind.RANKED: {Part.LABEL},
    }[kind]
    return {part: columns for part, columns in parts.items() if part not in unused}


def _column_notes(table: Table, parts: Parts, kind: Kind) -> list[str]:
    used_parts = _parts_of_kind(parts, kind)
    mapping = mapping_of(used_parts, kind)
    used = {column for columns in used_parts.values() for column in columns}
    ignored = [column for column in table.columns if column not in used]
    notes = []
    if mapping:
        notes.append("columns: " + ", ".join(f"{field} <- {column}" for field, column in mapping.items()))
    if ignored:
        more = f" and {len(ignored) - _SHOWN_NAMES} more" if len(ignored) > _SHOWN_NAMES else ""
        notes.append(f"columns not used: {', '.join(ignored[:_SHOWN_NAMES])}{more}")
    return notes
