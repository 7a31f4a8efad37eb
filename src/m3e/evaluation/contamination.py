"""Whether a model was trained on the texts that it is judged by."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from m3e.data.bloom import FILE_NAME, TextFilter
from m3e.data.keys import KEY_CHARACTERS, hashes_of_keys, text_keys
from m3e.errors import DataError

_TEXT_COLUMNS = ("title", "text", "sentence1", "sentence2", "sentences")
_ROWS = 4096


def find_filter(model: Any, notes: list[str]) -> TextFilter | None:
    """The filter of the texts that ``model`` was trained on; ``None`` where its folder has none.

    Args:
        model: what :func:`m3e.evaluate` was given.
        notes: gets a line where there is a filter that cannot be read.
    """
    folder = model_folder(model)
    if folder is None or not (folder / FILE_NAME).is_file():
        return None
    try:
        return TextFilter.load(folder / FILE_NAME)
    except DataError as error:
        notes.append(f"whether the model has seen the tasks' texts is unknown: {error}")
        return None


def model_folder(model: Any) -> Path | None:
    """The folder that a model lies in or was loaded from; ``None`` for one that came from elsewhere."""
    from m3e.models.names import local_models, model_path

    origin = os.fspath(model) if isinstance(model, str | os.PathLike) else _origin(getattr(model, "model", model))
    if not origin:
        return None
    path = Path(origin).expanduser()
    if path.is_dir():
        return path
    return model_path(origin) if origin in local_models() else None


def _origin(model: Any) -> str:
    """The folder or hub id that a ``SentenceTransformer`` was loaded from."""
    first = next(iter(model), None) if hasattr(model, "modules") else None
    return str(getattr(getattr(first, "model", None), "name_or_path", "") or "")


def contamination(task: Any, split: str, seen: TextFilter) -> float | None:
    """The share, 0..1, of a task's different texts that a filter has seen; ``None`` where it has no texts.

    Texts are compared by key, and only those of at least 6 key characters count. About one text in a
    hundred that was never seen is counted too: that is the filter's nature.
    """
    known = [
        hashes_of_keys([key for key in text_keys(texts) if len(key) >= KEY_CHARACTERS])
        for texts in task_texts(task, split)
    ]
    hashes = np.unique(np.concatenate(known)) if known else np.zeros(0, np.uint64)
    return float(seen.has_hashes(hashes).mean()) if len(hashes) else None


def task_texts(task: Any, split: str) -> Iterator[list[str]]:
    """Every text of a loaded task's split, some thousand at a time: texts, sentences, queries and documents."""
    for table in _tables(task.dataset, split):
        columns = [name for name in _TEXT_COLUMNS if name in (table.column_names or ())]
        if columns:
            for rows in table.select_columns(columns).iter(batch_size=_ROWS):
                yield [text for name in columns for cell in rows[name] for text in _strings(cell)]


def _tables(node: Any, split: str) -> Iterator[Any]:
    """The tables of a split in what mteb holds: by split, by subset and split, or documents and queries in those."""
    if isinstance(node, Mapping) and "corpus" in node:
        yield from (node["corpus"], node["queries"])
    elif isinstance(node, Mapping):  # a DatasetDict too
        inner: Iterable[Any] = [node[split]] if split in node else node.values()
        for part in inner:
            yield from _tables(part, split)
    elif hasattr(node, "column_names"):
        yield node


def _strings(cell: Any) -> list[str]:
    if isinstance(cell, str):
        return [cell]
    return [text for text in cell if isinstance(text, str)] if isinstance(cell, list) else []
