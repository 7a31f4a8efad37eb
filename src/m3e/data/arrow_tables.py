"""Parquet files and Hugging Face data sets to tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m3e.data.labels import is_entailment_class
from m3e.data.tables import Row, Table
from m3e.errors import DataError, first_line

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class _ArrowRows:
    """Rows that become Python values batch by batch, each time they are read.

    Attributes:
        batches: gives Arrow tables or record batches, from the first row to the last.
        name: for messages.
        class_names: of label columns that hold a class's number, where the number alone would mislead.
    """

    batches: Callable[[], Iterator[Any]]
    name: str
    class_names: dict[str, list[str]]

    def __iter__(self) -> Iterator[Row]:
        try:
            for batch in self.batches():
                yield from map(self._named, batch.to_pylist())
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            raise DataError(f"{self.name}: cannot be read: {_first_line(error)}") from error

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        for column, names in self.class_names.items():
            number = row[column]
            if isinstance(number, int) and 0 <= number < len(names):
                row[column] = names[number]
        return row


def read_parquet(path: Path, name: str) -> Table:
    """The table of a parquet file; string, large string, dictionary and list columns become Python values.

    Raises:
        DataError: no parquet file, a damaged one, one without rows.
    """
    try:
        with pq.ParquetFile(path) as file:
            content = file.read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name} cannot be read as parquet: {_first_line(error)}") from error
    if content.num_rows == 0:
        raise DataError(f"{name} has no rows")
    if len(set(content.column_names)) < len(content.column_names):
        raise DataError(f"{name}: two columns have the same name ({', '.join(content.column_names)}); rename one")
    rows = _ArrowRows(lambda: iter(content.to_batches(max_chunksize=_ROWS_AT_ONCE)), name, {})
    return Table(name=name, columns=tuple(content.column_names), rows=rows, is_uniform=True)


def is_hf_dataset(value: Any) -> bool:
    """Whether ``value`` is a ``datasets.Dataset``, told without importing ``datasets``."""
    return (
        type(value).__module__.startswith("datasets.") and hasattr(value, "with_format") and hasattr(value, "num_rows")
    )


def table_of_hf_dataset(dataset: Any, name: str) -> Table:
    """The table of a ``datasets.Dataset``, in the order that its own indices give.

    Raises:
        DataError: it has no rows.
    """
    if dataset.num_rows == 0:
        raise DataError(f"{name} has no rows")
    arrow = dataset.with_format("arrow")
    class_names = {
        column: list(feature.names)
        for column, feature in dataset.features.items()
        if any(map(is_entailment_class, getattr(feature, "names", None) or ()))
    }
    rows = _ArrowRows(lambda: arrow.iter(batch_size=_ROWS_AT_ONCE), name, class_names)
    return Table(name=name, columns=tuple(dataset.column_names), rows=rows, is_uniform=True)


def _first_line(error: Exception) -> str:
    return first_line(error)
