"""A prepared data folder as sources of training rows: its data sets, their shards, and the shards' texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m3e.data.manifest import read_manifest
from m3e.data.staging import TEXT_KIND
from m3e.errors import DataError
from m3e.records import Kind
from m3e.training.rows import NEGATIVES_A_ROW

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Source:
    """A data set of a prepared folder.

    Attributes:
        kind: of its records, or ``text``.
        symmetric: whether its two sides may be swapped.
        weight: how often it is drawn beside others.
        rows: records in the shards.
        shards: parquet files, in order.
        content_hash: of the shards.
    """

    name: str
    kind: str
    category: str
    symmetric: bool
    weight: float
    rows: int
    shards: tuple[Path, ...]
    content_hash: str


@dataclass(frozen=True)
class ShardRows:
    """Some records' texts, and the training rows that they make.

    Attributes:
        texts: of all records, each record's together.
        slots: of shape (rows, columns): which text is the row's query, positive, negatives; -1 for none.
        labels: a number a row, of scored pairs.
        scores: of shape (rows, columns - 1): a teacher's, of the positive and the negatives; NaN for none.
    """

    texts: list[str]
    slots: NDArray[np.int64]
    labels: NDArray[np.float32] | None = None
    scores: NDArray[np.float32] | None = None


def read_sources(folder: Path) -> list[Source]:
    """The data sets with rows of a folder that ``m3e data prepare`` wrote, in the manifest's order.

    Raises:
        DataError: no manifest, no rows, or a shard that is missing.
    """
    sources = []
    for entry in read_manifest(folder)["datasets"]:
        shards = tuple(folder / shard["file"] for shard in entry["shards"])
        missing = next((shard for shard in shards if not shard.is_file()), None)
        if missing is not None:
            raise DataError(f"{missing} is missing, which {folder / 'manifest.json'} names; prepare the data again")
        if not entry["rows_out"]:
            continue
        sources.append(
            Source(
                entry["dataset"],
                entry["kind"],
                entry.get("category", ""),
                bool(entry.get("symmetric", False)),
                float(entry.get("weight", 1.0)),
                int(entry["rows_out"]),
                shards,
                entry["content_hash"],
            )
        )
    if not sources:
        raise DataError(f"{folder} holds no rows to train on")
    return sources


def shard_rows(shard: Path, kind: str, negatives: int = NEGATIVES_A_ROW) -> Iterator[ShardRows]:
    """The texts and training rows of a shard, some thousand records at a time.

    A ranked record makes one row a positive, with the same first ``negatives`` negatives.

    Raises:
        DataError: the shard is not one of its kind.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(shard, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                yield _READERS[kind](batch, negatives)
    except (pa.ArrowException, KeyError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{shard} cannot be read as a shard of {kind} records ({reason}); prepare it again") from error


def _text(batch: pa.RecordBatch, _: int) -> ShardRows:
    texts = batch["text"].to_pylist()
    return ShardRows(texts, np.arange(len(texts))[:, None])


def _pair(batch: pa.RecordBatch, _: int) -> ShardRows:
    return _of_columns(batch["text"].to_pylist(), batch["text_pos"].to_pylist())


def _scored_pair(batch: pa.RecordBatch, _: int) -> ShardRows:
    rows = _of_columns(batch["sentence1"].to_pylist(), batch["sentence2"].to_pylist())
    return ShardRows(rows.texts, rows.slots, batch["label"].to_numpy(zero_copy_only=False).astype(np.float32))


def _triplet(batch: pa.RecordBatch, most: int) -> ShardRows:
    import pyarrow as pa

    queries, positives = batch["text"].to_pylist(), batch["text_pos"].to_pylist()
    if not pa.types.is_large_list(batch.schema.field("text_neg").type):
        return _of_columns(queries, positives, batch["text_neg"].to_pylist())
    rows = _Rows(2 + most)
    for query, positive, negatives in zip(queries, positives, batch["text_neg"].to_pylist(), strict=True):
        rows.add(query, [positive], negatives[:most])
    return rows.as_rows()


def _ranked(batch: pa.RecordBatch, most: int) -> ShardRows:
    rows = _Rows(2 + most)
    columns = [batch[name].to_pylist() for name in ("query", "pos", "neg", "pos_scores", "neg_scores")]
    for query, positives, negatives, positive_scores, negative_scores in zip(*columns, strict=True):
        rows.add(query, positives, (negatives or [])[:most], positive_scores, (negative_scores or [])[:most])
    return rows.as_rows()


_READERS: dict[str, Any] = {
    TEXT_KIND: _text,
    Kind.PAIR: _pair,
    Kind.SCORED_PAIR: _scored_pair,
    Kind.TRIPLET: _triplet,
    Kind.RANKED: _ranked,
}


def _of_columns(*columns: list[str]) -> ShardRows:
    """Rows of one text a column, a row's texts side by side."""
    texts = [text for row in zip(*columns, strict=True) for text in row]
    return ShardRows(texts, np.arange(len(texts)).reshape(-1, len(columns)))


class _Rows:
    """Rows of different numbers of negatives."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._texts: list[str] = []
        self._slots: list[list[int]] = []
        self._scores: list[list[float]] = []

    def add(
        self,
        query: str,
        positives: list[str],
        negatives: list[str],
        positive_scores: list[float] | None = None,
        negative_scores: list[float] | None = None,
    ) -> None:
        first = len(self._texts)
        self._texts += [query, *positives, *negatives]
        start = first + 1 + len(positives)
        missing = self._width - 2 - len(negatives)
        others = [*range(start, start + len(negatives)), *[-1] * missing]
        scored = positive_scores is not None and len(positive_scores) == len(positives)
        rest = list(negative_scores or [])[: len(negatives)]
        rest += [np.nan] * (self._width - 2 - len(rest))
        for index in range(len(positives)):
            self._slots.append([first, first + 1 + index, *others])
            own = positive_scores[index] if scored and positive_scores is not None else np.nan
            self._scores.append([own, *rest])

    def as_rows(self) -> ShardRows:
        slots = np.asarray(self._slots, np.int64).reshape(-1, self._width)
        scores = np.asarray(self._scores, np.float32).reshape(-1, self._width - 1)
        return ShardRows(self._texts, slots, scores=scores)
