"""LanceDB in a folder: embedded, columnar, the default.

Rows lie in tables beside a JSON file a store. Each facet is a column of its own, null where a row lacks it, added
when a row first brings it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from m3e.errors import MissingExtraError, StoreError
from m3e.files import read_json, write_json
from m3e.retrieval.filters import Condition, facets, is_number_facet
from m3e.retrieval.stores.database import Row, Vector, dump_metadata, row_of
from m3e.retrieval.stores.url import StoreUrl, no_store

_COLUMNS = ["id", "text", "metadata", "vector"]
_IDS_AT_ONCE = 1000
_INDEXED_FROM = 10_000
_OLD_VERSIONS = timedelta(hours=1)


def open_database(url: StoreUrl, *, create: bool) -> LanceDatabase:
    """The database in a folder.

    Raises:
        StoreError: nothing is there and ``create`` is false, or the folder holds something else.
        MissingExtraError: lancedb is not installed.
    """
    folder = Path(url.place).expanduser()
    if folder.is_file():
        raise StoreError(f"the store {url.shown} is a file; name a folder")
    if not folder.is_dir() and not create:
        raise StoreError(no_store(url))
    # hidden files may be a state that was being written when a first run was killed
    visible = [entry for entry in folder.iterdir() if not entry.name.startswith(".")] if folder.is_dir() else []
    if visible and not any(folder.glob("*.store.json")):
        raise StoreError(f"{url.shown} holds other files, not a store; name another folder")
    try:
        import lancedb
    except ImportError as error:
        raise MissingExtraError("lancedb", "search") from error
    folder.mkdir(parents=True, exist_ok=True)
    return LanceDatabase(folder, lancedb.connect(os.fspath(folder)))


class LanceDatabase:
    """See :class:`m3e.retrieval.stores.database.Database`."""

    kind = "LanceDB"
    most_hits = 1_000_000
    errors = (OSError, RuntimeError, ValueError)

    def __init__(self, folder: Path, connection: Any) -> None:
        self._folder = folder
        self._connection = connection

    def read_state(self, store: str) -> dict[str, Any] | None:
        """The state, from a JSON file."""
        path = self._folder / f"{store}.store.json"
        return dict(read_json(path)) if path.is_file() else None

    def write_state(self, store: str, state: Mapping[str, Any]) -> None:
        """Replace the state's file."""
        write_json(self._folder / f"{store}.store.json", state)

    def create_table(self, table: str, dimension: int, *, ann: bool) -> None:
        """An empty table without facets."""
        import pyarrow as pa

        texts = [pa.field(name, pa.large_string(), nullable=False) for name in ("text", "metadata")]
        schema = pa.schema(
            [
                pa.field("id", pa.string(), nullable=False),
                *texts,
                pa.field("digest", pa.string(), nullable=False),
                pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False),
            ]
        )
        try:
            self._connection.open_table(table)
        except (ValueError, OSError):  # which of them depends on the release
            self._connection.create_table(table, schema=schema)

    def drop_table(self, table: str) -> None:
        """Remove a table."""
        self._connection.drop_table(table, ignore_missing=True)

    def upsert(self, table: str, rows: Sequence[Row]) -> None:
        """One commit for all rows."""
        import pyarrow as pa

        opened = self._connection.open_table(table)
        filed = [facets(row.metadata) for row in rows]
        fresh = {name for item in filed for name in item} - set(opened.schema.names)
        if fresh:
            types = {name: "double" if is_number_facet(name) else "string" for name in sorted(fresh)}
            opened.add_columns({name: f"cast(null as {kind})" for name, kind in types.items()})
        schema = opened.schema
        dimension = schema.field("vector").type.list_size
        columns: dict[str, Any] = {
            "id": [row.id for row in rows],
            "text": [row.text for row in rows],
            "metadata": [dump_metadata(row.metadata) for row in rows],
            "digest": [row.digest for row in rows],
            "vector": pa.FixedSizeListArray.from_arrays(
                pa.array(np.concatenate([row.vector for row in rows]), pa.float32()), dimension
            ),
        }
        columns |= {name: [item.get(name) for item in filed] for name in schema.names if name not in columns}
        batch = pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names}, schema)
        (opened.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(batch))

    def delete(self, table: str, ids: Sequence[str]) -> None:
        """Remove rows."""
        opened = self._connection.open_table(table)
        for chosen in _id_conditions(ids):
            opened.delete(chosen)

    def finish(self, table: str, *, ann: bool) -> None:
        """Compact; in large tables index ids and, for ``ann``, vectors (IVF over HNSW with 8-bit numbers)."""
        from lancedb.index import BTree, HnswSq

        opened = self._connection.open_table(table)
        if opened.count_rows() >= _INDEXED_FROM:
            present = {column for index in opened.list_indices() for column in index.columns}
            if "id" not in present:
                opened.create_index("id", config=BTree())
            if ann and "vector" not in present:
                opened.create_index("vector", config=HnswSq(distance_type="cosine"))
        opened.optimize(cleanup_older_than=_OLD_VERSIONS)

    def count(self, table: str) -> int:
        """How many rows there are."""
        return int(self._connection.open_table(table).count_rows())

    def digests(self, table: str, ids: Sequence[str]) -> dict[str, str]:
        """Digests by id."""
        return {row["id"]: row["digest"] for row in self._chosen(table, ids, ["id", "digest"])}

    def fetch(self, table: str, ids: Sequence[str]) -> list[Row]:
        """Rows by id."""
        return [row_of(**row) for row in _renamed(self._chosen(table, ids, _COLUMNS))]

    def nearest(self, table: str, vector: Vector, k: int, conditions: Sequence[Condition], *, ann: bool) -> list[Row]:
        """A scan of all vectors, unless ``ann`` and there is an index."""
        opened = self._connection.open_table(table)
        query = opened.search(vector, vector_column_name="vector").distance_type("cosine")
        query = query.nprobes(64).refine_factor(4) if ann else query.bypass_vector_index()
        if conditions:
            query = query.where(" and ".join(_sql(item, opened.schema.names) for item in conditions), prefilter=True)
        found = query.select([*_COLUMNS, "_distance"]).limit(k).to_list()
        return [row_of(**row) for row in _renamed(found)]

    def texts(self, table: str) -> Iterator[tuple[str, str]]:
        """Id and text of every row."""
        opened = self._connection.open_table(table)
        count = opened.count_rows()
        if count:
            for batch in opened.search().select(["id", "text"]).limit(count).to_batches():
                yield from zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True)

    def close(self) -> None:
        """Nothing is held."""

    def _chosen(self, table: str, ids: Sequence[str], columns: list[str]) -> Iterator[dict[str, Any]]:
        opened = self._connection.open_table(table)
        for chosen in _id_conditions(ids):
            yield from opened.search().where(chosen).select(columns).limit(_IDS_AT_ONCE).to_list()


def _renamed(rows: Any) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {"identifier": row["id"], **{name: row[name] for name in ("text", "metadata", "vector")}}


def _id_conditions(ids: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield f"id in ({', '.join(_quoted(item) for item in ids[start : start + _IDS_AT_ONCE])})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _sql(item: Condition, columns: Sequence[str]) -> str:
    """The condition in SQL; a facet without a column is null in every row."""
    if item.facet not in columns:
        return "true" if item.operator == "!=" else "false"
    operand = _quoted(item.operand) if isinstance(item.operand, str) else f"cast('{item.operand!r}' as double)"
    if item.operator == "!=":
        return f"({item.facet} is null or {item.facet} <> {operand})"
    return f"({item.facet} {item.operator} {operand})"
