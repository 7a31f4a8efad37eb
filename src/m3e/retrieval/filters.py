"""Conditions on metadata: ``city=北京``, ``year>=2020``, ``date<2024-07-01``, ``draft!=true``, ``author=null``.

Databases disagree about missing keys, about numbers that are strings (every cell of a CSV is one) and about odd
characters in names. So a row is filed under *facets*: names that every database accepts, each with a value of one
type, and a condition asks for facets only. It then means the same everywhere:

- a number is compared with numbers, and with strings that are written like a JSON number (``"2020"``, not ``"007"``);
- a date (ISO 8601; without a zone it is UTC, without a time midnight) with strings that are dates, by order;
- anything else, and whatever stands in double quotes, with strings and ``true`` / ``false``, by ``=`` and ``!=``;
- ``!=`` holds wherever ``=`` does not, so also where the key is missing; ``=null`` holds where the key is null or
  missing.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from m3e.errors import SettingsError

Operator = Literal["=", "!=", "<", "<=", ">", ">="]
Facets = dict[str, str | float]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FILTER = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^"=!<>][^=!<>]*?)\s*(>=|<=|!=|==|=|>|<)\s*(.*?)\s*', re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_PLAIN_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")
_LONGEST_WORD = 128
_PRESENT = "1"


@dataclass(frozen=True)
class Condition:
    """What a database is asked: a facet, an operator (order only for numbers), and a value of the facet's type.

    ``!=`` also holds where a row lacks the facet, everything else only where it has it.
    """

    facet: str
    operator: Operator
    operand: str | float


@dataclass(frozen=True)
class Filter:
    """One condition on metadata as written, made by :func:`parse_filter`.

    Attributes:
        key: the metadata's name.
        operator: between key and value.
        value: a string, a finite float, a date, or ``None`` for null.
    """

    key: str
    operator: Operator
    value: str | float | datetime | None

    @property
    def condition(self) -> Condition:
        """The filter in terms of facets."""
        if self.value is None:
            return Condition(_facet("p", self.key), "!=" if self.operator == "=" else "=", _PRESENT)
        if isinstance(self.value, str):
            return Condition(_facet("w", self.key), self.operator, _word(self.value))
        if isinstance(self.value, datetime):
            return Condition(_facet("d", self.key), self.operator, self.value.timestamp())
        return Condition(_facet("n", self.key), self.operator, self.value)


def parse_filter(text: str) -> Filter:
    """The filter that ``KEY OP VALUE`` says; a key with ``=``, ``<``, ``>``, ``!`` or ``"`` in it is a JSON string.

    Raises:
        SettingsError: no operator, or an order that the value does not have.
    """
    found = _FILTER.fullmatch(text)
    if found is None:
        raise SettingsError(
            f"the filter {text!r} is not understood; write KEY=VALUE, or one of != < <= > >= in place of ="
        )
    key, sign, written = found.groups()
    value: str | float | datetime | None = _parse_value(text, written)
    if sign not in ("=", "==", "!=") and isinstance(value, str):
        value = _date(value)
        if value is None:
            raise SettingsError(f"the filter {text!r}: {sign} compares numbers and dates (2024, 2024-07-01)")
    if sign not in ("=", "==", "!=") and value is None:
        raise SettingsError(f"the filter {text!r}: null can be compared by = and != only")
    return Filter(_unquoted(text, key), "=" if sign == "==" else sign, value)  # type: ignore[arg-type]


def conditions_of(filters: Sequence[str | Filter]) -> list[Condition]:
    """The conditions that filters, written or parsed, put on a row; it must meet all of them."""
    return [(item if isinstance(item, Filter) else parse_filter(item)).condition for item in filters]


def facets(metadata: Mapping[str, Any]) -> Facets:
    """What a row is filed under: by name, a string or a finite float.

    The first letter says which: ``p`` (present, that is, not null) and ``w`` (words) are strings, ``n`` (numbers)
    and ``d`` (dates, in seconds since 1970) floats.
    """
    found: Facets = {}
    for key, value in metadata.items():
        if value is None:
            continue
        found[_facet("p", key)] = _PRESENT
        if isinstance(value, int | float) and not isinstance(value, bool):
            if (number := _finite(value)) is not None:
                found[_facet("n", key)] = number
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
        found[_facet("w", key)] = _word(text)
        if isinstance(value, str):
            if _NUMBER.fullmatch(value) and (number := _finite(value)) is not None:
                found[_facet("n", key)] = number
            elif date := _date(value):
                found[_facet("d", key)] = date.timestamp()
    return found


def is_number_facet(name: str) -> bool:
    """Whether a facet's values are floats; the others' are strings."""
    return name[0] in "nd"


def passes(conditions: Sequence[Condition], metadata: Mapping[str, Any]) -> bool:
    """Whether a row with this metadata meets every condition."""
    filed = facets(metadata) if conditions else {}
    return all(_holds(item, filed) for item in conditions)


def _holds(item: Condition, filed: Facets) -> bool:
    if item.operator == "!=":
        return filed.get(item.facet) != item.operand
    return item.facet in filed and _COMPARE[item.operator](filed[item.facet], item.operand)


def _parse_value(text: str, written: str) -> str | float | None:
    if written.startswith('"'):
        return _unquoted(text, written)
    if written == "null":
        return None
    if _NUMBER.fullmatch(written) and (number := _finite(written)) is not None:
        return number
    return written


def _unquoted(text: str, written: str) -> str:
    if not written.startswith('"'):
        return written
    try:
        value = json.loads(written, strict=False)
    except ValueError as error:
        raise SettingsError(f"the filter {text!r}: {written} is not one string in double quotes") from error
    return str(value)


def _finite(value: float | str) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str) -> datetime | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        date = datetime.fromisoformat(text)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        date.timestamp()
    except (ValueError, OverflowError):
        return None
    return date


def _facet(kind: str, key: str) -> str:
    if _PLAIN_KEY.fullmatch(key):
        return f"{kind}_{key}"
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()
    return f"{kind}x_{digest}"


def _word(text: str) -> str:
    """``text``, or its hash where it is long: only equality is asked of it."""
    if len(text) <= _LONGEST_WORD and text.isprintable():
        return text
    return "hash of " + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
