"""Rows of one data set dealt into batches of a fixed size, so that no text stands twice in a batch.

Rows that share a text are dealt like cards: one after the other to different batches, which keeps any text that occurs
no more often than there are batches apart from itself. What still collides, because a row shares one text with these
rows and another with those, changes places with rows whose texts occur nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.uint32]
Integers = NDArray[np.int64]

_ROUNDS_WITHOUT_PROGRESS = 6
_NONE = -1


def deal(keys: NDArray[np.int64], size: int, random: np.random.Generator) -> Rows:
    """Row numbers of shape (batches, ``size``): as many full batches as were found, every row in at most one.

    Args:
        keys: of shape (rows, texts a row): equal where texts are equal, 0 for no text.
        size: rows a batch.
    """
    texts = _SharedTexts.of(keys)
    order, groups = _shuffled(texts, len(keys), random)
    batches = _most_batches(groups, len(keys) - len(texts.rows), size)
    if batches == 0:
        return np.empty((0, size), np.uint32)
    return _Table(texts, order, groups, batches, size, random).filled()


@dataclass(frozen=True)
class _SharedTexts:
    """Rows that have a text in common with another row.

    Attributes:
        rows: their numbers.
        codes: of shape (rows, texts a row): which shared text, -1 where the text is no other row's.
        dominant: the most frequent shared text of each.
        place: of every row of the set, where it stands in ``rows``; -1 for the others.
    """

    rows: Integers
    codes: Integers
    dominant: Integers
    place: NDArray[np.int32]

    @classmethod
    def of(cls, keys: NDArray[np.int64]) -> _SharedTexts:
        keys = _without_repeats(keys)
        ordered = np.sort(keys, axis=None)
        repeated = np.unique(ordered[1:][(ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)])
        del ordered
        shared = np.zeros(len(keys), np.bool_)
        for column in keys.T:
            shared |= _find(repeated, column) != _NONE
        rows = np.flatnonzero(shared)
        codes = np.stack([_find(repeated, column) for column in keys[rows].T], axis=1)
        counts = np.bincount(codes[codes != _NONE], minlength=1)
        frequency = np.where(codes == _NONE, 0, counts[codes])
        dominant = np.take_along_axis(codes, frequency.argmax(axis=1)[:, None], axis=1)[:, 0]
        place = np.full(len(keys), _NONE, np.int32)
        place[rows] = np.arange(len(rows))
        return cls(rows, codes, dominant, place)


def _without_repeats(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same keys, each once a row."""
    if keys.shape[1] == 2:
        repeats = keys[:, 0] == keys[:, 1]
        if not repeats.any():
            return keys
        keys = keys.copy()
        keys[repeats, 1] = 0
        return keys
    keys = np.sort(keys, axis=1)
    keys[:, 1:][keys[:, 1:] == keys[:, :-1]] = 0
    return keys


def _find(ordered: NDArray[np.int64], values: NDArray[np.int64]) -> Integers:
    """Where in a sorted array each value stands, -1 where it does not."""
    if not len(ordered):
        return np.full(len(values), _NONE)
    places = np.searchsorted(ordered, values)
    places[places == len(ordered)] = 0
    return np.where(ordered[places] == values, places, _NONE)


def _shuffled(texts: _SharedTexts, count: int, random: np.random.Generator) -> tuple[Integers, Integers]:
    """All rows, those that share a text side by side, otherwise in random order; and how many share each text.

    Groups come first and in random order; rows that share nothing follow.
    """
    shuffled = random.permutation(len(texts.rows))
    rank = random.permutation(int(texts.dominant.max(initial=-1)) + 1)
    groups = rank[texts.dominant[shuffled]]
    by_group = shuffled[np.argsort(groups, kind="stable")]
    alone = random.permutation(np.flatnonzero(texts.place == _NONE))
    sizes = np.bincount(groups, minlength=1)
    return np.concatenate([texts.rows[by_group], alone]), sizes[sizes > 0]


def _most_batches(groups: Integers, alone: int, size: int) -> int:
    """The most batches that can be filled where a batch takes at most one row of each group."""

    def enough(batches: int) -> bool:
        return alone + int(np.minimum(groups, batches).sum()) >= batches * size

    low, high = 0, (alone + int(groups.sum())) // size
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if enough(middle) else (low, middle - 1)
    return low


class _Table:
    """Batches while rows still change places.

    Attributes:
        rows: of shape (batches, size); -1 in a hole.
        pool: rows that have no place.
        alone: how many of each batch's last places hold rows that share no text.
    """

    def __init__(
        self,
        texts: _SharedTexts,
        order: Integers,
        groups: Integers,
        batches: int,
        size: int,
        random: np.random.Generator,
    ) -> None:
        self.texts, self.random, self.size = texts, random, size
        # of a group larger than the number of batches, the rest cannot be placed beside it
        within = np.arange(len(texts.rows)) - np.repeat(np.cumsum(groups) - groups, groups)
        fits = np.concatenate([within < batches, np.ones(len(order) - len(texts.rows), np.bool_)])
        ordered = order[fits]
        self.rows = ordered[: batches * size].reshape(size, batches).T.copy()
        self.pool = np.concatenate([order[~fits], ordered[batches * size :]])
        self.open = np.ones(batches, np.bool_)
        self._remove_collisions()
        shared = self._place_of(self.rows) != _NONE
        self.alone = np.where(shared.any(axis=1), shared[:, ::-1].argmax(axis=1), size)
        holes = self.rows == _NONE
        # a hole among the last places would be taken for a row
        self.alone = np.minimum(self.alone, np.where(holes.any(axis=1), holes[:, ::-1].argmax(axis=1), size))

    def _place_of(self, rows: NDArray[Any]) -> NDArray[np.int32]:
        found = self.texts.place[rows]
        return np.where(rows == _NONE, _NONE, found)

    def _remove_collisions(self) -> None:
        """Make holes of rows that share a text with a row placed before them in their batch."""
        batches = len(self.rows)
        place = self._place_of(self.rows)
        batch, slot = np.nonzero(place != _NONE)
        codes = self.texts.codes[place[batch, slot]]
        pairs = np.where(codes == _NONE, _NONE, codes * batches + batch[:, None])
        flat = pairs.ravel()
        used = np.flatnonzero(flat != _NONE)
        used = used[np.argsort(flat[used], kind="stable")]
        ordered = flat[used]
        repeats = used[1:][ordered[1:] == ordered[:-1]]
        gone = np.zeros(len(batch), np.bool_)
        gone[repeats // pairs.shape[1]] = True
        self.pool = np.concatenate([self.rows[batch[gone], slot[gone]], self.pool])
        self.rows[batch[gone], slot[gone]] = _NONE
        self.taken = np.sort(pairs[~gone].ravel())
        self.added = np.empty(0, np.int64)

    def filled(self) -> Rows:
        """The batches without holes: where rows cannot fill them, a batch is given up to fill others."""
        given_up = 1
        while True:
            self._repair()
            holes = (self.rows == _NONE).sum(axis=1) * self.open
            if not holes.any():
                break
            count = max(given_up, int(holes.sum()) // self.size)
            worst = np.argsort(-holes, kind="stable")[: min(count, int(self.open.sum()))]
            worst = worst[self.open[worst]]
            rows = self.rows[worst]
            self.open[worst] = False
            self.pool = np.concatenate([self.pool, rows[rows != _NONE]])
            given_up *= 2
        kept = self.rows[self.open]
        return self.random.permuted(kept, axis=1).astype(np.uint32)

    def _repair(self) -> None:
        """Fill holes from the pool until rounds in a row have filled none."""
        idle = turn = 0
        while idle < _ROUNDS_WITHOUT_PROGRESS:
            batch, slot = np.nonzero((self.rows == _NONE) & self.open[:, None])
            if not len(batch) or not len(self.pool):
                return
            self._fill_with_rows_alone(batch, slot)
            batch, slot = np.nonzero((self.rows == _NONE) & self.open[:, None])
            if not len(batch):
                return
            filled = self._fill_directly(batch, slot) if turn % 2 == 0 else self._fill_by_exchange(batch, slot)
            idle = 0 if filled else idle + 1
            turn += 1

    def _fill_with_rows_alone(self, batch: Integers, slot: Integers) -> None:
        """Rows that share no text fit into any hole."""
        free = np.flatnonzero(self.texts.place[self.pool] == _NONE)[: len(batch)]
        self.rows[batch[: len(free)], slot[: len(free)]] = self.pool[free]
        self.pool = np.delete(self.pool, free)

    def _fill_directly(self, batch: Integers, slot: Integers) -> int:
        """Rows of the pool into holes of batches that lack their texts; how many."""
        count = min(len(batch), len(self.pool))
        holes = self.random.permutation(len(batch))[:count]
        rows = self.random.permutation(len(self.pool))[:count]
        good = self._accepted(self.pool[rows], batch[holes])
        self.rows[batch[holes[good]], slot[holes[good]]] = self.pool[rows[good]]
        self.pool = np.delete(self.pool, rows[good])
        return int(good.sum())

    def _fill_by_exchange(self, batch: Integers, slot: Integers) -> int:
        """A row of the pool takes the place of a row that shares nothing, which goes into a hole; how many."""
        with_room = self.random.permutation(np.flatnonzero((self.alone > 0) & self.open))
        count = min(len(batch), len(self.pool), len(with_room))
        target = with_room[:count]
        rows = self.random.permutation(len(self.pool))[:count]
        good = self._accepted(self.pool[rows], target)
        target, rows = target[good], rows[good]
        last = self.size - self.alone[target]
        moved = self.rows[target, last]
        self.rows[target, last] = self.pool[rows]
        self.alone[target] -= 1
        holes = self.random.permutation(len(batch))[: len(target)]
        self.rows[batch[holes], slot[holes]] = moved
        self.pool = np.delete(self.pool, rows)
        return len(target)

    def _accepted(self, rows: Integers, batch: Integers) -> NDArray[np.bool_]:
        """Which rows' texts are neither in the batch proposed to them nor proposed to it by a row before them."""
        codes = self.texts.codes[self.texts.place[rows]]
        pairs = np.where(codes == _NONE, _NONE, codes * len(self.rows) + batch[:, None])
        known: NDArray[np.bool_] = (_find(self.taken, pairs.ravel()) != _NONE) | (
            _find(self.added, pairs.ravel()) != _NONE
        )
        good: NDArray[np.bool_] = ~(known.reshape(pairs.shape) & (pairs != _NONE)).any(axis=1)
        flat = pairs.ravel()
        usable = np.flatnonzero((flat != _NONE) & np.repeat(good, pairs.shape[1]))
        usable = usable[np.argsort(flat[usable], kind="stable")]
        ordered = flat[usable]
        good[usable[1:][ordered[1:] == ordered[:-1]] // pairs.shape[1]] = False
        self.added = np.sort(np.concatenate([self.added, pairs[good].ravel()]))
        return good
