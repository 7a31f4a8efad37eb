"""What is known to belong together: no such passage is ever a negative."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from m3e.mining.rows import Lists, Rows

Hashes = NDArray[np.uint64]


def mixed(values: Hashes) -> Hashes:
    """Each number scrambled, one to one (the last steps of splitmix64; Steele et al., 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def pair_hashes(first: Hashes, second: Hashes) -> Hashes:
    """64 bits for each pair of keys, in this order; the arrays may broadcast."""
    return mixed(mixed(first) + np.uint64(0x9E3779B97F4A7C15) ^ second)


def is_among(values: NDArray[np.generic], ordered: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Whether each value is in a sorted array."""
    if not len(ordered):
        return np.zeros(values.shape, np.bool_)
    places = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[places] == values)


class Known:
    """All queries and their positives, by the keys of their texts, of one set or of many.

    A pair counts both ways, since a passage may be a query elsewhere.
    """

    def __init__(self, sets: Sequence[Rows]) -> None:
        empty = np.empty(0, np.uint64)
        pairs, queries, positives = [empty], [empty], [empty]
        for rows in sets:
            owners = rows.queries.keys[rows.answers.owners()]
            answers = rows.passages.keys[rows.answers.values]
            pairs += [pair_hashes(owners, answers), pair_hashes(answers, owners)]
            queries.append(owners)
            positives.append(answers)
        self._pairs = np.unique(np.concatenate(pairs))
        self._queries, self._answers = _by_query(np.concatenate(queries), np.concatenate(positives))

    @property
    def digest(self) -> str:
        """SHA-256 over all pairs."""
        return hashlib.sha256(self._pairs.tobytes()).hexdigest()

    def positive(self, queries: Hashes, passages: Hashes) -> NDArray[np.bool_]:
        """Whether the texts of each pair of keys are a query and its positive, or the other way round."""
        return is_among(pair_hashes(queries, passages), self._pairs)

    def sharing_an_answer(self, queries: Hashes, others: Hashes) -> NDArray[np.bool_]:
        """Whether two texts of each pair of keys, arrays of one shape (pairs), are queries with a common positive."""
        found = np.zeros(len(queries), np.bool_)
        both = np.flatnonzero(is_among(others, self._queries) & is_among(queries, self._queries))
        places = np.searchsorted(self._queries, queries[both])
        lengths = self._answers.lengths[places]
        owners = np.repeat(both, lengths)
        offsets = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        answers = self._answers_of[np.repeat(self._answers.starts[places], lengths) + offsets]
        shared = self.positive(others[owners], answers)
        found[owners[shared]] = True
        return found

    @property
    def _answers_of(self) -> Hashes:
        return self._answers.values.view(np.uint64)


def given_pairs(sets: Iterable[Rows]) -> Hashes:
    """Sorted pair hashes of all queries and the negatives that their rows have already."""
    pairs = [np.empty(0, np.uint64)]
    for rows in sets:
        owners = rows.queries.keys[np.repeat(rows.query, rows.negatives.lengths)]
        pairs.append(pair_hashes(owners, rows.passages.keys[rows.negatives.values]))
    return np.unique(np.concatenate(pairs))


def _by_query(queries: Hashes, positives: Hashes) -> tuple[Hashes, Lists]:
    """The different queries, sorted, and each one's positives (as bits of signed numbers)."""
    order = np.argsort(queries, kind="stable")
    different, counts = np.unique(queries, return_counts=True)
    return different, Lists(np.cumsum(counts), positives[order].view(np.int64))
