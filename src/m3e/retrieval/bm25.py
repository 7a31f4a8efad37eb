"""Lexical search: BM25 over jieba's words, traditional and simplified characters as one script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from m3e.errors import DataError, MissingExtraError, SettingsError
from m3e.files import read_json, write_json
from m3e.inference.words import words

Array = np.ndarray[Any, np.dtype[Any]]

K1 = 1.5
B = 0.75
_FACTS, _INDEX = "facts.json", "bm25s"


class Hit(NamedTuple):
    """A document that was found, and its BM25 score, above 0."""

    id: str
    score: float


class BM25:
    """An index of documents by their words, made with :meth:`build`.

    Scores are Lucene's BM25 (Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009), as bm25s
    computes them. A document without a word is in no index and never found.

    Attributes:
        ids: of the documents that can be found.
        empty: ids of the documents without a word.
    """

    def __init__(self, ids: list[str], empty: list[str], vocabulary: dict[str, int], index: Any) -> None:
        self.ids = ids
        self.empty = empty
        self._vocabulary = vocabulary
        self._index = index
        self._places = {identifier: row for row, identifier in enumerate(ids)}

    @classmethod
    def build(cls, texts: Iterable[str], ids: Iterable[object] | None = None, *, k1: float = K1, b: float = B) -> BM25:
        """The index of ``texts``.

        Args:
            texts: read once, so they may be a stream.
            ids: one a text, kept as strings; by default the texts' numbers from 0.
            k1: how slowly repeated words stop counting.
            b: how much long documents are held back, 0..1.

        Raises:
            DataError: two texts have one id, or texts and ids differ in number.
            SettingsError: ``k1`` or ``b`` lies outside its range.
            MissingExtraError: bm25s, jieba or OpenCC is not installed.
        """
        if k1 < 0 or not 0 <= b <= 1:
            raise SettingsError(f"k1 must be at least 0 and b lie in 0..1, not k1={k1} b={b}")
        vocabulary: dict[str, int] = {}
        rows: list[list[int]] = []
        kept: list[str] = []
        empty: list[str] = []
        for text, identifier in _pairs(texts, ids):
            found = [vocabulary.setdefault(word, len(vocabulary)) for word in words(text)]
            if found:
                rows.append(found)
                kept.append(identifier)
            else:
                empty.append(identifier)
        if len({*kept, *empty}) < len(kept) + len(empty):
            raise DataError("two documents have one id; ids are compared as strings")
        index = _bm25s().BM25(method="lucene", k1=k1, b=b)
        if rows:
            index.index((rows, vocabulary), create_empty_token=False, show_progress=False)
        return cls(kept, empty, vocabulary, index)

    def save(self, folder: Path) -> None:
        """Write the index into an existing folder, for :meth:`load`."""
        facts = {"ids": self.ids, "empty": self.empty, "vocabulary": list(self._vocabulary)}
        write_json(folder / _FACTS, facts)
        if self.ids:
            self._index.save(folder / _INDEX, show_progress=False)

    @classmethod
    def load(cls, folder: Path) -> BM25:
        """The index that :meth:`save` wrote."""
        facts = read_json(folder / _FACTS)
        kind = _bm25s().BM25
        index = kind.load(folder / _INDEX, load_vocab=False, show_progress=False) if facts["ids"] else kind()
        vocabulary = {word: number for number, word in enumerate(facts["vocabulary"])}
        return cls(facts["ids"], facts["empty"], vocabulary, index)

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """For each query its ``k`` best documents, best first, ties in the order of the index.

        Only documents that share a word with the query are found, so a list may be shorter than ``k``.
        """
        if k < 1:
            raise SettingsError(f"k must be at least 1, not {k}")
        return [[Hit(self.ids[row], float(score)) for row, score in self._best(query, k)] for query in queries]

    def scores(self, query: str, ids: Sequence[str]) -> list[float]:
        """The scores of chosen documents, at least 0; those without a word, or not in the index, get 0."""
        found = self._scores(query)
        places = (self._places.get(identifier) for identifier in ids)
        return [0.0 if found is None or place is None else float(found[place]) for place in places]

    def _best(self, query: str, k: int) -> Iterator[tuple[int, float]]:
        scores = self._scores(query)
        if scores is None:
            return
        rows = np.flatnonzero(scores)
        if len(rows) > k:
            least = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
            rows = rows[scores[rows] >= least]  # with all ties of the last, so that order decides among them
        best = rows[np.argsort(-scores[rows], kind="stable")[:k]]
        yield from zip(best.tolist(), scores[best].tolist(), strict=True)

    def _scores(self, query: str) -> Array | None:
        known = [self._vocabulary[word] for word in words(query) if word in self._vocabulary]
        return np.asarray(self._index.get_scores_from_ids(known)) if known else None


def _pairs(texts: Iterable[str], ids: Iterable[object] | None) -> Iterator[tuple[str, str]]:
    if ids is None:
        yield from ((text, str(number)) for number, text in enumerate(texts))
        return
    try:
        yield from ((text, str(identifier)) for text, identifier in zip(texts, ids, strict=True))
    except ValueError as error:
        raise DataError("there must be one id for each text") from error


def _bm25s() -> Any:
    try:
        import bm25s
    except ImportError as error:
        raise MissingExtraError("bm25s", "eval") from error
    return bm25s
