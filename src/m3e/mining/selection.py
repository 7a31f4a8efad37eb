"""Which of the passages found for some queries become negatives: arrays of shape (queries, found) in, numbers out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3e.mining.known import Hashes, Known, mixed, pair_hashes
from m3e.mining.options import MiningOptions

Mask = NDArray[np.bool_]
Scores = NDArray[np.float32]

_LAST = np.uint64(np.iinfo(np.uint64).max)


def may_be_ranked(known: Known, queries: Hashes, found: Hashes, absent: Mask) -> Mask:
    """Whether each passage found is one that counts: neither right for its query nor one that stands before it.

    Args:
        queries: the queries' keys, shape (queries,).
        found: the keys of what was found, best first, shape (queries, found).
        absent: where nothing was found.
    """
    own = np.broadcast_to(queries[:, None], found.shape)
    counts: Mask = ~(absent | (found == own) | _repeated(found) | known.positive(own, found))
    rows, columns = np.nonzero(counts)
    shared = known.sharing_an_answer(queries[rows], found[rows, columns])
    counts[rows[shared], columns[shared]] = False
    return counts


def _repeated(found: Hashes) -> Mask:
    """Whether an equal key stands before in the same row."""
    order = np.argsort(found, axis=1, kind="stable")
    ordered = np.take_along_axis(found, order, axis=1)
    again = np.zeros(found.shape, np.bool_)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.empty_like(again)
    np.put_along_axis(repeated, order, again, axis=1)
    return repeated


def in_ranks(counts: Mask, ranks: tuple[int, int]) -> Mask:
    """Those of the passages that count whose rank among these is in the range."""
    rank = np.cumsum(counts, axis=1) - 1
    return np.asarray(counts & (rank >= ranks[0]) & (rank < ranks[1]))


def bar_of_rank(scores: Scores, counts: Mask, rank: int) -> Scores:
    """Each query's score of the passage that is ``rank``-th (from 1) among those that count; −inf where fewer do."""
    reached = counts & (np.cumsum(counts, axis=1) == rank)
    return np.where(reached.any(axis=1), np.where(reached, scores, -np.inf).max(axis=1), -np.inf).astype(np.float32)


def within_scores(scores: Scores, allowed: Mask, lowest_positive: Scores, options: MiningOptions) -> Counter[str]:
    """Take from ``allowed`` what lies too near the positive, or outside the scores asked for; how many, by rule.

    The relative margin is a share of the positive's magnitude, so that it also lowers a bar below zero.
    """
    skipped: Counter[str] = Counter()
    bar = lowest_positive[:, None]
    rules = {
        "absolute_margin": None if options.absolute_margin is None else scores + options.absolute_margin > bar,
        "relative_margin": (
            None if options.relative_margin is None else scores > bar - np.abs(bar) * options.relative_margin
        ),
        "max_score": None if options.max_score is None else scores > options.max_score,
        "min_score": None if options.min_score is None else scores < options.min_score,
    }
    for rule, broken in rules.items():
        if broken is not None:
            skipped[rule] += int((allowed & broken).sum())
            allowed &= ~broken
    return skipped


def preferences(queries: Hashes, found: Hashes, options: MiningOptions) -> NDArray[np.uint64]:
    """The order in which passages are taken, lowest first: that of their scores, or one drawn by the seed alone."""
    if options.sampling == "top":
        return np.broadcast_to(np.arange(found.shape[1], dtype=np.uint64), found.shape)
    drawn = mixed(pair_hashes(queries[:, None], found) ^ mixed(np.array([options.seed], np.uint64)))
    return np.minimum(drawn, _LAST - np.uint64(1))


def choose(allowed: Mask, order: NDArray[np.uint64], count: int) -> NDArray[np.int64]:
    """The columns of up to ``count`` passages of each query, best score first; −1 behind them where there are fewer."""
    chosen = np.full((len(allowed), count), -1, np.int64)
    width = min(count, allowed.shape[1])
    if not width:
        return chosen
    places = np.where(allowed, order, _LAST)
    columns = np.argpartition(places, width - 1, axis=1)[:, :width]
    nothing = allowed.shape[1]
    columns = np.where(np.take_along_axis(allowed, columns, axis=1), columns, nothing)
    columns.sort(axis=1)
    chosen[:, :width] = np.where(columns == nothing, -1, columns)
    return chosen


def taken(values: NDArray[Any], columns: NDArray[np.int64], missing: Any) -> NDArray[Any]:
    """The values in the chosen columns, ``missing`` where a column is −1."""
    if not values.shape[1]:
        return np.full(columns.shape, missing, values.dtype)
    return np.where(columns < 0, missing, np.take_along_axis(values, np.maximum(columns, 0), axis=1))
