"""The search equals fp32 brute force, whatever the blocks, the precision, the place of the vectors, and kills."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3e.errors import DataError, OutputExistsError, SettingsError
from m3e.retrieval.exact import top_k
from m3e.retrieval.vector_folder import RAW, VectorWriter

PRODUCTS = ["bf16", "fp32"]


def clustered(queries: int, documents: int, dimension: int = 32, seed: int = 0) -> tuple[Any, Any]:
    """Unit vectors around a few centres: many near scores, as embeddings have them."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(5, dimension))
    found = []
    for count in (queries, documents):
        rows = centres[random.integers(0, 5, count)] + 0.5 * random.normal(size=(count, dimension))
        found.append((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    return found[0], found[1]


def assert_best(queries: Any, corpus: Any, k: int, scores: Any, rows: Any, tolerance: float = 1e-6) -> None:
    """The rows are a right answer: each has the score it says, and no other document beats the last one."""
    full = queries.astype(np.float64) @ corpus.astype(np.float64).T
    assert scores.shape == rows.shape == (len(queries), min(k, len(corpus)))
    assert all(len(set(found)) == len(found) for found in rows.tolist())
    assert np.allclose(np.take_along_axis(full, rows, axis=1), scores, atol=tolerance)
    assert np.allclose(-np.sort(-full, axis=1)[:, :k], scores, atol=tolerance)
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize("block", [1, 7, 64, 1000])
@pytest.mark.parametrize("k", [1, 10, 200])
def test_blocks_do_not_change_the_answer(products: Any, block: int, k: int) -> None:
    generator = np.random.default_rng(3)
    queries, corpus = generator.normal(size=(9, 16)), generator.normal(size=(150, 16))
    full = queries.astype(np.float32) @ corpus.astype(np.float32).T
    expected = np.argsort(-full, axis=1, kind="stable")[:, :k]
    scores, rows = top_k(queries, corpus, k, block=block, products=products, query_block=4)
    assert rows.shape == (9, min(k, 150))
    assert np.array_equal(rows, expected)
    assert np.allclose(scores, np.take_along_axis(full, expected, axis=1), atol=1e-5)


@pytest.mark.parametrize("products", PRODUCTS)
def test_near_scores_are_told_apart(products: Any) -> None:
    """bf16 alone takes hundreds of these for equal."""
    queries, corpus = clustered(600, 5000)
    scores, rows = top_k(queries, corpus, 20, block=1024, products=products)
    assert_best(queries, corpus, 20, scores, rows)


@pytest.mark.parametrize("products", PRODUCTS)
def test_negative_scores_are_ranked(products: Any) -> None:
    queries, corpus = clustered(20, 3000)
    corpus = -np.abs(corpus)
    queries = np.abs(queries)
    scores, rows = top_k(queries, corpus, 10, block=512, products=products)
    assert scores.max() < 0
    assert_best(queries, corpus, 10, scores, rows)


@pytest.mark.parametrize("products", PRODUCTS)
def test_lengths_may_differ_by_much(products: Any) -> None:
    queries, corpus = clustered(20, 3000)
    corpus *= np.exp(np.random.default_rng(1).normal(size=(3000, 1)) * 3).astype(np.float32)
    scores, rows = top_k(queries, corpus, 10, block=512, products=products)
    assert_best(queries, corpus, 10, scores, rows, tolerance=1e-6 * np.abs(scores).max())


@pytest.mark.parametrize("products", PRODUCTS)
def test_ties_go_to_the_lower_row(products: Any) -> None:
    _, rows = top_k(np.ones((1, 2)), np.ones((6, 2)), 4, block=2, products=products)
    assert rows.tolist() == [[0, 1, 2, 3]]
    random = np.random.default_rng(0)
    corpus = random.normal(size=(40, 16))[random.integers(0, 40, 2000)]  # every document fifty times
    queries = random.normal(size=(30, 16))
    _, rows = top_k(queries, corpus, 120, block=256, products=products)
    full = queries.astype(np.float32) @ np.unique(corpus, axis=0).astype(np.float32).T
    assert full.shape[1] == len(np.unique(full[0]))
    for query, found in enumerate(rows):
        exact = np.round(corpus @ queries[query], 9)
        assert found.tolist() == np.argsort(-exact, kind="stable")[:120].tolist()


@pytest.mark.parametrize("products", PRODUCTS)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    documents=st.integers(1, 300),
    queries=st.integers(1, 12),
    k=st.integers(1, 80),
    block=st.integers(1, 320),
    grain=st.sampled_from([1.0, 0.5, 1e-3]),
)
def test_any_shape(products: Any, seed: int, documents: int, queries: int, k: int, block: int, grain: float) -> None:
    """Coarse grains make many ties, also at zero and below."""
    random = np.random.default_rng(seed)
    left, right = (
        (np.round(random.normal(size=(count, 6)) / grain) * grain).astype(np.float32) for count in (queries, documents)
    )
    scores, rows = top_k(left, right, k, block=block, products=products, query_block=5)
    assert_best(left, right, k, scores, rows, tolerance=1e-4)


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_vectors_on_disk_give_what_the_same_vectors_in_memory_give(tmp_path: Path, products: Any, dtype: Any) -> None:
    queries, corpus = clustered(50, 3000)
    writer = VectorWriter(tmp_path / "v", 32, dtype, "x")
    writer.append(corpus)
    folder = writer.finish()
    scores, rows = top_k(queries, folder, 30, block=700, products=products)
    stored = folder.read(0, 3000)
    assert_best(queries, stored, 30, scores, rows)
    in_memory = top_k(queries, stored, 30, block=512, products=products)
    assert np.array_equal(rows, in_memory[1])
    assert np.array_equal(scores, in_memory[0])


def test_progress_counts_pairs_and_ends_at_all() -> None:
    seen: list[tuple[int, int]] = []
    queries, corpus = clustered(10, 100)
    top_k(queries, corpus, 3, block=40, query_block=5, on_scored=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == [200, 400, 500, 500, 700, 900, 1000, 1000]
    assert {total for _, total in seen} == {1000}


class KilledError(Exception):
    """What a kill looks like from inside."""


@pytest.mark.parametrize("after", [200, 400, 500, 900])
def test_a_killed_run_goes_on_from_the_last_block(tmp_path: Path, after: int) -> None:
    queries, corpus = clustered(10, 100)
    keep: dict[str, Any] = {"block": 40, "query_block": 5, "checkpoint": tmp_path / "c", "save_every": 0.0}

    def kill(done: int, total: int) -> None:
        if done > after:
            raise KilledError

    with pytest.raises(KilledError):
        top_k(queries, corpus, 60, on_scored=kill, **keep)
    seen: list[int] = []
    scores, rows = top_k(queries, corpus, 60, on_scored=lambda done, total: seen.append(done), **keep)
    expected = top_k(queries, corpus, 60)
    assert np.array_equal(rows, expected[1])
    assert np.array_equal(scores, expected[0])
    assert [done for done in seen if done <= after] in ([], [500])  # 500: the first query block is done
    assert top_k(queries, corpus, 60, **keep)[1].tolist() == rows.tolist()


def test_another_search_does_not_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    queries, corpus = clustered(10, 100)
    top_k(queries, corpus, 5, checkpoint=tmp_path / "c")
    for changed in (queries[::-1].copy(), queries[:7]):
        _, rows = top_k(changed, corpus, 5, checkpoint=tmp_path / "c")
        assert np.array_equal(rows, top_k(changed, corpus, 5)[1])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputExistsError, match="mine"):
        top_k(queries, corpus, 5, checkpoint=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_file_that_ends_too_soon_is_named_and_does_not_hang(tmp_path: Path) -> None:
    queries, corpus = clustered(5, 100)
    writer = VectorWriter(tmp_path / "v", 32, "fp32", "x")
    writer.append(corpus)
    folder = writer.finish()
    os.truncate(tmp_path / "v" / RAW, 50 * folder.row_bytes + 3)
    with pytest.raises(DataError, match=r"vectors\.bin ends .* bytes too soon"):
        top_k(queries, folder, 3, block=20)
    assert "m3e-read-ahead" not in [thread.name for thread in threading.enumerate()]


def test_a_search_that_is_stopped_leaves_no_thread(tmp_path: Path) -> None:
    queries, corpus = clustered(5, 100)
    writer = VectorWriter(tmp_path / "v", 32, "fp16", "x")
    writer.append(corpus)

    def stop(done: int, total: int) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        top_k(queries, writer.finish(), 3, block=20, on_scored=stop)
    assert "m3e-read-ahead" not in [thread.name for thread in threading.enumerate()]


def test_nothing_to_search() -> None:
    assert top_k(np.zeros((0, 4)), np.ones((3, 4)), 2)[1].shape == (0, 2)
    assert top_k(np.zeros((2, 4)), np.ones((0, 4)), 2)[1].shape == (2, 0)


def test_what_cannot_be_searched_is_refused() -> None:
    good, holed = np.ones((4, 3)), np.ones((4, 3))
    holed[2, 1] = np.nan
    with pytest.raises(DataError, match="vector 2 of the corpus"):
        top_k(good, holed, 1, block=2)
    with pytest.raises(DataError, match="vector 2 of the queries"):
        top_k(holed, good, 1)
    with pytest.raises(DataError, match="cannot be compared"):
        top_k(good, np.ones((4, 2)), 1)
    with pytest.raises(SettingsError, match="at least 1"):
        top_k(good, good, 0)
