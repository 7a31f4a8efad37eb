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
    """Write ``<out>/<model>/<revision>/<result>.json`` and ``.parquet``, atomically; returns the JSON's path.

    ``<result>`` is :func:`result_name`.

    The JSON is mteb's ``TaskResult`` (mteb reads it back) with one key more, ``m3e``: the fields of
    ``score`` that mteb has no place for, and ``facts`` about the model.
    """
    folder = out / _file_name(model) / revision
    path = folder / f"{result_name(score)}.json"
    with atomic_file(path) as temporary:
        record.to_disk(temporary)
        value = read_json(temporary)
        fields = asdict(score)
        del fields["scores"]
        write_json(temporary, value | {"m3e": {"model": model, "revision": revision, **(facts or {}), **fields}})
    if items:
        with atomic_file(path.with_name(f"{result_name(score)}.parquet")) as temporary:
            pq.write_table(pa.table({name: list(values) for name, values in items.columns.items()}), temporary)
    return path


def result_name(score: TaskScore) -> str:
    """The task's name and what else tells its results apart: recipe, hash of local data, prompts switched off."""
    task = f"{score.task}@{score.recipe}" if score.recipe else score.task
    local = score.data_revision if score.data_revision.startswith("local-") else ""
    return ".".join(filter(None, (_file_name(task), local, "" if score.prompts else "no-prompts")))


def _file_name(name: str) -> str:
    return name.replace("/", "__")
