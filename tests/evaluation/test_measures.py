from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from m3e.evaluation.measures import best_threshold, mean_cosine, retrieval_measures, spearman, unit


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=50))
def test_spearman_equals_scipy(points: list[tuple[int, int]]) -> None:
    left, right = zip(*points, strict=True)
    ours = spearman(left, right)
    if len(set(left)) == 1 or len(set(right)) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(spearmanr(left, right).statistic, abs=1e-12)


def test_retrieval_equals_pytrec_eval() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(30, 40))
    relevant = [set(map(int, generator.choice(40, size=generator.integers(1, 4), replace=False))) for _ in range(30)]
    qrels = {f"q{q}": {f"d{d}": 1 for d in wanted} for q, wanted in enumerate(relevant)}
    run = {f"q{q}": {f"d{d}": float(value) for d, value in enumerate(row)} for q, row in enumerate(scores)}
    results = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "recip_rank", "success.1"}).evaluate(run)
    ours = retrieval_measures(scores, relevant)
    assert ours.ndcg_at_10 == pytest.approx(np.mean([item["ndcg_cut_10"] for item in results.values()]), abs=1e-12)
    assert ours.recall_at_1 == pytest.approx(np.mean([item["success_1"] for item in results.values()]), abs=1e-12)
    reciprocal = [value if value >= 0.1 else 0.0 for value in (item["recip_rank"] for item in results.values())]
    assert ours.mrr_at_10 == pytest.approx(np.mean(reciprocal), abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=40))
def test_the_threshold_is_the_best_of_all(points: list[tuple[int, bool]]) -> None:
    values = np.asarray([value / 8 for value, _ in points])
    truth = np.asarray([flag for _, flag in points])
    found = best_threshold(values, truth)
    if truth.all() or not truth.any():
        assert found is None
        return
    assert found is not None
    threshold, accuracy = found
    assert np.mean((values >= threshold) == truth) == pytest.approx(accuracy)
    every_cut = [np.mean((values >= cut) == truth) for cut in [*values, values.max() + 1]]
    # calling everything negative is no threshold; it can beat all others only by saying no to every pair
    assert accuracy == pytest.approx(max(every_cut[:-1]))


def test_mean_cosine_leaves_out_each_texts_own() -> None:
    vectors = unit(np.random.default_rng(1).normal(size=(20, 5)))
    table = vectors @ vectors.T
    expected = table[~np.eye(20, dtype=bool)].mean()
    assert mean_cosine(vectors) == pytest.approx(expected)


def test_unit_keeps_rows_of_zeros() -> None:
    assert np.array_equal(unit(np.zeros((2, 3))), np.zeros((2, 3)))
