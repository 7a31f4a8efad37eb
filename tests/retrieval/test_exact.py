from __future__ import annotations

import numpy as np
import pytest

from m3e.retrieval.exact import top_k


@pytest.mark.parametrize("block", [1, 7, 100, 1000])
@pytest.mark.parametrize("k", [1, 10, 200])
def test_blocks_do_not_change_the_answer(block: int, k: int) -> None:
    generator = np.random.default_rng(3)
    queries, corpus = generator.normal(size=(9, 16)), generator.normal(size=(150, 16))
    full = queries.astype(np.float32) @ corpus.astype(np.float32).T
    expected = np.argsort(-full, axis=1, kind="stable")[:, :k]
    scores, rows = top_k(queries, corpus, k, block=block)
    assert rows.shape == (9, min(k, 150))
    assert np.array_equal(rows, expected)
    assert np.allclose(scores, np.take_along_axis(full, expected, axis=1), atol=1e-6)


def test_ties_go_to_the_lower_row() -> None:
    corpus = np.ones((6, 2))
    _, rows = top_k(np.ones((1, 2)), corpus, 4, block=2)
    assert rows.tolist() == [[0, 1, 2, 3]]
