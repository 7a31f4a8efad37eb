"""Finding the nearest texts: exact top-k, BM25, fusion, vector stores."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m3e.retrieval.index import index_file as index_file
    from m3e.retrieval.searching import search as search
    from m3e.retrieval.stores import open_store as open_store

_HOMES = {
    "index_file": "m3e.retrieval.index",
    "open_store": "m3e.retrieval.stores",
    "search": "m3e.retrieval.searching",
}

__all__ = ["index_file", "open_store", "search"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'm3e.retrieval' has no attribute {name!r}")
