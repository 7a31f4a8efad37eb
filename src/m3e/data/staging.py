"""Records as columns while they go through the pipeline, whatever their kind, and back again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from m3e.records import Kind, Pair, Ranked, Record, ScoredPair

TEXT_KIND = "text"
"""Rows of a single text: for vocabularies, pre-training and distillation; what a classification set holds."""

_TEXTS = pa.large_list(pa.large_string())
_SCORES = pa.list_(pa.float64())
STAGED = pa.schema(
    [
        ("row", pa.uint32()),
        ("query", pa.large_string()),
        ("positives", _TEXTS),
        ("negatives", _TEXTS),
        ("label", pa.float64()),
        ("positive_scores", _SCORES),
        ("negative_scores", _SCORES),
    ]
)
"""A row of any kind: the text or first sentence, its positives or the second sentence, its negatives."""

CLEANED = STAGED.append(pa.field("hashes", pa.large_list(pa.uint64())))
"""A cleaned row, with the hash of each text's key."""

_UNNUMBERED = pa.schema(list(STAGED)[1:])
_ROWS_A_BATCH = 8192
_BYTES_A_BATCH = 32 << 20
_BYTES_A_FILE = 32 << 20


def write_staged(rows: Iterable[dict[str, Any] | pa.RecordBatch], folder: Path) -> int:
    """Write staged rows to parquet files in a new folder, a batch at a time; how many there were.

    An engine takes a whole file into memory, and one after the other: files are bounded.

    Args:
        rows: values by the names of :data:`STAGED`, ``row`` left out, as rows are numbered as they come; or many
            rows at once, as :func:`staged_columns` gives them.
    """
    folder.mkdir(parents=True)
    count = size = files = 0
    writer = None
    try:
        for batch in _batches(rows):
            if writer is None:
                writer = scratch_writer(folder / f"{files:05d}.parquet", STAGED)
                files += 1
            numbers = pa.array(np.arange(count, count + batch.num_rows, dtype=np.uint32))
            writer.write_batch(pa.record_batch([numbers, *batch.columns], schema=STAGED))
            count += batch.num_rows
            size += batch.nbytes
            if size > _BYTES_A_FILE:
                writer.close()
                writer, size = None, 0
    finally:
        if writer is not None:
            writer.close()
    return count


def scratch_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Writes to a file that will be read once or twice and removed."""
    return pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=False, write_statistics=False)


def staged_columns(query: pa.Array, positive: pa.Array, negative: pa.Array | None = None) -> pa.RecordBatch:
    """Pairs or triplets as staged rows, ``row`` left out."""
    count = len(query)
    no_score = pa.nulls(count, _SCORES)
    positives, negatives = _lists_of_one(positive), _lists_of_one(negative, count)
    columns = [query, positives, negatives, pa.nulls(count, pa.float64()), no_score, no_score]
    return pa.record_batch(columns, schema=_UNNUMBERED)


def _lists_of_one(texts: pa.Array | None, count: int = 0) -> pa.LargeListArray:
    """Each text in a list of its own; without texts, ``count`` empty lists."""
    if texts is None:
        return pa.LargeListArray.from_arrays(np.zeros(count + 1, np.int64), pa.array([], pa.large_string()))
    return pa.LargeListArray.from_arrays(np.arange(len(texts) + 1), texts)


def staged_row(record: Record) -> dict[str, Any]:
    """A record by the names of :data:`STAGED`."""
    if isinstance(record, Pair):
        return {"query": record.text, "positives": [record.text_pos], "negatives": []}
    if isinstance(record, ScoredPair):
        return {"query": record.sentence1, "positives": [record.sentence2], "negatives": [], "label": record.label}
    if isinstance(record, Ranked):
        return {
            "query": record.query,
            "positives": list(record.pos),
            "negatives": list(record.neg),
            "positive_scores": record.pos_scores,
            "negative_scores": record.neg_scores,
        }
    return {"query": record.text, "positives": [record.text_pos], "negatives": list(record.negatives)}


def text_row(text: str) -> dict[str, Any]:
    """A single text by the names of :data:`STAGED`."""
    return {"query": text, "positives": [], "negatives": []}


def shard_schema(kind: str, *, many_negatives: bool) -> pa.Schema:
    """The columns of a kind's shards: its record's fields, and ``dataset``."""
    text = pa.large_string()
    fields: dict[str, list[tuple[str, pa.DataType]]] = {
        TEXT_KIND: [("text", text)],
        Kind.PAIR: [("text", text), ("text_pos", text)],
        Kind.TRIPLET: [("text", text), ("text_pos", text), ("text_neg", _TEXTS if many_negatives else text)],
        Kind.SCORED_PAIR: [("sentence1", text), ("sentence2", text), ("label", pa.float64())],
        Kind.RANKED: [
            ("query", text),
            ("pos", _TEXTS),
            ("neg", _TEXTS),
            ("pos_scores", _SCORES),
            ("neg_scores", _SCORES),
        ],
    }
    return pa.schema([*fields[kind], ("dataset", pa.string())])


def shard_table(staged: pa.Table, kind: str, dataset: str, *, many_negatives: bool) -> pa.Table:
    """Staged rows as a kind's records."""
    positives, negatives = staged["positives"], staged["negatives"]
    first_positive = _first_of_each(positives) if kind not in (TEXT_KIND, Kind.RANKED) else None
    values = {
        "text": staged["query"],
        "sentence1": staged["query"],
        "query": staged["query"],
        "text_pos": first_positive,
        "sentence2": first_positive,
        "pos": positives,
        "neg": negatives,
        "label": staged["label"],
        "pos_scores": staged["positive_scores"],
        "neg_scores": staged["negative_scores"],
        "dataset": pa.array([dataset] * staged.num_rows, pa.string()),
    }
    if kind == Kind.TRIPLET:
        values["text_neg"] = negatives if many_negatives else _first_of_each(negatives)
    schema = shard_schema(kind, many_negatives=many_negatives)
    return pa.table([values[name] for name in schema.names], schema=schema)


def _first_of_each(lists: pa.ChunkedArray) -> pa.Array:
    """The only item of each list."""
    return lists.combine_chunks().flatten()


def _batches(rows: Iterable[dict[str, Any] | pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows in batches that are bounded in number and in characters."""
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        if isinstance(row, pa.RecordBatch):
            if batch:
                yield _batch_of(batch)
                batch, size = [], 0
            yield row
            continue
        batch.append(row)
        size += len(row["query"]) + sum(map(len, row["positives"])) + sum(map(len, row["negatives"]))
        if len(batch) == _ROWS_A_BATCH or size > _BYTES_A_BATCH:
            yield _batch_of(batch)
            batch, size = [], 0
    if batch:
        yield _batch_of(batch)


def _batch_of(rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
    columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in _UNNUMBERED]
    return pa.record_batch(columns, schema=_UNNUMBERED)
