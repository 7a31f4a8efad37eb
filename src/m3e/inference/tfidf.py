"""TF-IDF vectors of a fixed dimension: the floor that every model must beat, for every kind of task.

Nothing is fitted: how rare a word is comes from the table that jieba ships, and each word is hashed to a few signed
places of the vector. So a text's vector never depends on other texts, and needs no training rows.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from statistics import median
from typing import Any

import numpy as np

from m3e.errors import DataError, SettingsError
from m3e.inference.encoder import Vectors, check_texts
from m3e.inference.words import words, words_version

DIMENSION = 1024
PLACES = 4
"""Places of the vector that each word adds to or takes from: a sparse random projection (Achlioptas, 2003)."""

_CHUNK = 512
_REMEMBERED = 1 << 18
_ENGLISH = "a an and are as at be by can for from have if in is it not of on or that the this to we which with you"
_STOPPED = frozenset(_ENGLISH.split())


class TfidfEncoder:
    """Encode texts by their words, without a model.

    A word that stands ``n`` times weighs ``1 + log(n)`` times its rarity. Vectors have length 1; a text
    without a word gets the zero vector.

    Args:
        dimension: numbers a vector.

    Attributes:
        cut: always 0; no text is too long.
    """

    def __init__(self, dimension: int = DIMENSION) -> None:
        if dimension < PLACES:
            raise SettingsError(f"dimension must be at least {PLACES}, not {dimension}")
        self.dimension = dimension
        self.cut = 0

    @property
    def name(self) -> str:
        """The model's name in results."""
        return "tfidf"

    @property
    def revision(self) -> str:
        """What the vectors depend on."""
        return f"{words_version()}-{self.dimension}"

    @property
    def has_prompts(self) -> bool:
        """Whether anything is put before texts: never."""
        return False

    @property
    def has_both_prompts(self) -> bool:
        """Whether queries and documents are encoded differently: never."""
        return False

    def encode(self, texts: Sequence[str], **_: Any) -> Vectors:
        """Vectors of shape (texts, dimension), fp32, in the order of ``texts``.

        Raises:
            DataError: an item is not a string, named by its index.
            MissingExtraError: jieba or OpenCC is not installed.
        """
        check_texts(texts)
        parts = [self._encode(texts[start : start + _CHUNK]) for start in range(0, len(texts), _CHUNK)]
        return np.concatenate(parts) if parts else np.zeros((0, self.dimension), np.float32)

    def encode_query(self, texts: Sequence[str], **options: Any) -> Vectors:
        """:meth:`encode`: a query is a text like others."""
        return self.encode(texts, **options)

    def encode_document(self, texts: Sequence[str], **options: Any) -> Vectors:
        """:meth:`encode`: a document is a text like others."""
        return self.encode(texts, **options)

    def _encode(self, texts: Sequence[str]) -> Vectors:
        rows, hashes, weights = [], [], []
        for row, text in enumerate(texts):
            for hashed, weight in _features(text):
                rows.append(row)
                hashes.append(hashed)
                weights.append(weight)
        if not rows:
            return np.zeros((len(texts), self.dimension), np.float32)
        drawn = np.frombuffer(b"".join(hashes), "<u4").reshape(-1, PLACES)
        signs = np.where(drawn >> 31, 1.0, -1.0)
        flat = np.asarray(rows)[:, None] * self.dimension + (drawn & 0x7FFFFFFF) % self.dimension
        values = np.asarray(weights)[:, None] * signs
        size = len(texts) * self.dimension
        sums = np.bincount(flat.ravel(), values.ravel(), size).reshape(len(texts), self.dimension)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        return np.asarray(sums / np.where(norms > 0, norms, 1.0), dtype=np.float32)


def _features(text: str) -> Iterator[tuple[bytes, float]]:
    """The hashes and weights of a text's words."""
    rarity, unknown = _rarities()
    for word, count in Counter(word for word in words(text) if word not in _STOPPED).items():
        yield _hash(word), (1 + math.log(count)) * rarity.get(word, unknown)


@lru_cache(_REMEMBERED)
def _hash(word: str) -> bytes:
    return hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=4 * PLACES).digest()


@cache
def _rarities() -> tuple[dict[str, float], float]:
    """The inverse document frequencies of words that jieba ships, and their median for words that it lacks."""
    from importlib import resources

    text = resources.files("jieba.analyse").joinpath("idf.txt").read_text(encoding="utf-8")
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line)
    table = {word: float(value) for word, value in pairs}
    if not table:
        raise DataError("jieba's table of word frequencies is empty; install jieba again")
    return table, median(table.values())
