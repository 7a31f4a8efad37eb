"""How alike two sentences are, as files write it: numbers, and numbers as text."""

from __future__ import annotations

import math
import numbers
import unicodedata
from decimal import Decimal
from typing import Any, Literal

_MISSING = frozenset(("", "nan", "na", "n/a", "null", "none"))
_BOOLEANS = {"true": 1.0, "false": 0.0}
_ENTAILMENT = frozenset(
    (
        "entailment",
        "neutral",
        "contradiction",
        "entailed",
        "contradictory",
        "蕴含",
        "中立",
        "矛盾",
        "entail",
        "contradict",
    )
)

Fault = Literal["missing_label", "bad_label"]


def parse_label(value: Any) -> float | Fault:
    """The label as a float, or the rule by which the row is dropped.

    Full-width digits and blanks around a number are read as the number; ``True`` is 1. Nothing is rescaled.
    """
    if value is None:
        return "missing_label"
    if isinstance(value, str):
        return _parse_text(value)
    if not isinstance(value, numbers.Real | Decimal):
        return "bad_label"
    return _checked(float(value))


def is_number(value: Any) -> bool:
    """Whether ``value`` is a usable label."""
    return isinstance(parse_label(value), float)


def is_entailment_class(value: Any) -> bool:
    """Whether ``value`` names a class of natural language inference, such as ``entailment`` or ``矛盾``."""
    return isinstance(value, str) and value.strip().casefold() in _ENTAILMENT


def _parse_text(value: str) -> float | Fault:
    text = unicodedata.normalize("NFKC", value).strip().casefold()
    if text in _MISSING:
        return "missing_label"
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if "_" in text:  # float() reads 1_0 as 10
        return "bad_label"
    try:
        return _checked(float(text))
    except ValueError:
        return "bad_label"


def _checked(number: float) -> float | Fault:
    if math.isnan(number):
        return "missing_label"
    return number if math.isfinite(number) else "bad_label"
