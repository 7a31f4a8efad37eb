"""Parquet files and Hugging Face data sets to tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m3e.data.file_state import FileState
from m3e.data.labels import is_entailment_class
from m3e.data.tables import Row, Table
from m3e.errors import DataError, first_line

_ROWS_AT_ONCE = 256
_BYTES_AT_ONCE = 8 << 20
_BUFFER = 1 << 18

# An index into a dictionary takes no more bytes in a page; pages of more hold values themselves.
_INDEX_BYTES = 4


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
                names, columns = batch.schema.names, [column.to_pylist() for column in batch.columns]
                rows = (dict(zip(names, cells, strict=False)) for cells in zip(*columns, strict=True))
                yield from map(self._with_class_names, rows) if self.class_names else rows
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            raise DataError(f"{self.name}: cannot be read: {first_line(error)}") from error

    def _with_class_names(self, row: dict[str, Any]) -> dict[str, Any]:
        for column, names in self.class_names.items():
            number = row[column]
            if isinstance(number, int) and 0 <= number < len(names):
                row[column] = names[number]
        return row


def read_parquet(path: Path, name: str) -> Table:
    """The table of a parquet file; string, large string, dictionary and list columns become Python values.

    Only the file's footer is read here; the rows are read from the file each time anew, a few at once:
    in memory are these and a page of each column, of whatever size the file's writer made it.

    Raises:
        DataError: no parquet file, one without rows. A damaged page is met, and raises, when the rows are read.
    """
    try:
        state = FileState.of(path, name)
        with pq.ParquetFile(path) as file:
            metadata, columns = file.metadata, tuple(file.schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name} cannot be read as parquet: {first_line(error)}") from error
    if metadata.num_rows == 0:
        raise DataError(f"{name} has no rows")
    if len(set(columns)) < len(columns):
        raise DataError(f"{name}: two columns have the same name ({', '.join(columns)}); rename one")
    rows = _ArrowRows(partial(_parquet_batches, state, _rows_at_once(metadata)), name, {})
    return Table(name=name, columns=columns, rows=rows, is_uniform=True)


def _parquet_batches(state: FileState, rows_at_once: int) -> Iterator[Any]:
    state.check()
    # with a small buffer pages come one after the other, rather than a row group's whole column
    with pq.ParquetFile(state.path, buffer_size=_BUFFER, pre_buffer=False) as file:
        try:
            yield from file.iter_batches(rows_at_once, use_threads=False)
        except Exception:
            state.check()  # a change explains whatever went wrong
            raise
    state.check()


def _rows_at_once(metadata: Any) -> int:
    """How many rows of a parquet file fit in a batch, by the size that the footer gives for them."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    sizes = [
        sum(_bytes_of_cell(group.column(index), group.num_rows) for index in range(metadata.num_columns))
        for group in groups
        if group.num_rows
    ]
    return max(1, min(_ROWS_AT_ONCE, int(_BYTES_AT_ONCE / max(1.0, *sizes))))


def _bytes_of_cell(column: Any, rows: int) -> float:
    """How large the cells of a column may be, in the mean; any row may repeat the largest value of a dictionary."""
    size: int = column.total_uncompressed_size
    if not column.has_dictionary_page:
        return size / rows
    pages = column.total_compressed_size - (column.data_page_offset - column.dictionary_page_offset)
    return size if pages <= _INDEX_BYTES * column.num_values else size / rows


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
