"""Small sets for the pipeline, as rows in memory, and what comes out of a prepared folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from m3e.data.pipeline import SetPlan
from m3e.data.prepare import Prepared


def row(query: str, *positives: str, negatives: Sequence[str] = (), **values: Any) -> dict[str, Any]:
    """A staged row."""
    return {"query": query, "positives": list(positives), "negatives": list(negatives), **values}


def planned(name: str, rows: Sequence[dict[str, Any]], kind: str = "pair", inputs: Any = 0, **facts: Any) -> SetPlan:
    """A plan over rows in memory; its ``read.calls`` counts how often they were read."""

    def read(account: Any) -> Any:
        read.calls += 1  # type: ignore[attr-defined]
        for values in rows:
            yield kind, values

    read.calls = 0  # type: ignore[attr-defined]
    return SetPlan(name, read, inputs, **facts)


def written(prepared: Prepared, name: str) -> list[dict[str, Any]]:
    """The rows of a set's shards, without the name of the set."""
    entry = entry_of(prepared, name)
    rows = [row for shard in entry["shards"] for row in pq.read_table(prepared.folder / shard["file"]).to_pylist()]
    assert all(row.pop("dataset") == name for row in rows)
    return rows


def texts(prepared: Prepared, name: str) -> set[str]:
    """The first text of each row that stayed."""
    rows = written(prepared, name)
    first = [next(iter(row.values())) for row in rows]
    assert len(set(first)) == len(first)
    return set(first)


def entry_of(prepared: Prepared, name: str) -> dict[str, Any]:
    """What the manifest says of a set."""
    return next(entry for entry in prepared.manifest["datasets"] if entry["dataset"] == name)


def sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
