"""The four kinds of training record, and how a row of named fields becomes one.

The field names of the first three are uniem's, so that users' files keep working.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Which of the four records a file holds."""

    PAIR = "pair"
    TRIPLET = "triplet"
    SCORED_PAIR = "scored_pair"
    RANKED = "ranked"


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and a text that answers it or means the same."""

    text: str
    text_pos: str


@dataclass(frozen=True, slots=True)
class Triplet:
    """A text, its positive and one or more hard negatives."""

    text: str
    text_pos: str
    text_neg: str | tuple[str, ...]

    @property
    def negatives(self) -> tuple[str, ...]:
        """The negatives as a tuple, whether one or many were given."""
        return (self.text_neg,) if isinstance(self.text_neg, str) else self.text_neg


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Two sentences and how alike they are: any scale, only the order matters."""

    sentence1: str
    sentence2: str
    label: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """A query with its positives, hard negatives, and optional teacher scores of both."""

    query: str
    pos: tuple[str, ...]
    neg: tuple[str, ...] = ()
    pos_scores: tuple[float, ...] | None = None
    neg_scores: tuple[float, ...] | None = None


Record = Pair | Triplet | ScoredPair | Ranked

RECORD_TYPES: dict[Kind, type[Record]] = {
    Kind.PAIR: Pair,
    Kind.TRIPLET: Triplet,
    Kind.SCORED_PAIR: ScoredPair,
    Kind.RANKED: Ranked,
}

REQUIRED_FIELDS: dict[Kind, tuple[str, ...]] = {
    Kind.SCORED_PAIR: ("sentence1", "sentence2", "label"),
    Kind.TRIPLET: ("text", "text_pos", "text_neg"),
    Kind.PAIR: ("text", "text_pos"),
    Kind.RANKED: ("query", "pos"),
}
"""What each kind cannot do without, in the order in which kinds are tried: a triplet is also a pair."""


def kind_of_fields(names: Mapping[str, Any] | set[str]) -> Kind | None:
    """The kind whose required fields are all among ``names``, or ``None``."""
    present = set(names)
    for kind, required in REQUIRED_FIELDS.items():
        if present.issuperset(required):
            return kind
    return None


def as_dict(record: Record) -> dict[str, Any]:
    """A record's fields by name; fields that are ``None`` are left out."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: value for name, value in values.items() if value is not None}
