"""The rows of a set: staged on disk, and in memory as numbers of queries and passages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from m3e.data.pipeline import SetPlan, write_one_kind
from m3e.data.staging import TEXT_KIND
from m3e.data.streams import Account
from m3e.errors import DataError
from m3e.files import atomic_folder, hash_settings, read_json, read_marker, write_json, write_marker
from m3e.mining.texts import TextFile, exact_hashes, write_texts
from m3e.records import Kind

STEP = "mining rows"
ROWS_AT_ONCE = 4096

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Lists:
    """A list of numbers for each of some things: the list of thing i is ``values[ends[i - 1]:ends[i]]``."""

    ends: Numbers
    values: Numbers

    def __len__(self) -> int:
        return len(self.ends)

    @cached_property
    def starts(self) -> Numbers:
        """Where each list begins."""
        return np.concatenate(([0], self.ends[:-1])) if len(self.ends) else self.ends

    @cached_property
    def lengths(self) -> Numbers:
        """How many numbers each list has."""
        return self.ends - self.starts

    def owners(self, start: int = 0, stop: int | None = None) -> Numbers:
        """For each value of the lists from ``start`` to before ``stop``: whose it is."""
        lengths = self.lengths[start:stop]
        return np.repeat(np.arange(start, start + len(lengths)), lengths)

    def span(self, start: int, stop: int) -> slice:
        """Where in ``values`` the lists from ``start`` to before ``stop`` are."""
        return slice(int(self.starts[start]), int(self.ends[stop - 1])) if stop > start else slice(0, 0)


@dataclass(frozen=True)
class Rows:
    """A set's rows, whose different texts are numbered: queries, and passages (positives before negatives).

    Attributes:
        kind: of the records.
        count: how many rows there are.
        query: of each row.
        positives: passages of each row.
        negatives: passages of each row, as it came.
        reading: rows that gave no record, by rule, lines about them, and other lines to print.
    """

    plan: SetPlan
    folder: Path
    kind: str
    query: Numbers
    positives: Lists
    negatives: Lists
    queries: TextFile
    passages: TextFile
    reading: dict[str, Any]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.query)

    @property
    def symmetric(self) -> bool:
        """Whether both sides are the same kind of text."""
        return self.plan.symmetric or self.kind == Kind.SCORED_PAIR

    @property
    def digest(self) -> str:
        """Of all that is in the rows."""
        arrays = (self.query, self.positives.ends, self.positives.values, self.negatives.ends, self.negatives.values)
        return hash_settings([self.queries.digest, self.passages.digest, *(_digest(array) for array in arrays)])

    @cached_property
    def answers(self) -> Lists:
        """The positives of each query, of all its rows, in order and each once."""
        counts = np.bincount(self._pairs // self._width, minlength=len(self.queries))
        return Lists(np.cumsum(counts), self._pairs % self._width)

    def answer_places(self, queries: Numbers, positives: Numbers) -> Numbers:
        """Where in the values of :attr:`answers` each query's positive is."""
        return np.searchsorted(self._pairs, queries * self._width + positives)

    @property
    def _width(self) -> np.int64:
        return np.int64(max(1, len(self.passages)))

    @cached_property
    def _pairs(self) -> Numbers:
        """Each query with each of its positives, as one number that sorts by the query."""
        return np.unique(np.repeat(self.query, self.positives.lengths) * self._width + self.positives.values)

    def tables(self) -> Iterator[tuple[int, pa.Table]]:
        """The staged rows some thousand at a time, each time with the number of the first."""
        start = 0
        for batch in _batches(self.folder):
            yield start, pa.Table.from_batches([batch])
            start += batch.num_rows


def _digest(array: NDArray[Any]) -> str:
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def stage_rows(plan: SetPlan, folder: Path) -> Rows:
    """The rows of a set, read once into ``folder``; taken from there where they are there already.

    Raises:
        DataError: the set cannot be read, holds single texts, or rows of several kinds; the message names it.
    """
    inputs = hash_settings([plan.name, plan.inputs])
    marker = read_marker(folder)
    if marker is None or marker["m3e"] != STEP or marker.get("inputs") != inputs:
        shutil.rmtree(folder, ignore_errors=True)
        with atomic_folder(folder) as temporary:
            facts = _read(plan, temporary)
            facts |= _number(temporary)
            write_json(temporary / "facts.json", facts)
            write_marker(temporary, STEP, inputs=inputs)
    facts = read_json(folder / "facts.json")
    with np.load(folder / "rows.npz") as arrays:
        query, *lists = (arrays[name] for name in _ARRAYS)
    return Rows(
        plan,
        folder,
        facts["kind"],
        query,
        Lists(*lists[:2]),
        Lists(*lists[2:]),
        TextFile(folder / "queries", facts["queries"]),
        TextFile(folder / "passages", facts["passages"]),
        facts["reading"],
    )


_ARRAYS = ("query", "positive_ends", "positives", "negative_ends", "negatives")


def _read(plan: SetPlan, folder: Path) -> dict[str, Any]:
    def check(kind: str) -> None:
        if kind == TEXT_KIND:
            raise DataError(f"{plan.name} holds single texts; pairs, triplets, ranked or scored rows are wanted")

    account = Account()
    kind, _ = write_one_kind(plan, account, folder / "parts", check)
    reading = {"dropped": dict(account.dropped), "drops": account.drops[:20], "notes": account.notes}
    return {"kind": kind, "reading": reading}


def _number(folder: Path) -> dict[str, Any]:
    """Give every different query and passage a number, and write them; what identifies them."""
    hashes: dict[str, list[NDArray[np.uint64]]] = {name: [] for name in _COLUMNS}
    lengths: dict[str, list[Numbers]] = {name: [] for name in _COLUMNS}
    for batch in _batches(folder):
        for name in _COLUMNS:
            texts, counts = _texts(batch, name)
            hashes[name].append(exact_hashes(texts))
            lengths[name].append(counts)
    joined = {name: np.concatenate(parts) for name, parts in hashes.items()}
    query, query_first = _numbered(joined["query"])
    passage, passage_first = _numbered(np.concatenate((joined["positives"], joined["negatives"])))
    positives = len(joined["positives"])
    np.savez(
        folder / "rows.npz",
        query=query,
        positive_ends=np.cumsum(np.concatenate(lengths["positives"])),
        positives=passage[:positives],
        negative_ends=np.cumsum(np.concatenate(lengths["negatives"])),
        negatives=passage[positives:],
    )
    for name in ("queries", "passages"):
        (folder / name).mkdir()
    return {
        "queries": write_texts(_chosen(folder, ("query",), query_first), folder / "queries"),
        "passages": write_texts(_chosen(folder, ("positives", "negatives"), passage_first), folder / "passages"),
    }


_COLUMNS = ("query", "positives", "negatives")


def _numbered(hashes: NDArray[np.uint64]) -> tuple[Numbers, NDArray[np.bool_]]:
    """Each text's number, in order of first occurrence, and whether this is that occurrence."""
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    is_first = np.zeros(len(hashes), np.bool_)
    is_first[first] = True
    return number[inverse.reshape(-1)], is_first


def _chosen(folder: Path, columns: tuple[str, ...], mask: NDArray[np.bool_]) -> Iterator[list[str]]:
    start = 0
    for name in columns:
        for batch in _batches(folder, [name]):
            texts, _ = _texts(batch, name)
            chosen = mask[start : start + len(texts)]
            start += len(texts)
            yield [text for text, wanted in zip(texts, chosen.tolist(), strict=True) if wanted]


def _texts(batch: pa.RecordBatch, name: str) -> tuple[list[str], Numbers]:
    """All texts of a column, and how many each row has."""
    column = batch[name]
    if name == "query":
        return column.to_pylist(), np.ones(len(column), np.int64)
    return column.flatten().to_pylist(), column.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)


def _batches(folder: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    for path in sorted((folder / "parts").glob("*.parquet")):
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield from file.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns)
