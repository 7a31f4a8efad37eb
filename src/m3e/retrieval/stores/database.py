"""What a vector database must be able to do to hold our stores: a few operations on tables of rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from m3e.retrieval.filters import Condition

Vector = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Row:
    """A document as a store keeps it.

    Attributes:
        id: unique in its table.
        text: as typed.
        metadata: whatever JSON holds, by name.
        vector: fp32, of length 1.
    """

    id: str
    text: str
    metadata: Mapping[str, Any]
    vector: Vector

    @property
    def digest(self) -> str:
        """:func:`digest_of` the text and the metadata."""
        return digest_of(self.text, self.metadata)


class Database(Protocol):
    """Tables of :class:`Row`, and one JSON value a store that says which table is the one to search.

    Names of stores and tables are ASCII letters, digits and ``_``. A write is in the database when its method
    returns; a kill before that leaves some of the rows written, each of them whole.

    Attributes:
        kind: the product's name, for messages.
        most_hits: how many rows one search can give.
        errors: what its client raises where the database fails.
    """

    kind: str
    most_hits: int
    errors: tuple[type[Exception], ...]

    def read_state(self, store: str) -> dict[str, Any] | None:
        """What :meth:`write_state` wrote last, or ``None``."""

    def write_state(self, store: str, state: Mapping[str, Any]) -> None:
        """Replace the store's state in one step."""

    def create_table(self, table: str, dimension: int, *, ann: bool) -> None:
        """Make an empty table, unless there is one; ``ann``: it will be searched by an approximate index."""

    def drop_table(self, table: str) -> None:
        """Remove a table, where there is one."""

    def upsert(self, table: str, rows: Sequence[Row]) -> None:
        """Write rows of distinct ids; those whose id is there take its place."""

    def delete(self, table: str, ids: Sequence[str]) -> None:
        """Remove rows; ids that are not there do not matter."""

    def finish(self, table: str, *, ann: bool) -> None:
        """Called after the last write of a run: build or renew indexes."""

    def count(self, table: str) -> int:
        """How many rows there are."""

    def digests(self, table: str, ids: Sequence[str]) -> dict[str, str]:
        """The digests of those rows that are there, by id."""

    def fetch(self, table: str, ids: Sequence[str]) -> list[Row]:
        """Those rows that are there, in any order."""

    def nearest(self, table: str, vector: Vector, k: int, conditions: Sequence[Condition], *, ann: bool) -> list[Row]:
        """The ``k`` rows of the greatest cosine among those that meet every condition, in any order.

        ``ann`` allows an approximate answer; without it a row may be missed only where another's cosine
        differs by rounding.
        """

    def texts(self, table: str) -> Iterator[tuple[str, str]]:
        """Id and text of every row, in any order."""

    def close(self) -> None:
        """Let go of files and connections."""


def digest_of(text: str, metadata: Mapping[str, Any]) -> str:
    """32 hex digits that differ where the text or the metadata do."""
    content = json.dumps([text, metadata], ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def dump_metadata(metadata: Mapping[str, Any]) -> str:
    """Metadata as one line of JSON, types and order kept."""
    return json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False)


def row_of(identifier: str, text: str, metadata: str, vector: Any) -> Row:
    """A row from what a database gives back."""
    return Row(identifier, text, json.loads(metadata), np.asarray(vector, dtype=np.float32))
