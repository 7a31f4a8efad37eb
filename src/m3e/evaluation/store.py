"""Results on disk: mteb's own JSON and the scores of single items beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m3e.errors import DataError
from m3e.evaluation.items import Items
from m3e.evaluation.planned import Planned
from m3e.evaluation.read_results import read_results
from m3e.evaluation.results import TaskScore
from m3e.files import atomic_file, read_json, write_json


@dataclass
class ModelResults:
    """What is on disk of one model's results, and is written there.

    Attributes:
        out: the folder of all models' results; ``None`` to keep nothing.
        revision: of the model.
        dtype: what it computes in, which moves scores a little.
        taken: results that were found and need not be computed.
    """

    out: Path | None
    model: str
    revision: str
    dtype: str
    taken: int = 0

    def write(self, score: TaskScore, record: Any, items: Items | None, facts: Mapping[str, Any]) -> None:
        """Write ``<out>/<model>/<revision>/<result>.parquet`` and ``.json``, atomically; the JSON last.

        ``<result>`` is what :func:`result_name` gives.

        The JSON is mteb's ``TaskResult`` (mteb reads it back) with one key more, ``m3e``: the fields of
        ``score`` that mteb has no place for, and ``facts`` about the model.
        """
        path = self._path(score.task, score.recipe, score.data_revision, score.prompts)
        if path is None:
            return
        fields = asdict(score)
        del fields["scores"]
        about = {"model": self.model, "revision": self.revision, "dtype": self.dtype, **facts}
        if items:
            with atomic_file(path.with_suffix(".parquet")) as temporary:
                pq.write_table(pa.table({name: list(values) for name, values in items.columns.items()}), temporary)
        with atomic_file(path) as temporary:
            record.to_disk(temporary)
            write_json(temporary, read_json(temporary) | {"m3e": about | fields})

    def take(self, planned: Planned, *, prompts: bool) -> TaskScore | None:
        """The score that was written of this task before; ``None`` where it must be computed.

        It is taken where it is of the same model, rows, split, protocol and prompts, computed in the same dtype, by
        the installed mteb.
        """
        import mteb

        path = self._path(planned.name, planned.recipe, planned.revision, prompts)
        if path is None or not path.is_file():
            return None
        try:
            score = read_results([path]).results[0].score
        except DataError:  # damaged: it is written anew
            return None
        value = read_json(path)
        data = planned.revision or str(planned.task.metadata.revision)
        wanted = (planned.split, planned.official, data, self.dtype, mteb.__version__)
        about = value["m3e"]
        found = (score.split, score.official_split, score.data_revision, about.get("dtype"), value.get("mteb_version"))
        if found != wanted:
            return None
        self.taken += 1
        return score

    def _path(self, task: str, recipe: str, data_revision: str, prompts: bool) -> Path | None:
        if self.out is None:
            return None
        name = result_name(task, recipe, data_revision, prompts)
        return self.out / _file_name(self.model) / self.revision / f"{name}.json"


def result_name(task: str, recipe: str, data_revision: str, prompts: bool) -> str:
    """The task's name and what else tells its results apart: recipe, hash of local data, prompts switched off."""
    named = f"{task}@{recipe}" if recipe else task
    local = data_revision if data_revision.startswith("local-") else ""
    return ".".join(filter(None, (_file_name(named), local, "" if prompts else "no-prompts")))


def _file_name(name: str) -> str:
    return name.replace("/", "__")
