"""What a search has found so far, on disk, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from m3e.files import atomic_file, check_output_folder, hash_settings, read_marker, write_marker
from m3e.retrieval.running import RunningTop
from m3e.retrieval.vector_folder import VectorFolder

Array = np.ndarray[Any, np.dtype[Any]]

STEP = "search"
_RUNNING = "running.npz"


class Checkpoint:
    """A folder with the results of finished query blocks and the state of the running one."""

    def __init__(self, folder: Path, save_every: float) -> None:
        self.folder = folder
        self.save_every = save_every
        self._saved = time.monotonic()

    @classmethod
    def begin(
        cls, folder: Path, queries: Array, corpus: Array | VectorFolder, settings: tuple[int, ...], save_every: float
    ) -> Checkpoint:
        """The checkpoint of this search: what the same search left in ``folder`` stays, another's goes.

        Raises:
            OutputExistsError: the folder holds files that no search wrote.
        """
        check_output_folder(folder, overwrite=False, step=STEP)
        identity = hash_settings([_hash(queries), _hash(corpus), list(settings)])
        marker = read_marker(folder)
        if marker is None or marker.get("search") != identity:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_marker(folder, STEP, search=identity)
        return cls(folder, save_every)

    def finished(self, number: int) -> tuple[Array, Array] | None:
        """Scores and rows of a finished query block."""
        path = self._path(number)
        if not path.exists():
            return None
        with np.load(path) as found:
            return found["scores"], found["rows"]

    def finish(self, number: int, found: tuple[Array, Array]) -> None:
        """Keep the result of a query block; its running state goes."""
        _write(self._path(number), scores=found[0], rows=found[1])
        (self.folder / _RUNNING).unlink(missing_ok=True)

    def restore(self, number: int, top: RunningTop) -> int:
        """Fill ``top`` with the running state of a query block; the document to go on from, 0 without a state."""
        path = self.folder / _RUNNING
        if not path.exists():
            return 0
        with np.load(path) as state:
            if int(state["number"]) != number:
                return 0
            top.restore(state["keys"], state["floor"])
            return int(state["next"])

    def save(self, number: int, top: RunningTop, following: int) -> None:
        """Keep the running state, where the last time is long enough ago."""
        if time.monotonic() - self._saved < self.save_every:
            return
        keys, floor = top.state()
        _write(self.folder / _RUNNING, number=number, next=following, keys=keys, floor=floor)
        self._saved = time.monotonic()

    def _path(self, number: int) -> Path:
        return self.folder / f"queries-{number:06d}.npz"


def _write(path: Path, **arrays: Any) -> None:
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def _hash(vectors: Array | VectorFolder) -> str:
    if isinstance(vectors, VectorFolder):
        facts = (vectors.fingerprint, vectors.rows, vectors.dimension, vectors.dtype, vectors.longest)
        return hash_settings([str(fact) for fact in facts])
    digest = hashlib.sha256(f"{vectors.dtype}{vectors.shape}".encode())
    for start in range(0, len(vectors), 65_536):
        digest.update(np.ascontiguousarray(vectors[start : start + 65_536]).tobytes())
    return digest.hexdigest()
