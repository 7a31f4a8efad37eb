"""Measures on vectors and labels, in plain numpy: correlation, retrieval, thresholds.

mteb's tasks bring their own metrics; these serve fine-tuning and the samples, where a task is
a few arrays. Each is tested against scipy, scikit-learn or pytrec_eval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class RetrievalMeasures:
    """Means over queries, each in 0..1; ``rank`` holds each query's first relevant rank from 1, 0 for none."""

    recall_at_1: float
    mrr_at_10: float
    ndcg_at_10: float
    rank: Array

    def as_dict(self) -> dict[str, float]:
        """The three means by name."""
        return {"recall_at_1": self.recall_at_1, "mrr_at_10": self.mrr_at_10, "ndcg_at_10": self.ndcg_at_10}


def spearman(left: Sequence[float] | Array, right: Sequence[float] | Array) -> float | None:
    """Spearman's rank correlation in −1..1 with averaged ties; ``None`` where one side is constant."""
    first, second = _ranks(np.asarray(left, float)), _ranks(np.asarray(right, float))
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum() / scale) if scale > 0 else None


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse])


def retrieval_measures(scores: Array, relevant: Sequence[set[int]]) -> RetrievalMeasures:
    """Recall@1, MRR@10 and nDCG@10 (binary gains) of a full score matrix.

    Args:
        scores: shape (queries, documents), higher is better; ties go to the lower index.
        relevant: for each query the indices of its relevant documents, at least one.
    """
    depth = min(10, scores.shape[1])
    top = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    discounts = 1 / np.log2(np.arange(2, 12))
    rank = np.zeros(len(relevant), dtype=np.int64)
    gains, reciprocal, first = [], [], []
    for row, wanted in enumerate(relevant):
        hits = np.fromiter((document in wanted for document in top[row]), bool, depth)
        ideal = discounts[: min(len(wanted), 10)].sum()
        gains.append(float((hits * discounts[:depth]).sum() / ideal))
        place = int(np.argmax(hits)) + 1 if hits.any() else 0
        rank[row] = place
        reciprocal.append(1 / place if place else 0.0)
        first.append(float(hits[0]) / min(len(wanted), 1))
    return RetrievalMeasures(float(np.mean(first)), float(np.mean(reciprocal)), float(np.mean(gains)), rank)


def best_threshold(
    similarities: Sequence[float] | Array, positive: Sequence[bool] | Array
) -> tuple[float, float] | None:
    """The similarity that best separates positive from negative pairs, and the accuracy it gives.

    A pair counts as positive from the threshold up. ``None`` where all pairs are of one class.
    """
    values, truth = np.asarray(similarities, float), np.asarray(positive, bool)
    if truth.all() or not truth.any():
        return None
    order = np.argsort(-values, kind="stable")
    values, truth = values[order], truth[order]
    # taking the first k as positive: hits among them plus negatives after them
    correct = np.cumsum(truth) + (np.count_nonzero(~truth) - np.cumsum(~truth))
    last_of_tie = np.append(values[:-1] != values[1:], True)
    correct = np.where(last_of_tie, correct, -1)
    best = int(np.argmax(correct))
    below = values[best + 1] if best + 1 < len(values) else values[best] - 1e-6
    return float((values[best] + below) / 2), float(correct[best] / len(values))


def mean_cosine(vectors: Array) -> float:
    """The mean cosine between different rows of unit vectors, shape (texts, dimension)."""
    count = len(vectors)
    total = np.asarray(vectors, np.float64).sum(axis=0)
    return float((total @ total - (np.asarray(vectors, np.float64) ** 2).sum()) / (count * (count - 1)))


def unit(vectors: Array) -> Array:
    """Rows scaled to length 1; a row of zeros stays."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12))
