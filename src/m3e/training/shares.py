"""How many batches each data set gives to an epoch, so that sets have the shares that are asked for."""

from __future__ import annotations

from collections.abc import Sequence


def batches_of_sets(wanted: Sequence[float], available: Sequence[int], steps: int | None) -> list[int]:
    """How many batches each set gives.

    With a number of steps, sets that run short give all they have and the others share the rest by their weights.
    """
    drawn = [(share, most) for share, most in zip(wanted, available, strict=True) if share > 0]
    if steps is None:
        steps = max(1, int(min(most / share for share, most in drawn) + 1e-6))
    steps = min(steps, sum(most for _, most in drawn))
    exact = [0.0] * len(wanted)
    short: set[int] = set()
    while True:
        left = steps - sum(available[index] for index in short)
        rest = sum(share for index, share in enumerate(wanted) if index not in short)
        for index, share in enumerate(wanted):
            exact[index] = available[index] if index in short else left * share / rest if rest else 0.0
        over = {index for index, value in enumerate(exact) if index not in short and value > available[index]}
        if not over:
            return _rounded(exact, available, steps)
        short |= over


def _rounded(exact: Sequence[float], available: Sequence[int], total: int) -> list[int]:
    """Whole numbers that sum to ``total``, by largest remainders, none above what is available."""
    counts = [int(value + 1e-9) for value in exact]
    order = sorted(range(len(exact)), key=lambda index: (counts[index] - exact[index], index))
    for index in order * 2:
        if sum(counts) == total:
            break
        if counts[index] < available[index] and exact[index] > 0:
            counts[index] += 1
    return counts
