"""Vectors of finished chunks, beside the output that they will make, so that a killed run goes on.

A chunk's file is named by the hash of its texts, and the folder's marker holds everything else that decides
the bytes: a chunk is found again only where the same texts would give the same vectors.
"""

from __future__ import annotations

import contextlib
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m3e.errors import SettingsError
from m3e.files import atomic_file, read_marker, write_marker
from m3e.inference.encoder import Vectors

STEP = "encode"
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class EncodedChunk:
    """The vectors of a chunk's texts, and how many of these were cut to the model's length."""

    digest: str
    vectors: Vectors
    cut: int


class ChunkStore:
    """The chunks that are finished of one output file.

    Args:
        out: the output file; the folder lies beside it.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.with_name(f".{out.name}.parts")

    def marker(self) -> dict[str, Any] | None:
        """What an earlier run wrote down about its settings, or ``None``."""
        marker = read_marker(self.folder)
        return marker if marker is not None and marker["m3e"] == STEP else None

    def begin(self, facts: dict[str, Any]) -> bool:
        """Make the folder ready for a run with these settings; whether chunks of others had to be removed.

        Raises:
            SettingsError: the folder cannot be written.
        """
        marker = self.marker()
        if marker is not None and {key: marker.get(key) for key in facts} == facts:
            return False
        with self.named_errors():
            removed = self.folder.exists()
            if removed:
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True)
            write_marker(self.folder, STEP, **facts)
        return removed

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs from writing the same output; at the end a folder without chunks goes.

        Raises:
            SettingsError: one is doing so already.
        """
        try:
            import fcntl
        except ImportError:  # Windows has no advisory locks
            with self._removed_if_empty():
                yield
            return
        path = self.out.with_name(f".{self.out.name}.lock")
        with self.named_errors():
            stream = path.open("w")
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise SettingsError(f"another m3e encode is writing {self.out}; wait for it or stop it") from error
            try:
                with self._removed_if_empty():
                    yield
            finally:
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _removed_if_empty(self) -> Iterator[None]:
        try:
            yield
        finally:
            if not self.size():
                self.remove()

    def put(self, chunk: EncodedChunk) -> None:
        """Keep a chunk.

        Raises:
            SettingsError: it cannot be written.
        """
        from safetensors.numpy import save

        vectors = np.ascontiguousarray(chunk.vectors, dtype=np.float32)
        facts = {"cut": str(chunk.cut), "crc32": str(zlib.crc32(vectors.data))}
        data = save({"vectors": vectors}, metadata=facts)
        with self.named_errors(), atomic_file(self._path(chunk.digest)) as temporary:
            temporary.write_bytes(data)

    def get(self, digest: str) -> EncodedChunk | None:
        """The chunk of these texts, or ``None`` where it is not finished, or its file is damaged."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._path(digest), framework="numpy") as file:
                facts, vectors = file.metadata(), file.get_tensor("vectors")
            if int(facts["crc32"]) == zlib.crc32(vectors.data):
                return EncodedChunk(digest, vectors, int(facts["cut"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):  # as a power failure leaves it
            pass
        return None

    def size(self) -> int:
        """Bytes of all chunks."""
        return sum(path.stat().st_size for path in self.folder.glob(f"*{_SUFFIX}"))

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turn what the disk refuses into one line that says what was kept."""
        try:
            yield
        except OSError as error:
            kept = len(list(self.folder.glob(f"*{_SUFFIX}"))) if self.folder.is_dir() else 0
            rest = f"; {kept} finished chunks are kept, and the same command goes on from them" if kept else ""
            reason = error.strerror or str(error)
            raise SettingsError(
                f"{self.out} cannot be written: {reason}; free or choose another place{rest}"
            ) from error

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}{_SUFFIX}"
