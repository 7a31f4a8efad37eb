"""Parquet files whose columns are a record's texts by name: staged column by column, as fast as they can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from m3e.data.cleaning import DROPS_NAMED
from m3e.data.keys import is_blank
from m3e.data.staging import staged_columns
from m3e.data.streams import Account
from m3e.errors import DataError, first_line
from m3e.records import REQUIRED_FIELDS, Kind

_KINDS = {frozenset(REQUIRED_FIELDS[kind]): kind for kind in (Kind.PAIR, Kind.TRIPLET)}
_ROWS_A_BATCH = 8192
_BYTES_A_BATCH = 16 << 20
_SURELY_VISIBLE = r"[0-9A-Za-z\x{4E00}-\x{9FA5}]"


def plain_kind(path: Path) -> Kind | None:
    """The kind of a parquet file's records, where its columns are those of pairs or triplets, all of them strings.

    ``None`` for any other file, damaged ones included: what it holds takes a closer look.
    """
    if path.suffix.lower() != ".parquet":
        return None
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError):
        return None
    if not all(pa.types.is_string(kind) or pa.types.is_large_string(kind) for kind in schema.types):
        return None
    return _KINDS.get(frozenset(schema.names)) if len(set(schema.names)) == len(schema.names) else None


def stream_plain(path: Path, kind: Kind, account: Account) -> Iterator[pa.RecordBatch]:
    """The rows of such a file as staged columns, less those with a blank text, which ``account`` names and counts.

    Raises:
        DataError: the file is empty, or damaged.
    """
    fields = REQUIRED_FIELDS[kind]
    start = 0
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:  # what is buffered before, stays
            for batch in file.iter_batches(batch_size=_batch_rows(file.metadata), columns=list(fields)):
                batch.validate(full=True)  # Arrow takes a file's word that its bytes are UTF-8
                texts = [batch.column(name).cast(pa.large_string()) for name in fields]
                kept = _usable(texts, fields, path.name, start, account)
                start += batch.num_rows
                if len(kept) < batch.num_rows:
                    texts = [column.take(pa.array(kept)) for column in texts]
                account.rows += len(kept)
                if len(kept):
                    yield staged_columns(*texts)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path.name}: cannot be read: {first_line(error)}") from error
    if not start:
        raise DataError(f"{path.name} has no rows")


def _usable(
    texts: list[pa.Array], fields: tuple[str, ...], name: str, start: int, account: Account
) -> NDArray[np.int64]:
    """The rows whose texts are all there; of each other one the first that is not is named."""
    dropped: dict[int, str] = {}
    for column, field in zip(texts, fields, strict=True):
        sure = pc.fill_null(pc.match_substring_regex(column, _SURELY_VISIBLE), False).to_numpy(zero_copy_only=False)
        for index in np.flatnonzero(~sure).tolist():
            text = column[index].as_py()
            if text is None or is_blank(text):
                dropped.setdefault(index, field)
    for index in sorted(dropped):
        account.dropped["empty_text"] += 1
        if len(account.drops) < DROPS_NAMED:
            account.drops.append(f"{name}, row {start + index + 1}: {dropped[index]} is empty")
    return np.setdiff1d(np.arange(len(texts[0])), list(dropped), assume_unique=True)


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """Rows to read at once: fewer where they are long."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    longest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=1.0)
    return max(1, min(_ROWS_A_BATCH, int(_BYTES_A_BATCH / max(1.0, longest))))
