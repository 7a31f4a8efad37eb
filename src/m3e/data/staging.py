"""Records as columns while they go through the pipeline, whatever their kind, and back again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m3e.files import atomic_file
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

_ROWS_A_BATCH = 8192
_BYTES_A_BATCH = 32 << 20


def write_staged(rows: Iterable[dict[str, Any]], path: Path) -> int:
    """Write staged rows to parquet, a batch at a time; how many there were.

    Args:
        rows: values by the names of :data:`STAGED`, ``row`` left out: rows are numbered as they come.
    """
    count = 0
    with atomic_file(path) as temporary, pq.ParquetWriter(temporary, STAGED, compression="zstd") as writer:
        for batch in _batches(rows):
            numbers = pa.array(range(count, count + len(batch)), pa.uint32())
            columns = [numbers, *(pa.array([row.get(f.name) for row in batch], f.type) for f in list(STAGED)[1:])]
            writer.write_batch(pa.record_batch(columns, schema=STAGED))
            count += len(batch)
    return count


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


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    """Rows in batches that are bounded in number and in characters."""
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row["query"]) + sum(map(len, row["positives"])) + sum(map(len, row["negatives"]))
        if len(batch) == _ROWS_A_BATCH or size > _BYTES_A_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
