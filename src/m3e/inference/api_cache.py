"""Vectors that were paid for, on disk: a killed run, or another process, never pays for a text again."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from m3e.errors import DataError
from m3e.files import cache_folder

Vector = np.ndarray[Any, np.dtype[np.float32]]

_SCHEMA = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL, cut INTEGER NOT NULL)"
_KEYS_AT_ONCE = 500
_SECONDS_TO_WAIT = 60


class Answer(NamedTuple):
    """A text's vector, and whether the text had to be cut for it."""

    vector: Vector
    cut: bool


class VectorCache:
    """Answers of one server by what was asked, in one SQLite file.

    SQLite's own journal makes every :meth:`put` all or nothing, whoever is killed and however many write.

    Args:
        base_url: of the server.
        folder: where the files are; by default ``api`` in the cache folder.
    """

    def __init__(self, base_url: str, folder: Path | None = None) -> None:
        folder = folder or cache_folder() / "api"
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{hashlib.sha256(base_url.encode()).hexdigest()[:16]}.sqlite"
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(self.path, timeout=_SECONDS_TO_WAIT, check_same_thread=False)
            with self._connection:
                self._connection.execute(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    @staticmethod
    def key(settings: Sequence[str | int | None], text: str) -> bytes:
        """What an answer is found by: the model and what else decides its vectors, and the text with its prompt."""
        return hashlib.sha256(json.dumps([*settings, text]).encode()).digest()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """The answers that are here, by key."""
        found: dict[bytes, Answer] = {}
        with self._lock:
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                part = keys[start : start + _KEYS_AT_ONCE]
                marks = ",".join("?" * len(part))
                for key, vector, cut in self._run(f"SELECT key, vector, cut FROM vectors WHERE key IN ({marks})", part):
                    found[key] = Answer(np.frombuffer(vector, "<f4"), bool(cut))
        return found

    def put(self, answers: Mapping[bytes, Answer]) -> None:
        """Keep answers; when this returns they are on disk."""
        rows = [(key, answer.vector.astype("<f4").tobytes(), int(answer.cut)) for key, answer in answers.items()]
        with self._lock:
            try:
                with self._connection:
                    self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
            except sqlite3.DatabaseError as error:
                raise self._damaged(error) from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _run(self, query: str, values: Sequence[bytes]) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: sqlite3.DatabaseError) -> DataError:
        return DataError(f"the cache of answers {self.path} cannot be used ({error}); move it away or set M3E_CACHE")
