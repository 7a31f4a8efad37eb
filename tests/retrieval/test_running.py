"""The running best: integers that sort like scores, and arrays that never lose one of the best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3e.retrieval.running import MOST_ROWS, NOTHING, RunningTop, decode, encode

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(FLOATS, st.integers(0, MOST_ROWS)), min_size=1, max_size=50))
def test_integers_sort_by_score_and_then_by_lower_row(pairs: list[tuple[float, int]]) -> None:
    scores, rows = (np.array(side) for side in zip(*pairs, strict=True))
    keys = encode(scores.astype(np.float32), rows)
    assert (keys > NOTHING).all()
    found = decode(keys)
    assert np.array_equal(found[0], scores.astype(np.float32))
    assert np.array_equal(found[1], rows)
    best = decode(np.sort(keys)[::-1])
    expected = sorted(pairs, key=lambda pair: (-pair[0], pair[1]))
    assert list(zip(best[0].tolist(), best[1].tolist(), strict=True)) == expected


def test_minus_zero_ties_with_zero() -> None:
    keys = encode(np.array([0.0, -0.0, 1e-45, -1e-45], np.float32), np.array([1, 0, 2, 3]))
    assert decode(np.sort(keys)[::-1])[1].tolist() == [2, 0, 1, 3]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 40), most=st.integers(1, 900))
def test_the_best_stay_whatever_is_added_when(seed: int, k: int, most: int) -> None:
    """Queries get different numbers of documents, some more at once than the array is wide."""
    random = np.random.default_rng(seed)
    top = RunningTop(5, k)
    given: list[list[tuple[float, int]]] = [[] for _ in range(5)]
    for step in range(4):
        first, last = [(0, 5), (0, 3), (3, 5), (0, 5)][step]
        counts = random.integers(0, most, last - first) + (k if step == 3 else 0)
        queries = np.repeat(np.arange(first, last), counts)
        scores = np.round(random.normal(size=len(queries)), 1).astype(np.float32)
        rows = np.concatenate([np.arange(count) for count in counts]) + step * 10_000
        top.add(queries, encode(scores, rows), first, last)
        for query, score, row in zip(queries.tolist(), scores.tolist(), rows.tolist(), strict=True):
            given[query].append((score, row))
        for query, floor in enumerate(top.floor.tolist()):
            reached = sorted((score for score, _ in given[query]), reverse=True)[:k]
            assert floor == -np.inf or (len(reached) == k and floor <= reached[-1])
    found = top.best()
    for query in range(5):
        expected = sorted(given[query], key=lambda pair: (-pair[0], pair[1]))[:k]
        assert list(zip(found[0][query].tolist(), found[1][query].tolist(), strict=True)) == expected
    assert top.floor.tolist() == [pytest.approx(score) for score in found[0][:, -1].tolist()]


def test_a_state_goes_on_where_it_was_taken() -> None:
    random = np.random.default_rng(0)
    whole, half = RunningTop(3, 10), RunningTop(3, 10)

    def add(top: RunningTop, scores: np.ndarray, start: int) -> None:
        rows = np.tile(np.arange(scores.shape[1]) + start, 3)
        top.add(np.repeat(np.arange(3), scores.shape[1]), encode(scores.reshape(-1), rows), 0, 3)

    early, late = (random.normal(size=(3, count)).astype(np.float32) for count in (6, 40))
    add(whole, early, 0)
    keys, floor = whole.state()
    half.restore(keys.copy(), floor.copy())
    for top in (whole, half):
        add(top, late, 6)
    assert np.array_equal(half.best()[1], whole.best()[1])
    assert np.array_equal(whole.best()[1], np.argsort(-np.hstack([early, late]), axis=1)[:, :10])
