"""Small folders as ``m3e data prepare`` writes them, of the miniature's characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from m3e.data.staging import STAGED, TEXT_KIND, shard_table, staged_row, text_row
from m3e.files import hash_file, write_json
from m3e.records import Kind, Pair, Ranked, Record, ScoredPair, Triplet
from tests.conftest import CHARACTERS

KINDS = {
    str: TEXT_KIND,
    Pair: Kind.PAIR,
    Triplet: Kind.TRIPLET,
    ScoredPair: Kind.SCORED_PAIR,
    Ranked: Kind.RANKED,
}


def sentence(random: np.random.Generator, low: int = 3, high: int = 30) -> str:
    return "".join(random.choice(list(CHARACTERS), int(random.integers(low, high))))


def records(kind: Kind, count: int, seed: int = 0) -> list[Record]:
    """Rows of a kind; every third positive is shared by three rows, ranked rows have none to three negatives."""
    random = np.random.default_rng(seed)
    made: list[Record] = []
    passage = ""
    for index in range(count):
        if index % 3 == 0:
            passage = f"{sentence(random)}{index}"
        query = f"{sentence(random, 2, 12)}{index}"
        if kind is Kind.PAIR:
            made.append(Pair(query, passage))
        elif kind is Kind.TRIPLET:
            made.append(Triplet(query, passage, f"{sentence(random)}x{index}"))
        elif kind is Kind.SCORED_PAIR:
            made.append(ScoredPair(query, f"{sentence(random)}y{index}", index % 6))
        else:
            negatives = tuple(f"{sentence(random)}n{index}{number}" for number in range(index % 4))
            positives = (f"{query}a", f"{query}b")[: 1 + index % 2]
            scores = (0.9,) * len(positives), (0.1,) * len(negatives)
            made.append(Ranked(query, positives, negatives, *scores))
    return made


def write_prepared(
    folder: Path, sets: Mapping[str, Sequence[Record | str]], shard_rows: int = 1000, commercial: str = "yes"
) -> Path:
    """A prepared folder with a manifest of what training reads; strings make a set of single texts."""
    entries: list[dict[str, Any]] = []
    for name, rows in sets.items():
        kind = KINDS[type(rows[0])]
        (folder / name).mkdir(parents=True)
        shards = []
        for start in range(0, len(rows), shard_rows):
            part = rows[start : start + shard_rows]
            table = _staged(part)
            path = folder / name / f"{len(shards):05d}.parquet"
            pq.write_table(shard_table(table, kind, name, many_negatives=False), path)
            shards.append({"file": f"{name}/{path.name}", "rows": len(part), "sha256": hash_file(path)})
        entries.append(
            {
                "dataset": name,
                "kind": str(kind),
                "category": "s2p",
                "symmetric": False,
                "licence": "Apache-2.0",
                "commercial": commercial,
                "weight": 1.0,
                "rows_out": len(rows),
                "shards": shards,
                "content_hash": "".join(shard["sha256"] for shard in shards),
            }
        )
    write_json(folder / "manifest.json", {"datasets": entries})
    return folder


def _staged(rows: Sequence[Record | str]) -> Any:
    import pyarrow as pa

    values = [text_row(row) if isinstance(row, str) else staged_row(row) for row in rows]
    columns = [pa.array(range(len(rows)), pa.uint32())]
    columns += [pa.array([value.get(field.name) for value in values], field.type) for field in list(STAGED)[1:]]
    return pa.table(columns, schema=STAGED)
