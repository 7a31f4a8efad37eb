"""The best documents so far of every query, in one array of integers.

A score and a row make one 64-bit integer that sorts by the score and, where scores are equal, puts the lower row
first: so partitions and sorts of plain integers keep the right documents, ties included.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

NOTHING = np.iinfo(np.int64).min
MOST_ROWS = 2**32 - 1


def encode(scores: Array, rows: Array) -> Array:
    """Integers that sort like (score, −row)."""
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.int32)  # + 0: minus zero ties with zero
    ordered = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    return np.asarray((ordered.astype(np.int64) << 32) | (MOST_ROWS - rows.astype(np.int64)))


def decode(keys: Array) -> tuple[Array, Array]:
    """The scores (fp32) and rows (int64) of integers."""
    ordered = (keys >> 32).astype(np.int32)
    bits = ordered ^ ((ordered >> 31) & np.int32(0x7FFFFFFF))
    return bits.view(np.float32), MOST_ROWS - (keys & MOST_ROWS)


class RunningTop:
    """The ``k`` best of all documents added so far, for each of some queries.

    Attributes:
        keys: shape (queries, width): documents as :func:`encode` gives them, in no order.
        floor: each query's k-th best score, or a lower bound of it; −inf as long as nothing is known.
    """

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        self.keys = np.full((queries, 2 * k + 256), NOTHING, dtype=np.int64)
        self.count = np.zeros(queries, dtype=np.int64)
        self.floor = np.full(queries, -np.inf, dtype=np.float32)
        self._added = np.zeros(queries, dtype=np.int64)

    def add(self, queries: Array, keys: Array, first: int, last: int) -> None:
        """Add documents, sorted by query; all queries lie in ``first`` to ``last``."""
        width = self.keys.shape[1]
        while len(queries):
            new = np.bincount(queries - first, minlength=last - first)
            place = np.arange(len(queries)) - np.repeat(np.cumsum(new) - new, new) + self.count[queries]
            fits = place < width
            self.keys[queries[fits], place[fits]] = keys[fits]
            self.count[first:last] = np.minimum(self.count[first:last] + new, width)
            self._added[first:last] += new
            if fits.all():
                break
            self.trim(first, last)
            queries, keys = queries[~fits], keys[~fits]
        if self._added[first:last].sum() > 0.25 * self.k * (last - first):
            self.trim(first, last)

    def trim(self, first: int, last: int) -> None:
        """Keep the best ``k`` of each query and raise the floors."""
        self._added[first:last] = 0
        used = int(self.count[first:last].max(initial=0))
        if used < self.k:
            return
        part = self.keys[first:last, :used]
        best = np.partition(part, used - self.k, axis=1)[:, used - self.k :]
        short = best[:, 0] == NOTHING  # fewer than k documents yet: they go to the front again
        best[short] = np.sort(best[short], axis=1)[:, ::-1]
        part[:, : self.k] = best
        part[:, self.k :] = NOTHING
        self.count[first:last] = np.minimum(self.count[first:last], self.k)
        floor = self.floor[first:last]
        floor[~short] = np.fmax(decode(best[~short, 0])[0], floor[~short])

    def state(self) -> tuple[Array, Array]:
        """The best ``k`` of each query so far, and the floors; :meth:`restore` takes them."""
        self.trim(0, len(self.keys))
        return self.keys[:, : self.k], self.floor

    def restore(self, keys: Array, floor: Array) -> None:
        """Go on from a state."""
        self.keys[:, : self.k] = keys
        self.floor[:] = floor
        self.count[:] = np.count_nonzero(keys != NOTHING, axis=1)

    def best(self) -> tuple[Array, Array]:
        """Scores and rows, best first; every query must have been given at least ``k`` documents."""
        self.trim(0, len(self.keys))
        return decode(np.sort(self.keys[:, : self.k], axis=1)[:, ::-1])
