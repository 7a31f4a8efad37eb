from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from m3e.mining.known import Known
from m3e.mining.options import MiningOptions
from m3e.mining.selection import bar_of_rank, choose, in_ranks, may_be_ranked, preferences, taken, within_scores

SCORES = np.array([[0.9, 0.8, 0.7, 0.6, 0.5], [-0.1, -0.2, -0.3, -0.4, -0.5]], np.float32)
ALL = np.ones(SCORES.shape, np.bool_)
FOUND = np.arange(1, 11, dtype=np.uint64).reshape(2, 5)
QUERIES = np.array([100, 200], np.uint64)


def test_ranks_count_only_what_may_be_a_negative() -> None:
    counts = np.array([[False, True, True, False, True]])
    assert in_ranks(counts, (1, 3)).tolist() == [[False, False, True, False, True]]
    assert in_ranks(counts, (0, 1)).tolist() == [[False, True, False, False, False]]


def test_equal_keys_and_the_query_itself_do_not_count() -> None:
    found = np.array([[7, 100, 7, 8, 9]], np.uint64)
    absent = np.array([[False, False, False, False, True]])
    counts = may_be_ranked(Known([]), QUERIES[:1], found, absent)
    assert counts.tolist() == [[True, False, False, True, False]]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (MiningOptions(relative_margin=None), [5, 5]),
        (MiningOptions(relative_margin=0.25), [2, 3]),  # up to 0.675, and up to −0.25 where the positive has −0.2
        (MiningOptions(relative_margin=None, absolute_margin=0.15), [3, 2]),
        (MiningOptions(relative_margin=None, max_score=0.65), [2, 5]),
        (MiningOptions(relative_margin=None, min_score=-0.25), [5, 2]),
    ],
)
def test_margins_and_limits(options: MiningOptions, left: list[int]) -> None:
    lowest = np.array([0.9, -0.2], np.float32)
    allowed = ALL.copy()
    skipped = within_scores(SCORES, allowed, lowest, options)
    wanted = [
        [
            (options.relative_margin is None or score <= positive - abs(positive) * np.float32(options.relative_margin))
            and (options.absolute_margin is None or score + np.float32(options.absolute_margin) <= positive)
            and (options.max_score is None or score <= options.max_score)
            and (options.min_score is None or score >= options.min_score)
            for score in row
        ]
        for row, positive in zip(SCORES, lowest, strict=True)
    ]
    assert allowed.tolist() == wanted
    assert skipped.total() == int((~allowed).sum())
    assert [sum(row) for row in wanted] == left


def test_a_passage_that_breaks_two_rules_is_counted_once() -> None:
    allowed = ALL.copy()
    options = MiningOptions(relative_margin=0.5, max_score=0.0)
    skipped = within_scores(SCORES, allowed, np.array([1.0, 1.0], np.float32), options)
    assert +skipped == Counter({"relative_margin": 4, "max_score": 1})


def test_the_bar_of_a_rank() -> None:
    counts = np.array([[False, True, True, True, False], [False, True, False, False, False]])
    assert bar_of_rank(SCORES, counts, 2).tolist() == [pytest.approx(0.7), -np.inf]


def test_top_takes_the_best_and_random_any_whatever_the_block() -> None:
    allowed = np.array([[False, True, True, True, True], [False, False, False, False, True]])
    top = choose(allowed, preferences(QUERIES, FOUND, MiningOptions()), 2)
    assert top.tolist() == [[1, 2], [4, -1]]
    assert taken(FOUND, top, 0).tolist() == [[2, 3], [10, 0]]
    drawn = set()
    for seed in range(20):
        options = MiningOptions(sampling="random", seed=seed)
        chosen = choose(allowed, preferences(QUERIES, FOUND, options), 2)
        assert chosen[1].tolist() == [4, -1]
        alone = choose(allowed[:1], preferences(QUERIES[:1], FOUND[:1], options), 2)
        assert alone.tolist() == chosen[:1].tolist()
        assert chosen[0, 0] < chosen[0, 1]
        drawn.add(tuple(chosen[0].tolist()))
    assert len(drawn) >= 5
    assert {column for pair in drawn for column in pair} == {1, 2, 3, 4}


def test_fewer_passages_than_negatives() -> None:
    assert choose(ALL[:1, :2], preferences(QUERIES[:1], FOUND[:1, :2], MiningOptions()), 4).tolist() == [[0, 1, -1, -1]]
    empty = np.ones((1, 0), np.bool_)
    assert choose(empty, np.empty((1, 0), np.uint64), 2).tolist() == [[-1, -1]]
