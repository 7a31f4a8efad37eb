"""A Bloom filter of text keys: a small file that can say whether a model or a data folder has seen a text."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m3e.data.keys import hashes_of_keys, text_keys
from m3e.errors import DataError
from m3e.files import atomic_file

FILE_NAME = "texts.bloom"
BITS_A_TEXT = 10
_MAGIC = b"M3E-BLOOM-1\n"
_PROBES = 7  # the best number for ten bits a text: 0.8 % of texts never seen are taken for seen


class TextFilter:
    """A set of text keys that forgets nothing and now and then recognises what it never saw (Bloom, 1970).

    Attributes:
        texts: how many keys were added, repeated ones included.
        others: filters of other sizes, which cannot be one with this: what any of them has seen was seen.
    """

    def __init__(self, capacity: int) -> None:
        self.bits = np.zeros(max(1, math.ceil(capacity * BITS_A_TEXT / 8)), np.uint8)
        self.texts = 0
        self.others: tuple[TextFilter, ...] = ()

    @classmethod
    def union(cls, filters: Sequence[TextFilter]) -> TextFilter:
        """The filter of the texts of all filters; the same one is taken once.

        Each part takes about one in a hundred texts that it never saw for seen, so the parts together take more.
        """
        parts: list[TextFilter] = []
        for part in (part for each in filters for part in each.parts):
            if not any(np.array_equal(part.bits, known.bits) for known in parts):
                parts.append(part)
        if not parts:
            return cls(0)
        whole = parts[0]._alone()
        whole.others = tuple(part._alone() for part in parts[1:])
        return whole

    @property
    def parts(self) -> tuple[TextFilter, ...]:
        """This filter and the others."""
        return (self, *self.others)

    @property
    def all_texts(self) -> int:
        """How many keys were added to all parts."""
        return sum(part.texts for part in self.parts)

    def add_hashes(self, hashes: NDArray[np.uint64]) -> None:
        """Add keys by :func:`~m3e.data.keys.hash_of_key`."""
        self.texts += len(hashes)
        for places in self._places(hashes):
            np.bitwise_or.at(self.bits, places >> 3, np.left_shift(1, places & 7).astype(np.uint8))

    def has_hashes(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Whether each key was, with near certainty, added."""
        seen = np.ones(len(hashes), np.bool_)
        for places in self._places(hashes):
            seen &= (self.bits[places >> 3] >> (places & 7).astype(np.uint8)) & 1 == 1
        for other in self.others:
            seen |= other.has_hashes(hashes)
        return seen

    def has(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each text, under its key, was added."""
        return self.has_hashes(hashes_of_keys(text_keys(texts)))

    def save(self, path: Path) -> None:
        """Write the filter, atomically."""
        with atomic_file(path) as temporary, temporary.open("wb") as stream:
            for part in self.parts:
                header = json.dumps({"texts": part.texts, "bytes": len(part.bits), "probes": _PROBES}).encode()
                stream.write(_MAGIC + header + b"\n" + part.bits.tobytes())

    @classmethod
    def load(cls, path: Path) -> TextFilter:
        """The filter in a file.

        Raises:
            DataError: the file is missing, is another thing, or is cut off.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        if not content.startswith(_MAGIC):
            raise DataError(f"{path} is no filter of texts; expected a {FILE_NAME} that m3e data prepare wrote")
        parts: list[TextFilter] = []
        while content:
            part, content = cls._read_part(content, path)
            parts.append(part)
        whole, *others = parts
        whole.others = tuple(others)
        return whole

    @classmethod
    def _read_part(cls, content: bytes, path: Path) -> tuple[TextFilter, bytes]:
        """The first part of a file's content, and the rest."""
        head, _, rest = content[len(_MAGIC) :].partition(b"\n")
        try:
            header = json.loads(head)
            texts, size, probes = (int(header[name]) for name in ("texts", "bytes", "probes"))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged: its header cannot be read") from error
        bits, rest = rest[:size], rest[size:]
        if not bits or len(bits) != size or probes != _PROBES or not (rest.startswith(_MAGIC) or not rest):
            found = len(bits) + (0 if rest.startswith(_MAGIC) else len(rest))
            raise DataError(f"{path} is damaged: {found} bytes and {probes} probes, not {size} and {_PROBES}")
        part = cls(0)
        part.bits = np.frombuffer(bits, np.uint8).copy()
        part.texts = texts
        return part, rest

    def _alone(self) -> TextFilter:
        alone = TextFilter(0)
        alone.bits, alone.texts = self.bits, self.texts
        return alone

    def _places(self, hashes: NDArray[np.uint64]) -> list[NDArray[np.int64]]:
        """The bits of each key, probe by probe: two hashes give all (Kirsch and Mitzenmacher, 2006)."""
        size = np.uint64(len(self.bits) * 8)
        first, second = hashes >> np.uint64(32), (hashes & np.uint64(0xFFFFFFFF)) | np.uint64(1)
        return [((first + np.uint64(probe) * second) % size).astype(np.int64) for probe in range(_PROBES)]
