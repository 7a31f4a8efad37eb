"""The rows that stay, sorted by their content, in parquet shards of bounded size: the same rows, the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from m3e.data.bloom import TextFilter
from m3e.data.pipeline import Staged
from m3e.data.staging import STAGED, shard_table
from m3e.files import hash_file
from m3e.records import Kind

SHARD_ROWS = 200_000
SHARD_BYTES = 128 << 20
_BUCKET_BYTES = 64 << 20
_BYTES_A_ROW = 64  # that columns take beside the texts
_GROUP_ROWS = 20_000
_GROUP_BYTES = 32 << 20


def write_shards(staged: Staged, verdicts: NDArray[np.uint8], folder: Path, seen: TextFilter) -> list[dict[str, Any]]:
    """Write the rows whose verdict is 0 to ``folder``; each shard's name, rows and SHA-256.

    Rows are sorted by their content's hash. Where they are more than a bucket holds, they are first dealt
    into buckets by that hash, each of which is then sorted by itself: texts are never all in memory.

    Args:
        seen: every text's key is added to it.
    """
    alive = verdicts == 0
    if not alive.any():
        return []
    many = staged.kind == Kind.TRIPLET and _has_many_negatives(staged, alive)
    folder.mkdir(parents=True, exist_ok=True)
    _add_hashes(staged, alive, seen)
    shards = ShardWriter(folder)
    sizes = staged.column("size")
    for rows in _groups(_sorted_rows(staged, alive, sizes), sizes):
        size = int(sizes[rows["row"].to_numpy()].sum())
        shards.add(shard_table(rows, staged.kind, staged.plan.name, many_negatives=many), size)
    return shards.close()


class ShardWriter:
    """Writes groups of rows one after the other, and begins a new file where one is full.

    Args:
        folder: of the shards; it exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None
        self._rows = self._bytes = 0

    def add(self, group: pa.Table, size: int) -> None:
        """Write a group whose texts take ``size`` bytes."""
        if self._writer is not None and (self._rows + group.num_rows > SHARD_ROWS or self._bytes > SHARD_BYTES):
            self._finish()
        if self._writer is None:
            self._path = self._folder / f"{len(self._written):05d}.parquet"
            self._writer = pq.ParquetWriter(self._path, group.schema, compression="zstd")
        self._writer.write_table(group, row_group_size=_GROUP_ROWS)
        self._rows += group.num_rows
        self._bytes += size

    def close(self) -> list[dict[str, Any]]:
        """End the last file; each shard's name, rows and SHA-256."""
        if self._writer is not None:
            self._finish()
        return self._written

    def _finish(self) -> None:
        assert self._writer is not None
        self._writer.close()
        self._written.append(
            {
                "file": f"{self._folder.name}/{self._path.name}",
                "rows": self._rows,
                "sha256": hash_file(self._path),
            }
        )
        self._writer, self._rows, self._bytes = None, 0, 0


def _sorted_rows(staged: Staged, alive: NDArray[np.bool_], sizes: NDArray[np.uint32]) -> Iterator[pa.Table]:
    """The rows that stay in order of content, then of their number, a bucket at a time."""
    content = staged.column("content")
    # of the rows' own sizes: how an engine parts them into batches must not show in the shards
    total = int(sizes.sum()) + _BYTES_A_ROW * len(sizes)
    buckets = 1 << max(0, int(np.ceil(np.log2(max(1.0, total / _BUCKET_BYTES)))))
    if buckets == 1:
        kept = [_kept(batch, alive) for batch in _batches(staged, STAGED.names)]
        yield _in_order(pa.concat_tables(kept), content)
        return
    paths = [staged.folder / f"bucket-{index:04d}.arrow" for index in range(buckets)]
    _deal(staged, alive, content, paths)
    for path in paths:
        with pa.OSFile(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
        path.unlink()
        if table.num_rows:
            yield _in_order(table, content)


def _deal(staged: Staged, alive: NDArray[np.bool_], content: NDArray[np.uint64], paths: Sequence[Path]) -> None:
    """Write the rows that stay to a file for each part of the range of contents."""
    shift = np.uint64(64 - int(np.log2(len(paths))))
    writers = [pa.ipc.new_file(str(path), STAGED) for path in paths]
    for batch in _batches(staged, STAGED.names):
        kept = _kept(batch, alive)
        bucket = (content[kept["row"].to_numpy()] >> shift).astype(np.int64)
        together = kept.take(np.argsort(bucket, kind="stable"))
        ends = np.cumsum(np.bincount(bucket, minlength=len(paths))).tolist()
        for writer, start, end in zip(writers, [0, *ends], ends, strict=False):
            if end > start:
                writer.write_table(together.slice(start, end - start))
    for writer in writers:
        writer.close()


def _batches(staged: Staged, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(staged.clean_path, pre_buffer=False) as file:  # what is buffered before, stays
        yield from file.iter_batches(batch_size=8192, columns=list(columns))


def _kept(batch: pa.RecordBatch, alive: NDArray[np.bool_]) -> pa.Table:
    return pa.Table.from_batches([batch]).filter(pa.array(alive[batch["row"].to_numpy()])).cast(STAGED)


def _in_order(table: pa.Table, content: NDArray[np.uint64]) -> pa.Table:
    rows = table["row"].to_numpy()
    return table.take(np.lexsort((rows, content[rows]))).combine_chunks()


def _groups(tables: Iterable[pa.Table], sizes: NDArray[np.int64]) -> Iterator[pa.Table]:
    """The same rows in groups that rows alone decide on: whatever the buckets, the files are the same."""
    rest = STAGED.empty_table()
    for table in tables:
        rows = pa.concat_tables([rest, table]).combine_chunks()
        sums = np.cumsum(sizes[rows["row"].to_numpy()])
        start = before = 0
        while (stop := min(start + _GROUP_ROWS, int(np.searchsorted(sums, before + _GROUP_BYTES)) + 1)) <= len(sums):
            yield rows.slice(start, stop - start)
            start, before = stop, int(sums[stop - 1])
        rest = rows.slice(start)
    if rest.num_rows:
        yield rest


def _add_hashes(staged: Staged, alive: NDArray[np.bool_], seen: TextFilter) -> None:
    for batch in _batches(staged, ("row", "hashes")):
        stays = np.repeat(alive[batch["row"].to_numpy()], batch["hashes"].value_lengths().to_numpy())
        seen.add_hashes(batch["hashes"].flatten().to_numpy()[stays])


def _has_many_negatives(staged: Staged, alive: NDArray[np.bool_]) -> bool:
    return any(
        bool((batch["negatives"].value_lengths().to_numpy()[alive[batch["row"].to_numpy()]] > 1).any())
        for batch in _batches(staged, ("row", "negatives"))
    )
