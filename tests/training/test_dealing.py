"""Rows dealt into batches: every promise of the plan for one data set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3e.training.dealing import deal


def check(keys: np.ndarray, size: int, seed: int = 0) -> np.ndarray:
    """Deal, and hold what holds whatever the rows: full batches, no row twice, no text twice in a batch."""
    batches = deal(keys, size, np.random.default_rng(seed))
    assert batches.shape[1] == size
    flat = batches.ravel()
    assert len(np.unique(flat)) == len(flat)
    assert flat.max(initial=0) < max(1, len(keys))
    for rows in batches:
        texts = [text for row in keys[rows].tolist() for text in set(row) - {0}]
        assert len(texts) == len(set(texts))
    return batches


def test_rows_that_share_nothing_fill_all_but_the_rest() -> None:
    keys = np.arange(1, 201).reshape(100, 2)
    assert len(check(keys, 8)) == 12


def test_many_questions_of_one_passage_are_apart() -> None:
    passages = np.repeat(np.arange(1000, 1040), 5)  # 40 passages, 5 questions each
    keys = np.stack([np.arange(1, 201), passages], axis=1)
    assert len(check(keys, 16)) == 12  # all but the rest find a place


def test_a_passage_of_more_questions_than_batches_leaves_some_out() -> None:
    passages = np.concatenate([np.full(50, 1000), np.arange(2000, 2100)])
    keys = np.stack([np.arange(1, 151), passages], axis=1)
    batches = check(keys, 10)
    # 100 rows alone and one of the 50 a batch: 11 batches of 9 and 1, with one row alone left
    assert len(batches) == 11
    assert (keys[batches, 1] == 1000).sum() == 11


def test_both_sides_shared() -> None:
    random = np.random.default_rng(3)
    keys = np.stack([random.integers(1, 300, 2000), random.integers(1000, 1300, 2000)], axis=1)
    assert len(check(keys, 32)) >= 0.95 * (2000 // 32)


def test_one_text_for_all_rows_fills_no_batch() -> None:
    keys = np.stack([np.arange(1, 101), np.full(100, 999)], axis=1)
    assert len(check(keys, 4)) == 0


def test_a_text_twice_in_its_own_row_is_no_collision() -> None:
    keys = np.repeat(np.arange(1, 65)[:, None], 2, axis=1)
    assert len(check(keys, 8)) == 8


def test_the_same_seed_deals_the_same() -> None:
    keys = np.random.default_rng(1).integers(1, 500, (400, 2))
    first, again = (deal(keys, 16, np.random.default_rng(7)) for _ in range(2))
    assert (first == again).all()
    assert not (first == deal(keys, 16, np.random.default_rng(8))).all()


def test_rows_meet_others_in_another_epoch() -> None:
    keys = np.arange(1, 1025).reshape(512, 2)
    first, second = (deal(keys, 64, np.random.default_rng(seed)) for seed in (1, 2))
    meetings = [np.intersect1d(rows, others).size for rows in first for others in second]
    assert max(meetings) < 30  # 8 are expected of each pair


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(0, 60),
    columns=st.integers(1, 4),
    texts=st.integers(1, 80),
    size=st.integers(2, 9),
    seed=st.integers(0, 5),
)
def test_any_rows(rows: int, columns: int, texts: int, size: int, seed: int) -> None:
    check(np.random.default_rng(seed).integers(0, texts, (rows, columns)), size, seed)


@pytest.mark.parametrize("size", [2, 3, 64])
def test_fewer_rows_than_a_batch(size: int) -> None:
    assert len(check(np.array([[1, 2]]), size)) == 0
