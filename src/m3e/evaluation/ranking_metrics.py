"""Retrieval metrics of rankings that are arrays: what trec_eval computes, without a dictionary an answer.

The definitions, the treatment of grades and the order of ties are pytrec_eval's, query by query: nDCG takes the
grade as gain, all others count grades from 1 as relevant; equal scores are ordered by document id, the greater first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_QUERIES_AT_ONCE = 2048


@dataclass(frozen=True)
class Judgements:
    """The judged documents of each query, one query after the other.

    Attributes:
        starts: query q's judgements are those from ``starts[q]`` to ``starts[q + 1]``.
        rows: documents by row in the corpus, ascending for each query; −1 for one that is not in the corpus.
        grades: their grades; 0 and below is not relevant.
    """

    starts: Array
    rows: Array
    grades: Array

    def __len__(self) -> int:
        return len(self.starts) - 1


def judgements(
    relevant: Mapping[str, Mapping[str, int]], queries: Sequence[str], documents: Sequence[str]
) -> Judgements:
    """The judgements of ``queries`` (query id to document id to grade) by row in ``documents``."""
    wanted = {document for query in queries for document in relevant.get(query, ())}
    row_of = {document: row for row, document in enumerate(documents) if document in wanted}
    starts, rows, grades = [0], [], []
    for query in queries:
        judged = sorted((row_of.get(document, -1), grade) for document, grade in relevant.get(query, {}).items())
        rows += [row for row, _ in judged]
        grades += [grade for _, grade in judged]
        starts.append(len(rows))
    return Judgements(np.array(starts), np.array(rows, np.int64), np.array(grades, np.int64))


def order_ties(scores: Array, rows: Array, documents: Sequence[str]) -> Array:
    """The rows of a ranking, best first, with equal scores reordered by document id, the greater first.

    Args:
        scores: shape (queries, k), descending.
        rows: shape (queries, k); −1 where there is no document.
        documents: the ids of the corpus.
    """
    tied = np.zeros(rows.shape, dtype=bool)
    equal = scores[:, 1:] == scores[:, :-1]
    tied[:, 1:] |= equal
    tied[:, :-1] |= equal
    tied &= rows >= 0
    if not tied.any():
        return rows
    among = np.unique(rows[tied])
    by_id = sorted(range(len(among)), key=lambda place: documents[int(among[place])])
    rank = np.empty(len(among), dtype=np.int64)
    rank[by_id] = np.arange(len(among))
    ordered = rows.copy()
    for query in np.flatnonzero(tied.any(axis=1)):
        places = np.flatnonzero(tied[query])
        found = rows[query, places]
        order = np.lexsort((-rank[np.searchsorted(among, found)], -scores[query, places].astype(np.float64)))
        ordered[query, places] = found[order]
    return ordered


def ranking_measures(rows: Array, judged: Judgements, cutoffs: Sequence[int]) -> dict[str, Array]:
    """Each query's measures at each cutoff, named as pytrec_eval does; ``recip_rank_10`` is mteb's MRR@10.

    Args:
        rows: shape (queries, k): documents, best first; −1 where there is no document.
        judged: of the same queries.
        cutoffs: ascending or not, each at least 1.

    Returns:
        ``ndcg_cut_K``, ``map_cut_K``, ``recall_K``, ``P_K``, ``success_K`` and ``recip_rank_K`` to values in 0..1.
    """
    parts = []
    for start in range(0, len(rows), _QUERIES_AT_ONCE):
        stop = min(start + _QUERIES_AT_ONCE, len(rows))
        grades = _grades(rows[start:stop], judged, start)
        parts.append(_measures(grades, *_ideal(judged, start, stop, max(cutoffs)), cutoffs))
    if not parts:
        return {}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _grades(rows: Array, judged: Judgements, first: int) -> Array:
    """The grade of each ranked document, 0 where it is not judged."""
    count, width = rows.shape
    span = slice(int(judged.starts[first]), int(judged.starts[first + count]))
    if span.start == span.stop:
        return np.zeros(rows.shape)
    query = np.repeat(np.arange(count), np.diff(judged.starts[first : first + count + 1]))
    most = int(max(rows.max(initial=0), judged.rows[span].max())) + 2
    known = query * most + judged.rows[span] + 1
    wanted = np.arange(count)[:, None] * most + rows + 1
    place = np.minimum(np.searchsorted(known, wanted.reshape(-1)), len(known) - 1).reshape(count, width)
    return np.where((known[place] == wanted) & (rows >= 0), judged.grades[span][place], 0).astype(np.float64)


def _ideal(judged: Judgements, first: int, last: int, depth: int) -> tuple[Array, Array]:
    """The discounted gain of the best possible ranking at each depth, and the number of relevant documents."""
    gains = np.zeros((last - first, depth))
    relevant = np.zeros(last - first)
    for query in range(first, last):
        grades = judged.grades[judged.starts[query] : judged.starts[query + 1]]
        best = -np.sort(-grades[grades > 0])
        relevant[query - first] = len(best)
        gains[query - first, : len(best[:depth])] = best[:depth]
    return np.cumsum(gains * _discounts(depth), axis=1), relevant


def _discounts(depth: int) -> Array:
    return np.asarray(1 / np.log2(np.arange(2, depth + 2)))


def _measures(grades: Array, ideal: Array, relevant: Array, cutoffs: Sequence[int]) -> dict[str, Array]:
    width = grades.shape[1]
    gains = np.maximum(grades, 0)
    hits = np.cumsum(gains > 0, axis=1)
    precision = hits / np.arange(1, width + 1)
    gained = np.cumsum(gains * _discounts(width), axis=1)
    averaged = np.cumsum(precision * (gains > 0), axis=1)
    first = np.where(hits[:, -1] > 0, np.argmax(gains > 0, axis=1) + 1, width + 1)
    some = np.maximum(relevant, 1)
    found: dict[str, Array] = {}
    for cutoff in cutoffs:
        last = min(cutoff, width) - 1
        best = ideal[:, cutoff - 1]
        found[f"ndcg_cut_{cutoff}"] = np.divide(gained[:, last], best, out=np.zeros(len(best)), where=best > 0)
        found[f"map_cut_{cutoff}"] = averaged[:, last] / some
        found[f"recall_{cutoff}"] = hits[:, last] / some
        found[f"P_{cutoff}"] = hits[:, last] / cutoff
        found[f"success_{cutoff}"] = (hits[:, last] > 0).astype(np.float64)
        found[f"recip_rank_{cutoff}"] = np.where(first <= last + 1, 1 / first, 0.0)
    return found
