"""Hashes of the character n-grams of many texts at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from m3e.data.keys import code_points

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 1 << 64)


def gram_hashes(texts: Sequence[str], size: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The hash of every n-gram of ``size`` characters, text by text, and the index of the text it is from.

    A text of fewer characters has none. Equal n-grams have equal hashes, wherever they stand.

    Rabin and Karp's rolling hash, from prefix sums modulo 2^64, with a last mix (Steele's splitmix64).
    """
    points, ends = code_points(texts)
    if len(points) < size:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    powers = _powers(_BASE, len(points))
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum((points.astype(np.uint64) + np.uint64(1)) * powers)))
    lengths = np.diff(ends, prepend=0)
    counts = np.maximum(lengths - size + 1, 0)
    owners = np.repeat(np.arange(len(texts)), counts)
    firsts = np.repeat((ends - lengths) - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
    starts = firsts + np.arange(len(owners))
    hashes = (sums[starts + size] - sums[starts]) * _powers(_INVERSE, len(points))[starts]
    return _mix(hashes), owners


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    """``base ** i`` modulo 2^64 for each ``i`` below ``count``, by doubling."""
    powers = np.ones(count, np.uint64)
    done, factor = 1, base
    while done < count:
        step = min(done, count - done)
        powers[done : done + step] = powers[:step] * np.uint64(factor)
        done += step
        factor = factor * factor % (1 << 64)
    return powers


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
