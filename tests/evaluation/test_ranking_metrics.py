"""Metrics of arrays equal pytrec_eval's query by query, with ties, grades, short runs and unknown documents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from mteb._evaluators.retrieval_metrics import mrr

from m3e.evaluation.ranking_metrics import Judgements, judgements, order_ties, ranking_measures

CUTOFFS = (1, 3, 5, 10, 20)
NAMES = ("ndcg_cut", "map_cut", "recall", "P", "success")


def by_pytrec(relevant: Any, run: Any) -> Any:
    names = {f"{name}.{','.join(map(str, CUTOFFS))}" for name in NAMES}
    return pytrec_eval.RelevanceEvaluator(relevant, names).evaluate(run)


def compare(scores: Any, rows: Any, documents: list[str], relevant: dict[str, dict[str, int]]) -> None:
    queries = [f"q{index}" for index in range(len(rows))]
    run = {
        query: {documents[row]: float(score) for row, score in zip(rows[index], scores[index], strict=True) if row >= 0}
        for index, query in enumerate(queries)
    }
    expected = by_pytrec(relevant, run)
    found = ranking_measures(order_ties(scores, rows, documents), judgements(relevant, queries, documents), CUTOFFS)
    reciprocal = mrr(relevant, run, CUTOFFS)
    for index, query in enumerate(queries):
        for cutoff in CUTOFFS:
            for name in NAMES:
                measure = f"{name}_{cutoff}"
                assert found[measure][index] == pytest.approx(expected[query][measure], abs=1e-6), measure
            assert found[f"recip_rank_{cutoff}"][index] == pytest.approx(reciprocal[f"MRR@{cutoff}"][index])


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6), k=st.integers(1, 30), documents=st.integers(30, 60), grain=st.sampled_from([10, 0.5])
)
def test_random_runs(seed: int, k: int, documents: int, grain: float) -> None:
    """A grain of 0.5 makes most scores equal to others."""
    random = np.random.default_rng(seed)
    names = [f"d{number}" for number in random.permutation(documents) * 7]
    scores = -np.sort(-np.round(random.normal(size=(6, k)) * grain).astype(np.float32) / grain, axis=1)
    rows = np.stack([random.permutation(documents)[:k] for _ in range(6)])
    judged = [*names, "lost1", "lost2"]
    relevant = {
        f"q{index}": {
            str(item): int(random.integers(0, 4))
            for item in random.choice(judged, random.integers(1, 20), replace=False)
        }
        for index in range(6)
    }
    compare(scores, rows, names, relevant)


def test_queries_in_several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m3e.evaluation.ranking_metrics._QUERIES_AT_ONCE", 3)
    random = np.random.default_rng(1)
    rows = np.stack([random.permutation(50)[:12] for _ in range(10)])
    relevant = {
        f"q{index}": {f"d{number}": 1 + number % 3 for number in rows[index, index::3].tolist()} for index in range(10)
    }
    compare(np.tile(np.arange(12, 0, -1.0), (10, 1)), rows, [f"d{number}" for number in range(50)], relevant)


def test_a_run_may_end_before_k() -> None:
    relevant = {"q0": {"d1": 1, "d3": 2}, "q1": {"d0": 1}}
    rows = np.array([[1, -1, -1], [2, 3, 0]])
    compare(np.array([[0.5, -np.inf, -np.inf], [0.9, 0.5, 0.1]]), rows, ["d0", "d1", "d2", "d3"], relevant)


def test_ties_are_ordered_by_id_the_greater_first() -> None:
    rows = np.array([[4, 0, 1, 2, 3]])
    scores = np.array([[0.9, 0.5, 0.5, 0.5, 0.1]], dtype=np.float32)
    assert order_ties(scores, rows, ["b", "c", "a", "e", "d"]).tolist() == [[4, 1, 0, 2, 3]]


def test_a_query_without_judgements_scores_zero() -> None:
    found = ranking_measures(
        np.array([[0, 1]]), Judgements(np.array([0, 0]), np.array([], int), np.array([], int)), (1, 5)
    )
    assert all(value.tolist() == [0.0] for value in found.values())
    assert len(found) == 12
