"""All passages that a query may meet: those of its set, and those of a corpus beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3e.data.keys import is_blank
from m3e.errors import DataError
from m3e.files import atomic_folder, hash_file, hash_settings, read_json, read_marker, write_json, write_marker
from m3e.inference.texts import Texts, open_texts
from m3e.mining.embedding import mapped
from m3e.mining.known import mixed
from m3e.mining.texts import TextFile, exact_hashes, write_texts
from m3e.retrieval.exact import top_k
from m3e.retrieval.vector_folder import VectorFolder, VectorWriter

STEP = "mining corpus"
_TEXTS_AT_ONCE = 8192


@dataclass(frozen=True)
class Corpus:
    """Passages of a file.

    Attributes:
        name: of the file.
        sha256: of the file.
        blank: rows that were left out, since they hold nothing visible.
    """

    name: str
    sha256: str
    texts: TextFile
    blank: int


def read_corpus(path: Path, folder: Path, field: str | None = None) -> Corpus:
    """The different texts of a file, written to ``folder``; taken from there where they are there already.

    Raises:
        DataError: the file cannot be read, or has a row without a text; names it.
    """
    if not path.is_file():
        raise DataError(f"there is no corpus file {path}")
    digest = hash_file(path)
    inputs = hash_settings([digest, field])
    marker = read_marker(folder)
    if marker is None or marker["m3e"] != STEP or marker.get("inputs") != inputs:
        shutil.rmtree(folder, ignore_errors=True)
        source = open_texts(path, field)
        with atomic_folder(folder) as temporary:
            blank: list[int] = []
            texts = write_texts(_different(source, blank), temporary)
            write_json(temporary / "facts.json", {"texts": texts, "blank": sum(blank)})
            write_marker(temporary, STEP, inputs=inputs)
    facts = read_json(folder / "facts.json")
    return Corpus(path.name, digest, TextFile(folder, facts["texts"]), facts["blank"])


def _different(source: Texts, blank: list[int]) -> Iterator[list[str]]:
    """The texts that are not blank, each once, some thousand at a time."""
    hashes = [np.empty(0, np.uint64)]
    for texts in _parts(source):
        hashes.append(exact_hashes(texts))
        blank.append(sum(map(is_blank, texts)))
    first = np.zeros(sum(map(len, hashes)), np.bool_)
    first[np.unique(np.concatenate(hashes), return_index=True)[1]] = True
    start = 0
    for texts in _parts(source):
        wanted = first[start : start + len(texts)].tolist()
        start += len(texts)
        yield [text for text, chosen in zip(texts, wanted, strict=True) if chosen and not is_blank(text)]


def _parts(source: Texts) -> Iterator[list[str]]:
    part: list[str] = []
    for text in source:
        part.append(text)
        if len(part) == _TEXTS_AT_ONCE:
            yield part
            part = []
    if part:
        yield part


@dataclass(frozen=True)
class _Part:
    """Passages that are searched: their vectors, and the number of each among all passages."""

    vectors: VectorFolder
    numbers: NDArray[np.int64]


class Passages:
    """The passages of a set, numbered as in its rows, and behind them those of a corpus.

    Attributes:
        keys: of all passages.
        vectors: of the set's own.
    """

    def __init__(
        self, texts: TextFile, vectors: VectorFolder, corpus: TextFile | None, corpus_vectors: VectorFolder | None
    ) -> None:
        self.own = len(texts)
        self.vectors = mapped(vectors)
        self._files = [texts, *([corpus] if corpus is not None else [])]
        self._folders = [vectors, *([corpus_vectors] if corpus_vectors is not None else [])]
        self.keys: NDArray[np.uint64] = np.concatenate([file.keys for file in self._files])
        self._searched = self._parts(np.arange(len(self.keys)))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def digest(self) -> str:
        """Of all passages that are searched, and of their vectors."""
        return hash_settings([part.vectors.fingerprint for part in self._searched])

    @property
    def searched(self) -> int:
        """How many passages a search looks through."""
        return sum(len(part.numbers) for part in self._searched)

    def limit(self, count: int, seed: int, folder: Path) -> None:
        """Search only ``count`` of the passages from now on, drawn by the seed; ``folder`` gets their vectors."""
        if count >= len(self):
            return
        drawn = mixed(self.keys ^ mixed(np.array([seed], np.uint64)))
        numbers = np.sort(np.argpartition(drawn, count)[:count])
        parts = []
        for index, part in enumerate(self._parts(numbers)):
            writer = VectorWriter(
                folder / f"{index}",
                part.vectors.dimension,
                "fp32",
                hash_settings([part.vectors.fingerprint, count, seed, len(self)]),
            )
            source = mapped(part.vectors)
            rows = part.numbers - (self.own if part.vectors is not self._folders[0] else 0)
            for start in range(writer.rows, len(rows), _TEXTS_AT_ONCE):
                writer.append(source[rows[start : start + _TEXTS_AT_ONCE]])
            parts.append(replace(part, vectors=writer.finish()))
        self._searched = parts

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Cosines and numbers of each query's ``k`` nearest passages, best first."""
        scores, numbers = [], []
        for part in self._searched:
            found, rows = top_k(queries, part.vectors, k)
            scores.append(found)
            numbers.append(part.numbers[rows])
        if len(scores) == 1:
            return scores[0], numbers[0]
        joined, which = np.concatenate(scores, axis=1), np.concatenate(numbers, axis=1)
        order = np.argsort(-joined, axis=1, kind="stable")
        return np.take_along_axis(joined, order, axis=1), np.take_along_axis(which, order, axis=1)

    def texts(self, numbers: Sequence[Any] | NDArray[np.int64]) -> list[str]:
        """The texts of these numbers."""
        found: list[str] = []
        for number in map(int, numbers):
            found += self._files[0].take([number]) if number < self.own else self._files[1].take([number - self.own])
        return found

    def _parts(self, numbers: NDArray[np.int64]) -> list[_Part]:
        border = int(np.searchsorted(numbers, self.own))
        spans = [numbers[:border], numbers[border:]]
        return [_Part(folder, span) for folder, span in zip(self._folders, spans, strict=False) if len(span)]
