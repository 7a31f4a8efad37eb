"""Rows to records: what is blank or no text is dropped, counted and named; texts stay as typed."""

from __future__ import annotations

import math
import numbers
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from m3e.data.columns import FIELDS, Part
from m3e.data.keys import has_lone_surrogate, is_blank
from m3e.data.kinds import Layout, is_list
from m3e.data.labels import parse_label
from m3e.data.tables import Row, Table
from m3e.errors import DataError
from m3e.records import Kind, Pair, Ranked, Record, ScoredPair, Triplet

DROPS_NAMED = 1000

_REASONS = {
    "empty_text": "is empty",
    "not_text": "is not text",
    "missing_label": "is missing",
    "bad_label": "is not a number",
}


@dataclass
class Cleaned:
    """Records, and the rows that gave none: counted by rule, the first of them named."""

    records: list[Record] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    drops: list[str] = field(default_factory=list)


class _RowDroppedError(Exception):
    """This row gives no record, by ``rule``, because of the record's ``part``."""

    def __init__(self, rule: str, part: Part) -> None:
        super().__init__(rule)
        self.rule = rule
        self.part = part


class _UnusableRowError(Exception):
    """A row that stops the reading; the message says why, without the place."""


def clean_rows(table: Table, layout: Layout) -> Cleaned:
    """The records of a table's rows, in order, all at once; see :func:`stream_records`."""
    cleaned = Cleaned()
    cleaned.records.extend(stream_records(table, layout, cleaned))
    return cleaned


def stream_records(table: Table, layout: Layout, account: Cleaned) -> Iterator[Record]:
    """The records of a table's rows, in order, one after the other; what is dropped goes to ``account``.

    A row is dropped by the first rule that it breaks: ``empty_text`` (missing, or nothing visible),
    ``not_text`` (a number, a list, a lone surrogate), ``missing_label``, ``bad_label``. Blank texts
    among several negatives or positives are left out, and the row goes only where none remains.

    Raises:
        DataError: teacher scores that are not numbers, or not one for each text.
    """
    make = _MAKERS[layout.kind]
    for index, row in enumerate(table.rows):
        try:
            record = make(row, layout)
        except _RowDroppedError as error:
            account.dropped[error.rule] += 1
            if len(account.drops) < DROPS_NAMED:
                name = FIELDS[layout.kind][error.part]
                account.drops.append(f"{table.place(index)}: {name} {_REASONS[error.rule]}")
        except _UnusableRowError as error:
            raise DataError(f"{table.place(index)}: {error}") from error
        else:
            yield record


def _pair(row: Row, layout: Layout) -> Record:
    return Pair(_text_of(row, layout, Part.QUERY), _text_of(row, layout, Part.POSITIVE))


def _triplet(row: Row, layout: Layout) -> Record:
    text, positive = _text_of(row, layout, Part.QUERY), _text_of(row, layout, Part.POSITIVE)
    columns = layout.parts[Part.NEGATIVE]
    if len(columns) == 1 and not is_list(row.get(columns[0])):
        return Triplet(text, positive, _checked_text(row.get(columns[0]), Part.NEGATIVE))
    negatives = [text for column in columns for text, _ in _texts(row.get(column), Part.NEGATIVE)]
    if not negatives:
        raise _RowDroppedError("empty_text", Part.NEGATIVE)
    return Triplet(text, positive, tuple(negatives))


def _scored_pair(row: Row, layout: Layout) -> Record:
    first, second = _text_of(row, layout, Part.QUERY), _text_of(row, layout, Part.POSITIVE)
    label = parse_label(row.get(layout.parts[Part.LABEL][0]))
    if isinstance(label, str):
        raise _RowDroppedError(label, Part.LABEL)
    return ScoredPair(first, second, label)


def _ranked(row: Row, layout: Layout) -> Record:
    query = _text_of(row, layout, Part.QUERY)
    positives, positive_scores = _scored_texts(row, layout, Part.POSITIVE, Part.POSITIVE_SCORES)
    negatives, negative_scores = _scored_texts(row, layout, Part.NEGATIVE, Part.NEGATIVE_SCORES)
    if not positives:
        raise _RowDroppedError("empty_text", Part.POSITIVE)
    return Ranked(query, positives, negatives, positive_scores, negative_scores)


_MAKERS: dict[Kind, Callable[[Row, Layout], Record]] = {
    Kind.PAIR: _pair,
    Kind.TRIPLET: _triplet,
    Kind.SCORED_PAIR: _scored_pair,
    Kind.RANKED: _ranked,
}


def _text_of(row: Row, layout: Layout, part: Part) -> str:
    return _checked_text(row.get(layout.parts[part][0]), part)


def _checked_text(value: Any, part: Part) -> str:
    """``value`` as a plain string, unless it is missing, blank, or no text."""
    if not isinstance(value, str):
        raise _RowDroppedError("empty_text" if _is_missing(value) else "not_text", part)
    if has_lone_surrogate(value):
        raise _RowDroppedError("not_text", part)
    if is_blank(value):
        raise _RowDroppedError("empty_text", part)
    return value if type(value) is str else str(value)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, numbers.Real) and math.isnan(value))


def _texts(value: Any, part: Part) -> list[tuple[str, int]]:
    """The texts of a cell that holds one or a list, less blank ones, each with its index in the cell."""
    values = list(value) if is_list(value) else [value]
    texts = []
    for index, item in enumerate(values):
        if _is_missing(item) or (isinstance(item, str) and is_blank(item) and not has_lone_surrogate(item)):
            continue
        texts.append((_checked_text(item, part), index))
    return texts


def _scored_texts(
    row: Row, layout: Layout, part: Part, scores_part: Part
) -> tuple[tuple[str, ...], tuple[float, ...] | None]:
    """The texts of all columns of ``part``, and their scores where the row has any."""
    values: list[Any] = []
    for column in layout.parts.get(part, ()):
        value: Any = row.get(column)
        values.extend(list(value) if is_list(value) else [] if value is None else [value])
    kept = _texts(values, part)
    scores = _scores(row, layout, scores_part, len(values), part)
    texts = tuple(text for text, _ in kept)
    return texts, None if scores is None else tuple(scores[index] for _, index in kept)


def _scores(row: Row, layout: Layout, scores_part: Part, expected: int, part: Part) -> Sequence[float] | None:
    columns = layout.parts.get(scores_part, ())
    value = row.get(columns[0]) if columns else None
    if value is None:
        return None
    values = list(value) if is_list(value) else [value]
    texts_name, scores_name = FIELDS[Kind.RANKED][part], FIELDS[Kind.RANKED][scores_part]
    if len(values) != expected:
        raise _UnusableRowError(f"{scores_name} has {len(values)} numbers for {expected} texts in {texts_name}")
    scores = [parse_label(item) for item in values]
    numbers_only = [score for score in scores if isinstance(score, float)]
    if len(numbers_only) < len(scores):
        raise _UnusableRowError(f"{scores_name} must hold numbers, one for each text in {texts_name}")
    return numbers_only
