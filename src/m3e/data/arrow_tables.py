"""Parquet files and Hugging Face data sets to tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from m3e.data.file_state import FileState
from m3e.data.labels import is_entailment_class
from m3e.data.tables import Row, Table
from m3e.errors import DataError, first_line

_ROWS_AT_ONCE = 1024
_BYTES_AT_ONCE = 8 << 20
_FEW_ROWS = 8  # so few need no second look, for which a dictionary of large values is read twice


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


def read_parquet(path: Path, name: str, columns: Sequence[str] | None = None) -> Table:
    """The table of a parquet file; string, large string, dictionary and list columns become Python values.

    Only the file's footer is read here; the rows are read from the file each time anew, a few at once:
    in memory are these and a page of each column, of whatever size the file's writer made it.

    Args:
        columns: those that rows are to have; all of them where one is not in the file.

    Raises:
        DataError: no parquet file, one without rows. A damaged page is met, and raises, when the rows are read.
    """
    try:
        state = FileState.of(path, name)
        with pq.ParquetFile(path) as file:
            num_rows, schema = file.metadata.num_rows, file.schema_arrow
            names = tuple(schema.names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name} cannot be read as parquet: {first_line(error)}") from error
    if num_rows == 0:
        raise DataError(f"{name} has no rows")
    if len(set(names)) < len(names):
        raise DataError(f"{name}: two columns have the same name ({', '.join(names)}); rename one")
    wanted = list(columns) if columns and set(columns) <= set(names) else None
    rows = _ArrowRows(partial(_parquet_batches, state, wanted), name, {})
    nested = any(pa.types.is_nested(column.type) for column in schema)
    return Table(name=name, columns=names, rows=rows, is_uniform=True, may_hold_lists=nested)


def _parquet_batches(state: FileState, columns: list[str] | None) -> Iterator[Any]:
    state.check()
    with _open_parquet(state) as file:
        try:
            for index in range(file.num_row_groups):
                count = _rows_at_once(state, file, index)
                yield from file.iter_batches(count, row_groups=[index], columns=columns, use_threads=False)
        except Exception:
            state.check()  # a change explains whatever went wrong
            raise
    state.check()


def _open_parquet(state: FileState, **options: Any) -> Any:
    """A file whose pages are read one after the other, rather than a row group's whole column."""
    return pq.ParquetFile(state.path, buffer_size=1 << 18, pre_buffer=False, **options)


def _rows_at_once(state: FileState, file: Any, index: int) -> int:
    """How many rows of a row group fit in a batch: by the mean size of a row, and by values that rows may share."""
    group = file.metadata.row_group(index)
    by_mean = _fitting(group.total_byte_size // max(1, group.num_rows))
    if by_mean <= _FEW_ROWS:
        return by_mean
    names = set(file.schema_arrow.names)
    shared = 0
    for column in map(group.column, range(group.num_columns)):
        is_text = column.physical_type == "BYTE_ARRAY" and column.path_in_schema in names
        if is_text and column.has_dictionary_page and column.total_uncompressed_size * by_mean > _BYTES_AT_ONCE:
            shared += _largest_shared(state, file.metadata, index, column.path_in_schema)
    return min(by_mean, _fitting(shared))


def _fitting(bytes_of_row: int) -> int:
    return max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE // max(1, bytes_of_row)))


def _largest_shared(state: FileState, metadata: Any, index: int, column: str) -> int:
    """The size of the largest value in a column's dictionary, which comes with its first row."""
    with _open_parquet(state, metadata=metadata, read_dictionary=[column]) as file:
        first = next(file.iter_batches(1, row_groups=[index], columns=[column], use_threads=False)).column(0)
    if not pa.types.is_dictionary(first.type):  # numbers that are kept as bytes
        return 0
    largest: int | None = pc.max(pc.binary_length(first.dictionary)).as_py()
    return largest or 0


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
