"""The BM25 index of a store's texts: made when it is first asked for, and anew after the store has changed."""

from __future__ import annotations

import os
import shutil
import weakref
from pathlib import Path

from m3e.files import atomic_folder, cache_folder, hash_settings, read_marker, write_marker
from m3e.inference.words import words_version
from m3e.retrieval.bm25 import BM25
from m3e.retrieval.stores.store import Store
from m3e.retrieval.stores.url import StoreUrl

KEPT_FROM = 2000
"""Documents from which on an index is kept on disk; of fewer it is made sooner than read."""

_STEP = "bm25"
_in_memory: weakref.WeakKeyDictionary[Store, tuple[str, BM25]] = weakref.WeakKeyDictionary()


def lexical_index(store: Store) -> BM25:
    """BM25 over the store's texts as they are now; ties go by id.

    All texts are held in memory while it is made. It is kept in m3e's cache folder, since a database may have no
    place for files.

    Raises:
        MissingExtraError: bm25s, jieba or OpenCC is not installed.
    """
    revision = store.revision
    known = _in_memory.get(store)
    if known is not None and known[0] == revision:
        return known[1]
    index = _read(store, revision) or _make(store, revision)
    _in_memory[store] = revision, index
    return index


def _make(store: Store, revision: str) -> BM25:
    documents = sorted(store.texts())
    index = BM25.build([text for _, text in documents], [identifier for identifier, _ in documents])
    if len(documents) >= KEPT_FROM:
        folder = _folder(store.url)
        shutil.rmtree(folder, ignore_errors=True)
        with atomic_folder(folder) as temporary:
            index.save(temporary)
            write_marker(temporary, _STEP, revision=revision, words=words_version())
    return index


def _read(store: Store, revision: str) -> BM25 | None:
    folder = _folder(store.url)
    marker = read_marker(folder)
    if marker is None or (marker["revision"], marker["words"]) != (revision, words_version()):
        return None
    return BM25.load(folder)


def _folder(url: StoreUrl) -> Path:
    place = url.place if url.is_server else os.path.realpath(url.place)
    return cache_folder() / _STEP / hash_settings([url.scheme, place, url.name])[:32]
