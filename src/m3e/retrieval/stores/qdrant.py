"""Qdrant: in a folder (the client's own local mode, for some ten thousand documents), or a server."""

from __future__ import annotations

import json
import os
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from m3e.errors import MissingExtraError, StoreError, first_line
from m3e.retrieval.filters import Condition, facets
from m3e.retrieval.stores.database import Row, Vector, dump_metadata, row_of
from m3e.retrieval.stores.url import KEY_VARIABLE, StoreUrl, no_store

_STATES = "m3e_stores"
_AT_ONCE = 256
_IDS_AT_ONCE = 1000
_NAMESPACE = uuid.UUID("6f0f9b4e-6d33-4a53-9d6c-6d3365000000")
"""Qdrant's ids are numbers or UUIDs; ours become UUIDs and stand in the payload as they are."""


def open_database(url: StoreUrl, *, create: bool) -> QdrantDatabase:
    """The database in a folder or behind an address.

    Raises:
        StoreError: nothing is there and ``create`` is false, the folder holds something else or is in use, or a
            server does not answer.
        MissingExtraError: qdrant-client is not installed.
    """
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise MissingExtraError("qdrant-client", "qdrant") from error
    if url.is_server:
        client = QdrantClient(
            url=url.place, api_key=os.environ.get(KEY_VARIABLE), timeout=60, check_compatibility=False
        )
        database = QdrantDatabase(client)
        try:
            database.read_state(url.name)
        except database.errors as error:
            raise StoreError(f"the Qdrant server {url.shown} does not answer: {first_line(error)}") from error
        return database
    folder = Path(url.place).expanduser()
    if folder.is_file():
        raise StoreError(f"the store {url.shown} is a file; name a folder")
    is_ours = (folder / "meta.json").is_file()
    if not is_ours and not create:
        raise StoreError(no_store(url))
    if not is_ours and folder.is_dir() and {entry.name for entry in folder.iterdir()} - {".lock", "collection"}:
        raise StoreError(f"{url.shown} holds other files, not a Qdrant database; name another folder")
    try:
        return QdrantDatabase(QdrantClient(path=os.fspath(folder)), is_local=True)
    except RuntimeError as error:
        raise StoreError(f"the store {url.shown} cannot be opened: {first_line(error)}") from error


class QdrantDatabase:
    """See :class:`m3e.retrieval.stores.database.Database`."""

    kind = "Qdrant"
    most_hits = 100_000

    def __init__(self, client: Any, *, is_local: bool = False) -> None:
        from qdrant_client.http.exceptions import ApiException

        self.errors: tuple[type[Exception], ...] = (ApiException, OSError, RuntimeError)
        self._client = client
        self._is_local = is_local
        self._hurried: set[str] = set()

    def read_state(self, store: str) -> dict[str, Any] | None:
        """The state, from the payload of a point in a collection of its own."""
        if not self._client.collection_exists(_STATES):
            return None
        found = self._client.retrieve(_STATES, ids=[_point_id(store)], with_payload=True)
        return dict(json.loads(found[0].payload["state"])) if found else None

    def write_state(self, store: str, state: Mapping[str, Any]) -> None:
        """Replace the state's point."""
        self._create(_STATES, 2, ann=False)
        self._upsert(_STATES, [_point_id(store)], [[1.0, 0.0]], [{"state": json.dumps(dict(state))}])

    def create_table(self, table: str, dimension: int, *, ann: bool) -> None:
        """An empty collection."""
        self._create(table, dimension, ann=ann)

    def drop_table(self, table: str) -> None:
        """Remove a collection."""
        self._client.delete_collection(table)

    def upsert(self, table: str, rows: Sequence[Row]) -> None:
        """One request for each 256 rows."""
        for part in _parts(rows, _AT_ONCE):
            payloads = [
                {
                    "id": row.id,
                    "text": row.text,
                    "metadata": dump_metadata(row.metadata),
                    "digest": row.digest,
                    "facets": facets(row.metadata),
                }
                for row in part
            ]
            self._upsert(table, [_point_id(row.id) for row in part], [row.vector.tolist() for row in part], payloads)

    def delete(self, table: str, ids: Sequence[str]) -> None:
        """Remove points."""
        from qdrant_client import models

        for part in _parts(ids, _IDS_AT_ONCE):
            points = models.PointIdsList(points=[_point_id(item) for item in part])
            self._client.delete(table, points_selector=points, wait=True)

    def finish(self, table: str, *, ann: bool) -> None:
        """Let the server build a graph, or not."""
        from qdrant_client import models

        if not self._is_local:
            self._client.update_collection(table, hnsw_config=models.HnswConfigDiff(m=16 if ann else 0))

    def count(self, table: str) -> int:
        """How many points there are."""
        return int(self._client.count(table, exact=True).count)

    def digests(self, table: str, ids: Sequence[str]) -> dict[str, str]:
        """Digests by id."""
        points = self._chosen(table, ids, with_payload=["id", "digest"])
        return {point.payload["id"]: point.payload["digest"] for point in points}

    def fetch(self, table: str, ids: Sequence[str]) -> list[Row]:
        """Points by id."""
        return [_row(point) for point in self._chosen(table, ids, with_payload=True, with_vectors=True)]

    def nearest(self, table: str, vector: Vector, k: int, conditions: Sequence[Condition], *, ann: bool) -> list[Row]:
        """By comparing with all vectors, unless ``ann``."""
        from qdrant_client import models

        exact = None if self._is_local else models.SearchParams(exact=not ann)
        found = self._client.query_points(
            table,
            query=vector.tolist(),
            limit=k,
            query_filter=_filter(conditions),
            search_params=exact,
            with_payload=True,
            with_vectors=True,
        )
        return [_row(point) for point in found.points]

    def texts(self, table: str) -> Iterator[tuple[str, str]]:
        """Id and text of every point."""
        start = None
        while True:
            page, start = self._client.scroll(table, limit=_IDS_AT_ONCE, offset=start, with_payload=["id", "text"])
            yield from ((point.payload["id"], point.payload["text"]) for point in page)
            if start is None:
                return

    def close(self) -> None:
        """Let go of the folder or the connection."""
        self._client.close()

    def _create(self, table: str, dimension: int, *, ann: bool) -> None:
        from qdrant_client import models

        if not self._client.collection_exists(table):
            self._client.create_collection(
                table,
                vectors_config=models.VectorParams(size=dimension, distance=models.Distance.COSINE),
                hnsw_config=models.HnswConfigDiff(m=16 if ann else 0),
            )

    def _upsert(self, table: str, ids: list[str], vectors: list[list[float]], payloads: list[dict[str, Any]]) -> None:
        from qdrant_client import models

        if self._is_local:
            self._hurry(table)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Local mode is not recommended")
            points = models.Batch(ids=ids, vectors=vectors, payloads=payloads)
            self._client.upsert(table, points=points, wait=True)

    def _hurry(self, table: str) -> None:
        """Let the local mode's SQLite append to a log: it commits each point, and would wait for the disk each time."""
        if table not in self._hurried:
            self._hurried.add(table)
            storage = self._client._client.collections[table].storage
            connection = getattr(storage, "storage", None)
            if connection is not None:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")

    def _chosen(self, table: str, ids: Sequence[str], **options: Any) -> Iterator[Any]:
        for part in _parts(ids, _IDS_AT_ONCE):
            yield from self._client.retrieve(table, ids=[_point_id(item) for item in part], **options)


def _point_id(identifier: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, identifier))


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _row(point: Any) -> Row:
    payload = point.payload
    return row_of(payload["id"], payload["text"], payload["metadata"], point.vector)


def _filter(conditions: Sequence[Condition]) -> Any:
    from qdrant_client import models

    if not conditions:
        return None
    must = [_field(item) for item in conditions if item.operator != "!="]
    must_not = [_field(item) for item in conditions if item.operator == "!="]
    return models.Filter(must=must or None, must_not=must_not or None)


def _field(item: Condition) -> Any:
    from qdrant_client import models

    key, value = f"facets.{item.facet}", item.operand
    if isinstance(value, str):
        return models.FieldCondition(key=key, match=models.MatchValue(value=value))
    if item.operator in ("=", "!="):
        return models.FieldCondition(key=key, range=models.Range(gte=value, lte=value))
    bound = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}[item.operator]
    return models.FieldCondition(key=key, range=models.Range(**{bound: value}))
