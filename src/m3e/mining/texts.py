"""Different texts on disk, by their numbers: as many as the disk holds, in little memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3e.data.keys import hashes_of_keys, text_keys

_RAW, _ENDS, _KEYS = "texts.bin", "ends.npy", "keys.npy"


class TextFile:
    """Texts in a folder that :func:`write_texts` wrote.

    Attributes:
        keys: 64 bits of each text's key: what is equal in it is called the same text.
        digest: SHA-256 over the texts.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self.digest = digest
        self.keys: NDArray[np.uint64] = np.load(folder / _KEYS, mmap_mode="r")
        # as plain arrays, whose single items come sooner
        self._ends: NDArray[np.int64] = np.asarray(np.load(folder / _ENDS, mmap_mode="r"))
        raw = folder / _RAW
        mapped = np.memmap(raw, np.uint8, "r") if raw.stat().st_size else np.empty(0, np.uint8)
        self._raw: NDArray[np.uint8] = np.asarray(mapped)

    def __len__(self) -> int:
        return len(self._ends)

    def slice(self, start: int, stop: int) -> list[str]:
        """The texts from number ``start`` to before ``stop``."""
        return self.take(range(start, min(stop, len(self))))

    def take(self, numbers: Iterable[Any]) -> list[str]:
        """The texts of these numbers."""
        return [self._text(int(number)) for number in numbers]

    def _text(self, number: int) -> str:
        start = int(self._ends[number - 1]) if number else 0
        return self._raw[start : int(self._ends[number])].tobytes().decode("utf-8", "surrogatepass")


def exact_hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    """64 bits of each text's hash, as typed."""
    return hashes_of_keys(texts)


def write_texts(parts: Iterable[Sequence[str]], folder: Path) -> str:
    """Write texts to an existing folder, part by part; a SHA-256 over them all."""
    ends, keys = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    digest = hashlib.sha256()
    total = 0
    with (folder / _RAW).open("wb") as stream:
        for texts in parts:
            encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
            lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
            stream.write(b"".join(encoded))
            ends.append(total + np.cumsum(lengths))
            total += int(lengths.sum())
            keys.append(hashes_of_keys(text_keys(texts)))
            digest.update(exact_hashes(texts).tobytes())
    np.save(folder / _ENDS, np.concatenate(ends))
    np.save(folder / _KEYS, np.concatenate(keys))
    return digest.hexdigest()
