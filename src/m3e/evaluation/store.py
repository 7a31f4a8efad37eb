"""Results on disk: mteb's own JSON and the scores of single items beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m3e.evaluation.items import Items
from m3e.evaluation.results import TaskScore
from m3e.files import atomic_file, read_json, write_json


def write_result(
    out: Path,
    model: str,
    revision: str,
    score: TaskScore,
    record: Any,
    items: Items | None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``<out>/<model>/<revision>/<task>.json`` and ``.parquet``, atomically; returns the JSON's path.

    The JSON is mteb's ``TaskResult`` (mteb reads it back) with one key more, ``m3e``: the fields of
    ``score`` that mteb has no place for, and ``facts`` about the model.
    """
    folder = out / _file_name(model) / revision
    path = folder / f"{_file_name(score.task)}.json"
    with atomic_file(path) as temporary:
        record.to_disk(temporary)
        value = read_json(temporary)
        fields = asdict(score)
        del fields["scores"]
        write_json(temporary, value | {"m3e": {"model": model, "revision": revision, **(facts or {}), **fields}})
    if items:
        with atomic_file(path.with_name(f"{_file_name(score.task)}.parquet")) as temporary:
            pq.write_table(pa.table({name: list(values) for name, values in items.columns.items()}), temporary)
    return path


def _file_name(name: str) -> str:
    return name.replace("/", "__")
