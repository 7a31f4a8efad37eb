"""Vector stores by URL."""

from __future__ import annotations

import importlib
from typing import cast

from m3e.errors import StoreError
from m3e.retrieval.stores.database import Database, Row
from m3e.retrieval.stores.identity import StoreModel, model_of
from m3e.retrieval.stores.store import Hit, Store
from m3e.retrieval.stores.url import StoreUrl, no_store, parse_url
from m3e.retrieval.stores.writing import StoreWriter

__all__ = ["Database", "Hit", "Row", "Store", "StoreModel", "StoreUrl", "StoreWriter", "model_of", "open_store"]

_OPENERS = {
    "lance": "m3e.retrieval.stores.lance",
    "chroma": "m3e.retrieval.stores.chroma",
    "milvus": "m3e.retrieval.stores.milvus",
    "qdrant": "m3e.retrieval.stores.qdrant",
    "postgresql": "m3e.retrieval.stores.postgres",
}


def open_store(url: str, *, create: bool = False) -> Store:
    """The store at ``url``: a folder (LanceDB), ``chroma:``, ``milvus:``, ``qdrant:`` or ``postgresql://``.

    Args:
        url: ``#NAME`` or ``?collection=NAME`` at its end names one of several stores in a place.
        create: whether a store may be made there; without it nothing is written, and the store must exist.

    Raises:
        SettingsError: a URL that is not understood.
        StoreError: there is no store, the place holds something else, or a server does not answer.
        MissingExtraError: the database's client is not installed.
    """
    parsed = parse_url(url)
    opener = importlib.import_module(_OPENERS[parsed.scheme])
    store = Store(parsed, cast(Database, opener.open_database(parsed, create=create)))
    if not create and not store.exists:
        store.close()
        raise StoreError(no_store(parsed))
    return store
