"""Exact nearest texts: blocks of scores and a running top-k, so that memory stays bounded."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

BLOCK_ROWS = 65_536


def top_k(queries: Array, corpus: Array, k: int, *, block: int = BLOCK_ROWS) -> tuple[Array, Array]:
    """Scores and row indices of each query's ``k`` best documents, best first; ties go to the lower row.

    Args:
        queries: shape (queries, dimension).
        corpus: shape (documents, dimension).
        k: at most the number of documents are returned.
        block: documents scored at a time.

    Returns:
        Two arrays of shape (queries, min(k, documents)): fp32 dot products and int64 rows.
    """
    k = min(k, len(corpus))
    scores = np.full((len(queries), 0), -np.inf, dtype=np.float32)
    rows = np.zeros((len(queries), 0), dtype=np.int64)
    for start in range(0, len(corpus), block):
        part = queries.astype(np.float32) @ corpus[start : start + block].astype(np.float32).T
        numbers = np.broadcast_to(np.arange(start, start + part.shape[1]), part.shape)
        scores, rows = _keep_best(np.hstack([scores, part]), np.hstack([rows, numbers]), k)
    return scores, rows


def _keep_best(scores: Array, rows: Array, k: int) -> tuple[Array, Array]:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
