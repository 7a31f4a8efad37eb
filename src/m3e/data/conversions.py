"""What a column's values may be turned into before they are mapped: see ``CONVERSIONS`` of the cards."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

from m3e.data.normalise import to_simplified
from m3e.data.tableqa import Header, sql_text
from m3e.data.tables import Row

Convert = Callable[[Any, Row], Any]
"""From a column's value, and the row that it stands in, to what takes its place."""


class UnusableValueError(ValueError):
    """A value that a mapping can do nothing with; the row is dropped, by ``rule``."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def conversion(name: str, headers: Mapping[str, Header]) -> Convert:
    """The conversion of that name; ``headers`` are those of the tables that ``tableqa_sql`` needs, by id."""
    if name == "tableqa_sql":
        return partial(_sql_of_row, headers)
    return {"words": _words, "simplified": _simplified, "text": _text}[name]


def exploding(convert: Convert) -> Convert:
    """A conversion of each item of a list, instead of the list."""

    def convert_items(value: Any, row: Row) -> Any:
        return [convert(item, row) for item in value] if isinstance(value, list | tuple) else convert(value, row)

    return convert_items


def _words(value: Any, row: Row) -> Any:
    is_words = isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)
    return join_words(value) if is_words or isinstance(value, str) else value


def _simplified(value: Any, row: Row) -> Any:
    if isinstance(value, list | tuple):
        return [_simplified(item, row) for item in value]
    return to_simplified(value) if isinstance(value, str) else value


def _text(value: Any, row: Row) -> Any:
    if isinstance(value, list | tuple):
        return [_text(item, row) for item in value]
    return str(value) if isinstance(value, int | float) and not is_missing(value) else value


def _sql_of_row(headers: Mapping[str, Header], value: Any, row: Row) -> Any:
    if value is None:
        return None
    header = headers.get(str(row.get("table_id")))
    if header is None:
        raise UnusableValueError("bad_sql", f"there is no table {row.get('table_id')!r} among {len(headers)}")
    try:
        return sql_text(value, header)
    except ValueError as error:
        raise UnusableValueError("bad_sql", str(error)) from error


def join_words(words: str | Iterable[str]) -> str:
    """The text of words that a tokenizer parted: a space stays only between two ASCII letters or digits."""
    parts = [part for word in ([words] if isinstance(words, str) else words) for part in str(word).split()]
    text = "".join(parts[:1])
    for before, word in pairwise(parts):
        text += f" {word}" if _is_ascii_word(before[-1]) and _is_ascii_word(word[0]) else word
    return text


def _is_ascii_word(character: str) -> bool:
    return character.isascii() and character.isalnum()


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: ``None``, or the NaN that takes its place among numbers."""
    return value is None or (isinstance(value, float) and math.isnan(value))
