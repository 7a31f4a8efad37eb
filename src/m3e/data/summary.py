"""Numbers about the catalogue, and about a prepared folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from m3e.catalogue.cards import DatasetCard
from m3e.catalogue.shelf import all_cards
from m3e.data.manifest import read_manifest
from m3e.errors import DataError


def catalogue_summary() -> list[dict[str, Any]]:
    """For each use and category: sets, how many may be used commercially, and expected rows."""
    cards = all_cards()
    groups: dict[tuple[str, str], list[DatasetCard]] = {}
    for card in cards:
        groups.setdefault((card.use, card.category), []).append(card)
    rows = [
        {"use": use, "category": category, **_counted(members)} for (use, category), members in sorted(groups.items())
    ]
    seed = [card for card in cards if card.seed is not None]
    total = {"use": "M3E table", "category": "all", **_counted(seed)}
    total["rows"] = sum(card.seed.rows for card in seed if card.seed)
    return [*rows, total]


def folder_summary(folder: Path) -> list[dict[str, Any]]:
    """For each data set of a prepared folder: rows in and out, and how long its texts are, in characters.

    Raises:
        DataError: the folder has no manifest, or lacks a shard.
    """
    manifest = read_manifest(folder)
    return [_set_summary(folder, entry) for entry in manifest["datasets"]]


def _counted(cards: Sequence[DatasetCard]) -> dict[str, Any]:
    flags = [card.commercial for card in cards]
    counted: dict[str, Any] = {"sets": len(cards)}
    counted |= {f"commercial_{flag}": flags.count(flag) for flag in ("yes", "no", "unknown")}
    counted["rows"] = sum(card.rows or 0 for card in cards)
    return counted


def _set_summary(folder: Path, entry: dict[str, Any]) -> dict[str, Any]:
    query: list[np.ndarray[Any, Any]] = []
    passage: list[np.ndarray[Any, Any]] = []
    for shard in entry["shards"]:
        path = folder / shard["file"]
        if not path.is_file():
            raise DataError(f"{path} is missing, though the manifest names it; run m3e data prepare again")
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            columns = [names[0], *([names[1]] if names[1] != "dataset" else [])]
            for batch in file.iter_batches(columns=columns):
                for values, found in zip(batch.columns, (query, passage), strict=False):
                    flat = values.flatten() if hasattr(values, "flatten") and values.type.num_fields else values
                    found.append(pc.utf8_length(flat).to_numpy(zero_copy_only=False))
    return {
        "data_set": entry["dataset"],
        "kind": entry["kind"],
        "category": entry["category"],
        "rows_in": entry["rows_in"],
        "rows_out": entry["rows_out"],
        "query_median": _quantile(query, 0.5),
        "query_p95": _quantile(query, 0.95),
        "passage_median": _quantile(passage, 0.5),
        "passage_p95": _quantile(passage, 0.95),
    }


def _quantile(parts: Sequence[np.ndarray[Any, Any]], share: float) -> int:
    return int(np.quantile(np.concatenate(parts), share)) if parts and sum(map(len, parts)) else 0
