"""Confidence intervals of scores and p-values of differences: the percentile bootstrap and sign flips, seeded.

A resample is a vector of counts (how often each item was drawn), so ranks and curves are
computed by cumulative sums over items that are sorted once, not by sorting every resample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Interval = tuple[float, float]
Statistic = Callable[[Array], Array]
"""From counts of shape (resamples, items) to one value a resample."""

RESAMPLES = 1000
PERMUTATIONS = 10_000
SEED = 42
_ELEMENTS_AT_ONCE = 2_000_000
_SIGNS_AT_ONCE = 4_000_000


def mean_interval(values: Sequence[float]) -> Interval | None:
    """The 95 % interval of the mean of ``values``; ``None`` for fewer than two."""
    return _interval(len(values), mean_statistic(values))


def spearman_interval(left: Sequence[float], right: Sequence[float]) -> Interval | None:
    """The 95 % interval of Spearman's correlation, pairs resampled; ``None`` for fewer than two pairs."""
    return _interval(len(left), spearman_statistic(left, right))


def best_pair_interval(similarities: Sequence[Sequence[float]], labels: Sequence[int], metric: str) -> Interval | None:
    """The 95 % interval of the best ``metric`` over several similarities, pairs resampled.

    Args: as :func:`best_pair_statistic`.
    """
    return _interval(len(labels), best_pair_statistic(similarities, labels, metric))


def mean_statistic(values: Sequence[float]) -> Statistic:
    """The mean of ``values``."""
    items = np.asarray(values, dtype=np.float64)
    return lambda counts: np.asarray(counts @ items / len(items))


def spearman_statistic(left: Sequence[float], right: Sequence[float]) -> Statistic:
    """Spearman's correlation; NaN where one side is constant."""
    ranks_left, ranks_right = _Ranks(left), _Ranks(right)

    def correlation(counts: Array) -> Array:
        x, y = ranks_left.centred(counts), ranks_right.centred(counts)
        covariance = np.sum(counts * x * y, axis=1)
        scale = np.sqrt(np.sum(counts * x * x, axis=1) * np.sum(counts * y * y, axis=1))
        return np.asarray(np.divide(covariance, scale, out=np.full_like(scale, np.nan), where=scale > 0))

    return correlation


def best_pair_statistic(similarities: Sequence[Sequence[float]], labels: Sequence[int], metric: str) -> Statistic:
    """The best ``metric`` over several similarities.

    Args:
        similarities: one sequence a similarity function, higher is more alike.
        labels: 0 or 1 a pair.
        metric: ``accuracy`` (at the best threshold) or ``ap`` (average precision).
    """
    curves = [_Curve(scores, labels) for scores in similarities]
    return lambda counts: np.max([getattr(curve, metric)(counts) for curve in curves], axis=0)


def resampled(size: int, statistic: Statistic) -> Array:
    """The finite values of a statistic over :data:`RESAMPLES` resamples of ``size`` items, always the same ones."""
    values = np.concatenate([statistic(counts) for counts in _resamples(size)])
    return np.asarray(values[np.isfinite(values)])


def percentile_interval(values: Array) -> Interval | None:
    """The middle 95 % of resampled values; ``None`` where there are none."""
    if not len(values):
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def sign_flip_p(differences: Sequence[float] | Array) -> float:
    """The two-sided p-value of a mean difference: how often random signs give one as large.

    All signs are tried where there are at most :data:`PERMUTATIONS` ways, else so many random ones.
    """
    values = np.asarray(differences, np.float64)
    values = values[values != 0]  # a zero has no sign
    if not len(values):
        return 1.0
    limit = abs(values.sum()) - 1e-9
    if 2 ** min(len(values), 60) <= PERMUTATIONS:
        ways = np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1
        return float((abs((ways * 2 - 1) @ values) >= limit).mean())
    random = np.random.default_rng(SEED)
    at_once = max(1, _SIGNS_AT_ONCE // len(values))
    extreme = 0
    for start in range(0, PERMUTATIONS, at_once):
        rows = min(at_once, PERMUTATIONS - start)
        signs = random.integers(0, 2, (rows, len(values)), dtype=np.int8) * 2.0 - 1
        extreme += int((abs(signs @ values) >= limit).sum())
    return (extreme + 1) / (PERMUTATIONS + 1)


def bootstrap_p(values: Array) -> float:
    """The two-sided p-value of resampled differences: how often they lie on the rarer side of zero."""
    rarer = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(values) + 1))


def _interval(size: int, statistic: Statistic) -> Interval | None:
    return percentile_interval(resampled(size, statistic)) if size >= 2 else None


def _resamples(size: int) -> Iterator[Array]:
    """Counts of shape (resamples, size), some resamples at a time."""
    random = np.random.default_rng(SEED)
    at_once = max(1, min(RESAMPLES, _ELEMENTS_AT_ONCE // size))
    for start in range(0, RESAMPLES, at_once):
        rows = min(at_once, RESAMPLES - start)
        drawn = random.integers(0, size, (rows, size)) + np.arange(rows)[:, None] * size
        yield np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)


class _Groups:
    """Items sorted by value, and where each run of equal values ends."""

    def __init__(self, values: Array) -> None:
        self.order = np.argsort(values, kind="stable")
        ordered = values[self.order]
        self.ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
        self.group = np.empty(len(values), dtype=np.int64)
        self.group[self.order] = np.searchsorted(self.ends, np.arange(len(values)))

    def cumulative(self, weights: Array) -> Array:
        """The weight of all items up to the end of each group; shape (resamples, groups)."""
        return np.asarray(np.cumsum(weights[:, self.order], axis=1)[:, self.ends])


class _Ranks:
    """Mean ranks of values within resamples, ties shared."""

    def __init__(self, values: Sequence[float]) -> None:
        self.groups = _Groups(np.asarray(values, dtype=np.float64))

    def centred(self, counts: Array) -> Array:
        """Ranks less their mean, shape (resamples, items)."""
        ends = self.groups.cumulative(counts)
        before = np.concatenate([np.zeros((len(ends), 1)), ends[:, :-1]], axis=1)
        # the members of a group share the mean of ranks before+1 … end; the mean of all ranks is (n + 1) / 2
        middle = (before + ends) / 2 - counts.sum(axis=1, keepdims=True) / 2
        return np.asarray(middle[:, self.groups.group])


class _Curve:
    """Accuracy and precision of calling the most alike pairs positive, as mteb computes them."""

    def __init__(self, scores: Sequence[float], labels: Sequence[int]) -> None:
        self.labels = np.asarray(labels, dtype=np.float64)
        self.groups = _Groups(-np.asarray(scores, dtype=np.float64))

    def _called(self, counts: Array) -> tuple[Array, Array]:
        """Pairs called positive, and those that are, at every threshold."""
        return self.groups.cumulative(counts), self.groups.cumulative(counts * self.labels)

    def accuracy(self, counts: Array) -> Array:
        """The best over all thresholds that leave a pair on each side."""
        called, right = self._called(counts)
        total = counts.sum(axis=1, keepdims=True)
        negatives = total - right[:, -1:]
        values = (right + negatives - (called - right)) / total
        return np.asarray(np.where((called > 0) & (called < total), values, 0.0).max(axis=1))

    def ap(self, counts: Array) -> Array:
        """Average precision: precision at each threshold weighted by the recall gained there."""
        called, right = self._called(counts)
        precision = np.divide(right, called, out=np.zeros_like(right), where=called > 0)
        gained = np.diff(right, axis=1, prepend=0.0)
        positives = right[:, -1]
        total = np.sum(gained * precision, axis=1)
        return np.asarray(np.divide(total, positives, out=np.full_like(positives, np.nan), where=positives > 0))
