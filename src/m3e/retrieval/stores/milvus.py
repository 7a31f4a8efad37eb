"""Milvus: a file on this machine (milvus-lite), a server, or a cluster."""

from __future__ import annotations

import contextlib
import json
import logging
import logging.config
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from m3e.errors import DataError, MissingExtraError, StoreError, first_line
from m3e.retrieval.filters import Condition, facets
from m3e.retrieval.stores.database import Row, Vector, dump_metadata, row_of
from m3e.retrieval.stores.url import KEY_VARIABLE, StoreUrl, no_store

_STATES = "m3e_stores"
_COLUMNS = ["id", "text", "metadata", "vector"]
_LONGEST_ID, _LONGEST_TEXT = 1024, 65_535
_AT_ONCE = 1000
_open_files: Counter[str] = Counter()
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
_HNSW = {"M": 16, "efConstruction": 200}


def open_database(url: StoreUrl, *, create: bool) -> MilvusDatabase:
    """The database in a file (or the folder that milvus-lite makes of it) or behind an address.

    Raises:
        StoreError: nothing is there and ``create`` is false, or a server does not answer.
        MissingExtraError: pymilvus or milvus-lite is not installed.
    """
    try:
        with _own_logging():
            from pymilvus import MilvusClient, MilvusException
    except ImportError as error:
        raise MissingExtraError("pymilvus", "milvus") from error
    # errors are raised too, and milvus-lite's lack of timestamps would be said for every scan
    for name in ("pymilvus", "milvus_lite", "grpc"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    if not url.is_server:
        return _open_file(url, create)
    try:
        return MilvusDatabase(MilvusClient(url.place, token=os.environ.get(KEY_VARIABLE, ""), timeout=30))
    except MilvusException as error:
        raise StoreError(f"the Milvus server {url.shown} does not answer: {first_line(error)}") from error


@contextlib.contextmanager
def _own_logging() -> Iterator[None]:
    """Keep pymilvus from configuring all logging when it is imported.

    That closes every handler there is, and absl's closes stderr with it.
    """
    configure = logging.config.dictConfig
    logging.config.dictConfig = lambda config: None
    try:
        yield
    finally:
        logging.config.dictConfig = configure


def _open_file(url: StoreUrl, create: bool) -> MilvusDatabase:
    from pymilvus import MilvusClient

    path = Path(url.place).expanduser()
    if path.suffix != ".db":
        raise StoreError(f"the store {url.shown}: a file for Milvus must end in .db")
    if not path.exists() and not create:
        raise StoreError(no_store(url))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        from milvus_lite.server_manager import server_manager_instance as servers
    except ImportError as error:
        raise MissingExtraError("milvus-lite", "milvus") from error
    name = os.path.realpath(path)
    try:
        database = MilvusDatabase(MilvusClient(name), on_close=lambda: _release(name, servers))
    except Exception as error:  # milvus-lite fails with whatever its storage does
        raise StoreError(
            f"the store {url.shown} cannot be opened; is it open in another process? ({first_line(error)})"
        ) from error
    _open_files[name] += 1
    return database


def _release(name: str, servers: Any) -> None:
    """Let other processes have the file when the last of this process's stores in it is closed."""
    _open_files[name] -= 1
    if not _open_files[name]:
        servers.release_server(name)


class MilvusDatabase:
    """See :class:`m3e.retrieval.stores.database.Database`."""

    kind = "Milvus"
    most_hits = 16_384

    def __init__(self, client: Any, on_close: Callable[[], None] = lambda: None) -> None:
        from pymilvus import MilvusException

        self.errors: tuple[type[Exception], ...] = (MilvusException,)
        self._client = client
        self._on_close = on_close
        self._loaded: set[str] = set()

    def read_state(self, store: str) -> dict[str, Any] | None:
        """The state, from a row of a collection of its own."""
        if not self._client.has_collection(_STATES):
            return None
        self._load(_STATES)
        found = self._client.query(_STATES, filter=_id_in([store]), output_fields=["state"])
        return dict(json.loads(found[0]["state"])) if found else None

    def write_state(self, store: str, state: Mapping[str, Any]) -> None:
        """Replace the state's row."""
        if not self._client.has_collection(_STATES):
            self._create(_STATES, {"state": _LONGEST_TEXT}, dimension=2, facets=False, ann=False)
        self._client.upsert(_STATES, [{"id": store, "state": json.dumps(dict(state)), "vector": [1.0, 0.0]}])

    def create_table(self, table: str, dimension: int, *, ann: bool) -> None:
        """An empty collection."""
        if not self._client.has_collection(table):
            texts = {"text": _LONGEST_TEXT, "metadata": _LONGEST_TEXT, "digest": 64}
            self._create(table, texts, dimension=dimension, facets=True, ann=ann)

    def drop_table(self, table: str) -> None:
        """Remove a collection."""
        self._client.drop_collection(table)
        self._loaded.discard(table)

    def upsert(self, table: str, rows: Sequence[Row]) -> None:
        """One request for each thousand rows.

        Raises:
            DataError: a row is longer than Milvus keeps; names its id.
        """
        entities: list[dict[str, Any]] = [
            {
                "id": row.id,
                "text": row.text,
                "metadata": dump_metadata(row.metadata),
                "digest": row.digest,
                "facets": facets(row.metadata),
                "vector": row.vector,
            }
            for row in rows
        ]
        for entity in entities:
            for name, most in (("id", _LONGEST_ID), ("text", _LONGEST_TEXT), ("metadata", _LONGEST_TEXT)):
                length = len(entity[name].encode())
                if length > most:
                    raise DataError(
                        f"document {entity['id'][:80]!r}: Milvus keeps at most {most} bytes of {name}, not {length}; "
                        "split it, or use another store"
                    )
        for part in _parts(entities):
            self._client.upsert(table, part)

    def delete(self, table: str, ids: Sequence[str]) -> None:
        """Remove rows."""
        for part in _parts(ids):
            self._client.delete(table, filter=_id_in(part))

    def finish(self, table: str, *, ann: bool) -> None:
        """Where the choice of index has changed, build the other one."""
        [name] = self._client.list_indexes(table)
        wanted = _index_of(ann)
        if self._client.describe_index(table, name)["index_type"] != wanted["index_type"]:
            self._client.release_collection(table)
            self._client.drop_index(table, name)
            self._client.create_index(table, self._index_params(ann))
            self._client.load_collection(table)

    def count(self, table: str) -> int:
        """How many rows there are."""
        self._load(table)
        return int(self._client.query(table, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def digests(self, table: str, ids: Sequence[str]) -> dict[str, str]:
        """Digests by id."""
        return {row["id"]: row["digest"] for row in self._chosen(table, ids, ["id", "digest"])}

    def fetch(self, table: str, ids: Sequence[str]) -> list[Row]:
        """Rows by id."""
        return [_row(row) for row in self._chosen(table, ids, _COLUMNS)]

    def nearest(self, table: str, vector: Vector, k: int, conditions: Sequence[Condition], *, ann: bool) -> list[Row]:
        """By the flat index, or for ``ann`` by HNSW."""
        self._load(table)
        found = self._client.search(
            table,
            [vector],
            limit=k,
            filter=" and ".join(_expression(item) for item in conditions),
            output_fields=_COLUMNS,
            search_params={"params": {"ef": max(k, 128)} if ann else {}},
        )
        return [_row(hit["entity"]) for hit in found[0]]

    def texts(self, table: str) -> Iterator[tuple[str, str]]:
        """Id and text of every row."""
        self._load(table)
        pages = self._client.query_iterator(table, batch_size=_AT_ONCE, filter="", output_fields=["id", "text"])
        try:
            while page := pages.next():
                yield from ((row["id"], row["text"]) for row in page)
        finally:
            pages.close()

    def close(self) -> None:
        """Let go of the file or the connection."""
        self._client.close()
        self._on_close()
        self._on_close = lambda: None

    def _create(self, name: str, texts: Mapping[str, int], *, dimension: int, facets: bool, ann: bool) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=_LONGEST_ID)
        for text, longest in texts.items():
            schema.add_field(text, DataType.VARCHAR, max_length=longest)
        if facets:
            schema.add_field("facets", DataType.JSON)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        self._client.create_collection(
            name, schema=schema, index_params=self._index_params(ann), consistency_level="Strong"
        )

    def _index_params(self, ann: bool) -> Any:
        params = self._client.prepare_index_params()
        params.add_index("vector", metric_type="COSINE", **_index_of(ann))
        return params

    def _load(self, name: str) -> None:
        if name not in self._loaded:
            self._client.load_collection(name)
            self._loaded.add(name)

    def _chosen(self, table: str, ids: Sequence[str], columns: list[str]) -> Iterator[dict[str, Any]]:
        self._load(table)
        for part in _parts(ids):
            yield from self._client.query(table, filter=_id_in(part), output_fields=columns)


def _index_of(ann: bool) -> dict[str, Any]:
    return {"index_type": "HNSW", "params": _HNSW} if ann else {"index_type": "FLAT"}


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))


def _row(entity: Mapping[str, Any]) -> Row:
    return row_of(entity["id"], entity["text"], entity["metadata"], entity["vector"])


def _id_in(ids: Sequence[str]) -> str:
    # the client's own lists of ids do not escape quotes and backslashes
    return f"id in [{', '.join(map(_quoted, ids))}]"


def _quoted(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


def _expression(item: Condition) -> str:
    facet = f'facets["{item.facet}"]'
    operand = _quoted(item.operand) if isinstance(item.operand, str) else repr(item.operand)
    if item.operator == "!=":
        return f"(not exists {facet} or {facet} != {operand})"
    return f"({facet} {'==' if item.operator == '=' else item.operator} {operand})"
