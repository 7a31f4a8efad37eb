"""What a user may give as data: files, folders, hub ids, data sets, lists; each becomes tables, by split."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from m3e.data.arrow_tables import is_hf_dataset, table_of_hf_dataset
from m3e.data.hub import is_hub_id, load_hub_dataset
from m3e.data.json_rows import holds_columns, table_of_columns
from m3e.data.tables import Row, Table, table_of_rows
from m3e.data.text_files import EXTENSIONS, is_readable_name, read_table
from m3e.errors import DataError, first_line

TRAIN_SPLIT = "train"
VALIDATION_SPLITS = ("dev", "validation", "val")

_HELD_OUT_WORDS = {"dev", "val", "valid", "validation", "test"}
_VALIDATION_WORDS = {"dev", "val", "valid", "validation"}
_NOT_ROWS = {"dataset_info.json", "dataset_infos.json", "manifest.json", "m3e.json", "state.json"}
_SHOWN_FILES = 5


@dataclass(frozen=True)
class Source:
    """Tables that are read one after the other, when asked for."""

    name: str
    tables: Sequence[Callable[[], Table]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Splits:
    """What is trained on, and what is held out where the source says so."""

    train: Source
    validation: Source | None = None


def open_source(source: Any, name: str) -> Splits:
    """The splits of anything that can be given as data.

    Args:
        source: a path, a hub id, a Hugging Face data set, a data frame, a mapping of splits or of columns,
            or an iterable of dicts or record objects.
        name: what messages call a source that has no name of its own.

    Raises:
        DataError: nothing is there, or it holds nothing that can be read as rows.
        HubUnreachableError: it can only be a hub id, and the hub does not answer.
    """
    if isinstance(source, str | os.PathLike):
        return _open_path(source)
    if isinstance(source, Mapping):
        return _open_mapping(source, name)
    if is_hf_dataset(source):
        return Splits(Source(name, [partial(table_of_hf_dataset, source, name)]))
    for method in ("to_dicts", "to_pylist"):  # polars, pyarrow
        if hasattr(source, method):
            return Splits(Source(name, [partial(_table_of_items, getattr(source, method)(), name)]))
    if hasattr(source, "to_dict") and hasattr(source, "iloc"):  # pandas
        return Splits(Source(name, [partial(_table_of_items, source.to_dict(orient="records"), name)]))
    if isinstance(source, Iterable) and not isinstance(source, bytes):
        return Splits(Source(name, [partial(_table_of_items, source, name)]))
    raise DataError(f"data of type {type(source).__name__} cannot be read; give a path, a data set or a list of dicts")


def _open_path(source: str | os.PathLike[str]) -> Splits:
    text = os.fspath(source)
    path = Path(text).expanduser()
    if path.is_dir():
        return _open_folder(path)
    if path.exists():
        return Splits(Source(path.name, [partial(read_table, path)]))
    if isinstance(source, str) and is_hub_id(text) and not _looks_like_path(path):
        return open_source(load_hub_dataset(text), text)
    raise DataError(f"there is no file or folder {text}")


def _looks_like_path(path: Path) -> bool:
    known = is_readable_name(path) or path.suffix.lower() in (".txt", ".xlsx", ".xls", ".gz", ".arrow")
    return known or Path(path.parts[0]).is_dir()


def _open_folder(folder: Path) -> Splits:
    name = folder.resolve().name
    files = {path.name for path in folder.iterdir()}
    if "dataset_dict.json" in files or {"state.json", "dataset_info.json"} <= files:
        return open_source(_load_from_disk(folder), name)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not is_beside(path.relative_to(folder))]
    readable = [path for path in paths if is_readable_name(path)]
    if not readable:
        raise DataError(f"the folder {folder} holds no data files; looked for {', '.join(EXTENSIONS)}")
    others = [path for path in paths if path not in set(readable)]
    return _split_files(folder, name, readable, _files_note("files not read", folder, others))


def _split_files(folder: Path, name: str, paths: Sequence[Path], notes: tuple[str, ...]) -> Splits:
    """All files, or where some are named ``train``, those that are not named as held out."""
    words = {path: _words(path.relative_to(folder)) for path in paths}
    held_out = [path for path in paths if words[path] & _HELD_OUT_WORDS and TRAIN_SPLIT not in words[path]]
    if not any(TRAIN_SPLIT in words[path] for path in paths) or not held_out:
        return Splits(_files_source(folder, name, paths, notes))
    train = [path for path in paths if path not in set(held_out)]
    notes += _files_note("held out by name, not trained on", folder, held_out)
    validation = [path for path in held_out if words[path] & _VALIDATION_WORDS]
    return Splits(
        _files_source(folder, name, train, notes),
        _files_source(folder, f"{name} validation", validation, ()) if validation else None,
    )


def _files_source(folder: Path, name: str, paths: Sequence[Path], notes: tuple[str, ...]) -> Source:
    tables = [partial(read_table, path, path.relative_to(folder).as_posix()) for path in paths]
    return Source(name, tables, notes)


def _words(path: Path) -> set[str]:
    return set(re.split(r"[._\-/ ]+", path.as_posix().lower()))


def is_beside(path: Path) -> bool:
    """Whether a file in a data folder is hidden or describes the data, and so is not looked at."""
    hidden = any(part.startswith((".", "_")) for part in path.parts)
    return hidden or path.name in _NOT_ROWS or path.name.upper().startswith("README")


def _files_note(what: str, folder: Path, paths: Sequence[Path]) -> tuple[str, ...]:
    if not paths:
        return ()
    shown = ", ".join(path.relative_to(folder).as_posix() for path in paths[:_SHOWN_FILES])
    more = f" and {len(paths) - _SHOWN_FILES} more" if len(paths) > _SHOWN_FILES else ""
    return (f"{what}: {shown}{more}",)


def _load_from_disk(folder: Path) -> Any:
    import datasets

    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:  # the libraries below raise whatever they like
        reason = first_line(error)
        raise DataError(f"the data set in {folder} cannot be loaded: {reason}") from error


def _open_mapping(source: Mapping[Any, Any], name: str) -> Splits:
    if TRAIN_SPLIT in source:
        others = [str(split) for split in source if split != TRAIN_SPLIT]
        notes = (f"used the split {TRAIN_SPLIT}; there are also: {', '.join(others)}",) if others else ()
        validation = next((split for split in VALIDATION_SPLITS if split in source), None)
        return Splits(
            _split_source(source, TRAIN_SPLIT, name, notes),
            _split_source(source, validation, name, ()) if validation else None,
        )
    if holds_columns(source):
        return Splits(Source(name, [partial(table_of_columns, source, name)]))
    found = ", ".join(map(str, source)) or "none"
    raise DataError(f"{name}: there is no split {TRAIN_SPLIT!r}; splits found: {found}; pass one of them alone")


def _split_source(source: Mapping[Any, Any], split: str, name: str, notes: tuple[str, ...]) -> Source:
    opened = open_source(source[split], f"{name} {split}").train
    return dataclasses.replace(opened, notes=(*notes, *opened.notes))


def _table_of_items(items: Iterable[Any], name: str) -> Table:
    rows = [_row_of(item, name, index) for index, item in enumerate(items)]
    if not rows:
        raise DataError(f"{name} has no rows")
    return table_of_rows(rows, name)


def _row_of(item: Any, name: str, index: int) -> Row:
    """The named fields of a dict, a record object, a named tuple, or any object with attributes."""
    if isinstance(item, Mapping):
        return item
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        values = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
        return {key: value for key, value in values.items() if value is not None or _is_required(item, key)}
    if hasattr(item, "_asdict"):
        return dict(item._asdict())
    if not isinstance(item, type) and hasattr(item, "__dict__") and vars(item):
        return dict(vars(item))
    raise DataError(
        f"{name}, row {index + 1}: {type(item).__name__} where a dict or a record with named fields should be"
    )


def _is_required(item: Any, name: str) -> bool:
    """Whether a data class has no default for a field, so that ``None`` in it is a hole and not an absence."""
    field = next(field for field in dataclasses.fields(item) if field.name == name)
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
