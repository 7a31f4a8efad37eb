"""Chroma: in a folder, or a server.

Chroma has no search without an index: every collection is an HNSW graph. Unless ``ann`` is chosen it is built and
searched so widely that a table of some ten thousand rows is answered exactly.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from m3e.errors import MissingExtraError, StoreError
from m3e.retrieval.filters import Condition, facets
from m3e.retrieval.stores.database import Row, Vector, dump_metadata, row_of
from m3e.retrieval.stores.url import KEY_VARIABLE, StoreUrl, no_store

_STATES = "m3e_stores"
_METADATA, _DIGEST = "m3e_metadata", "m3e_digest"
_AT_ONCE = 1000
_WIDE = {"ef_construction": 400, "max_neighbors": 32, "ef_search": 10_000}
_OPERATORS = {"=": "$eq", "!=": "$ne", "<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte"}


def open_database(url: StoreUrl, *, create: bool) -> ChromaDatabase:
    """The database in a folder or behind an address.

    Raises:
        StoreError: nothing is there and ``create`` is false, the folder holds something else, or no answer.
        MissingExtraError: chromadb is not installed.
    """
    try:
        import chromadb
        from chromadb.config import Settings
    except ImportError as error:
        raise MissingExtraError("chromadb", "chroma") from error
    settings = Settings(anonymized_telemetry=False)
    if not url.is_server:
        folder = Path(url.place).expanduser()
        _check_folder(folder, url, create)
        folder.mkdir(parents=True, exist_ok=True)
        return ChromaDatabase(chromadb.PersistentClient(os.fspath(folder), settings=settings))
    address = urlsplit(url.place)
    is_secure = address.scheme == "https"
    key = os.environ.get(KEY_VARIABLE)
    try:
        client = chromadb.HttpClient(
            host=address.hostname or "",
            port=address.port or (443 if is_secure else 8000),
            ssl=is_secure,
            headers={"Authorization": f"Bearer {key}", "X-Chroma-Token": key} if key else None,
            settings=settings,
        )
    except Exception as error:  # ValueError, httpx's and Chroma's own errors
        raise StoreError(f"the Chroma server {url.shown} does not answer: {error}") from error
    return ChromaDatabase(client)


def _check_folder(folder: Path, url: StoreUrl, create: bool) -> None:
    if folder.is_file():
        raise StoreError(f"the store {url.shown} is a file; name a folder")
    is_ours = (folder / "chroma.sqlite3").is_file()
    if not is_ours and not create:
        raise StoreError(no_store(url))
    if not is_ours and folder.is_dir() and any(folder.iterdir()):
        raise StoreError(f"{url.shown} holds other files, not a Chroma database; name another folder")


class ChromaDatabase:
    """See :class:`m3e.retrieval.stores.database.Database`."""

    kind = "Chroma"
    most_hits = 10_000

    def __init__(self, client: Any) -> None:
        from chromadb.errors import ChromaError

        self.errors: tuple[type[Exception], ...] = (ChromaError, OSError, ValueError, RuntimeError)
        self._client = client

    def read_state(self, store: str) -> dict[str, Any] | None:
        """The state, from the document of a record in a collection of its own."""
        states = self._find(_STATES)
        found = states.get(ids=[store], include=["documents"])["documents"] if states is not None else []
        return dict(json.loads(found[0])) if found else None

    def write_state(self, store: str, state: Mapping[str, Any]) -> None:
        """Replace the state's record."""
        states = self._client.get_or_create_collection(_STATES, embedding_function=None)
        states.upsert(ids=[store], embeddings=[[1.0, 0.0]], documents=[json.dumps(dict(state), ensure_ascii=False)])

    def create_table(self, table: str, dimension: int, *, ann: bool) -> None:
        """An empty collection; Chroma learns the dimension from the first row."""
        hnsw = {"space": "cosine", **({} if ann else _WIDE)}
        self._client.get_or_create_collection(table, configuration={"hnsw": hnsw}, embedding_function=None)

    def drop_table(self, table: str) -> None:
        """Remove a collection."""
        if self._find(table) is not None:
            self._client.delete_collection(table)

    def upsert(self, table: str, rows: Sequence[Row]) -> None:
        """One transaction for each thousand rows."""
        collection = self._client.get_collection(table, embedding_function=None)
        for part in _parts(rows):
            before = collection.get(ids=[row.id for row in part], include=["metadatas"])
            names = {key: set(item) for key, item in zip(before["ids"], before["metadatas"], strict=True)}
            collection.upsert(
                ids=[row.id for row in part],
                embeddings=[row.vector for row in part],
                documents=[row.text for row in part],
                metadatas=[_metadata(row, names.get(row.id, set())) for row in part],
            )

    def delete(self, table: str, ids: Sequence[str]) -> None:
        """Remove records."""
        collection = self._client.get_collection(table, embedding_function=None)
        for part in _parts(ids):
            collection.delete(ids=list(part))

    def finish(self, table: str, *, ann: bool) -> None:
        """Nothing: the graph grows with each write."""

    def count(self, table: str) -> int:
        """How many records there are."""
        return int(self._client.get_collection(table, embedding_function=None).count())

    def digests(self, table: str, ids: Sequence[str]) -> dict[str, str]:
        """Digests by id."""
        collection = self._client.get_collection(table, embedding_function=None)
        found: dict[str, str] = {}
        for part in _parts(ids):
            records = collection.get(ids=list(part), include=["metadatas"])
            found |= {key: item[_DIGEST] for key, item in zip(records["ids"], records["metadatas"], strict=True)}
        return found

    def fetch(self, table: str, ids: Sequence[str]) -> list[Row]:
        """Records by id."""
        collection = self._client.get_collection(table, embedding_function=None)
        records = [
            collection.get(ids=list(part), include=["documents", "metadatas", "embeddings"]) for part in _parts(ids)
        ]
        return [
            row
            for part in records
            for row in _rows(part["ids"], part["documents"], part["metadatas"], part["embeddings"])
        ]

    def nearest(self, table: str, vector: Vector, k: int, conditions: Sequence[Condition], *, ann: bool) -> list[Row]:
        """By the graph; how widely it is searched was decided when it was made."""
        collection = self._client.get_collection(table, embedding_function=None)
        found = collection.query(
            query_embeddings=[vector],
            n_results=k,
            where=_where(conditions),
            include=["documents", "metadatas", "embeddings"],
        )
        return _rows(found["ids"][0], found["documents"][0], found["metadatas"][0], found["embeddings"][0])

    def texts(self, table: str) -> Iterator[tuple[str, str]]:
        """Id and text of every record."""
        collection = self._client.get_collection(table, embedding_function=None)
        start = 0
        while (page := collection.get(limit=_AT_ONCE, offset=start, include=["documents"]))["ids"]:
            yield from zip(page["ids"], page["documents"], strict=True)
            start += _AT_ONCE

    def close(self) -> None:
        """Let go of the folder's files."""
        close = getattr(self._client, "close", None)
        if close:
            close()

    def _find(self, collection: str) -> Any:
        from chromadb.errors import NotFoundError

        try:
            return self._client.get_collection(collection, embedding_function=None)
        except NotFoundError:
            return None


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))


def _metadata(row: Row, before: set[str]) -> dict[str, str | float | None]:
    """What Chroma shall hold beside the text; it merges with what was there, and only ``None`` takes a name out."""
    filed = {**facets(row.metadata), _METADATA: dump_metadata(row.metadata), _DIGEST: row.digest}
    return {**dict.fromkeys(sorted(before - filed.keys())), **filed}


def _rows(ids: Sequence[str], texts: Sequence[str], metadata: Sequence[Any], vectors: Sequence[Any]) -> list[Row]:
    together = zip(ids, texts, metadata, vectors, strict=True)
    return [row_of(key, text, item[_METADATA], vector) for key, text, item, vector in together]


def _where(conditions: Sequence[Condition]) -> dict[str, Any] | None:
    compiled = [{item.facet: {_OPERATORS[item.operator]: item.operand}} for item in conditions]
    if len(compiled) < 2:
        return dict(compiled[0]) if compiled else None
    return {"$and": compiled}
