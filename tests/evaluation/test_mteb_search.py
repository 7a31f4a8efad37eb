"""Our search behind mteb: the same scores, query by query, as dictionaries, as arrays, and from disk."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from datasets import Dataset
from evaluation_sets import CORPUS, write_collection
from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores
from mteb.models import ModelMeta, SearchEncoderWrapper, SearchProtocol
from mteb.models.model_meta import ScoringFunction

import m3e
import m3e.evaluation.mteb_search as ours
from m3e.evaluation.items import watch
from m3e.evaluation.mteb_search import ArrayRun, MtebSearch, exact_search, score_run
from m3e.evaluation.mteb_tasks import own_task
from m3e.retrieval.vector_folder import open_vectors

CUTOFFS = [1, 3, 5, 10, 20, 100, 1000]


class Hashed:
    """An encoder whose vectors depend on the text alone; counts the texts that it encodes."""

    def __init__(self, similarity: ScoringFunction = ScoringFunction.COSINE) -> None:
        facts = {"name": "test/hashed", "revision": "1", "similarity_fn_name": similarity}
        self.mteb_model_meta = ModelMeta.create_empty(facts)
        self.kind = similarity
        self.encoded = 0

    def encode(self, inputs: Any, **_: Any) -> Any:
        texts = [text for batch in inputs for text in batch["text"]]
        self.encoded += len(texts)
        rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=24) for text in texts]
        return np.asarray(rows, dtype=np.float32)

    def similarity(self, left: Any, right: Any) -> Any:
        left, right = np.asarray(left), np.asarray(right)
        if self.kind is ScoringFunction.COSINE:
            left, right = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (left, right))
        if self.kind is ScoringFunction.EUCLIDEAN:
            return -np.linalg.norm(left[:, None] - right[None], axis=2)
        return left @ right.T

    similarity_pairwise = similarity


def collection(documents: int = 400, queries: int = 30, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    corpus = {"id": [str(number) for number in range(documents)], "text": [f"文档{n}" for n in range(documents)]}
    asked = {"id": [str(number) for number in range(queries)], "text": [f"问题{n}" for n in range(queries)]}
    return {
        "corpus": Dataset.from_dict(corpus),
        "queries": Dataset.from_dict(asked),
        "relevant_docs": {
            query: {str(item): int(random.integers(0, 4)) for item in random.choice(documents, 40, replace=False)}
            for query in asked["id"]
        },
        "top_ranked": None,
    }


def task_with(rows: dict[str, Any], kind: Any = "retrieval") -> Any:
    task = own_task("Search", kind, "test", "1")
    task.dataset, task.data_loaded = {"default": {"test": rows}}, True
    return task


def evaluated(model: Any, task: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """All scores, and those of single queries."""
    items = watch(task)
    assert items is not None
    result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results[0]
    return result.scores["test"][0], items.columns


def assert_same(found: dict[str, Any], expected: dict[str, Any], tolerance: float = 1e-6) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, float):
            assert found[name] == pytest.approx(value, abs=tolerance, nan_ok=True), name


@pytest.mark.parametrize("similarity", [ScoringFunction.COSINE, ScoringFunction.DOT_PRODUCT, ScoringFunction.EUCLIDEAN])
@pytest.mark.parametrize("entries", [0, 10**9])
@pytest.mark.parametrize("own_ids", [False, True])
def test_every_score_is_mtebs(monkeypatch: Any, similarity: ScoringFunction, entries: int, own_ids: bool) -> None:
    monkeypatch.setattr(ours, "ARRAY_ENTRIES", entries)
    expected_task, task = task_with(collection()), task_with(collection())
    expected_task.ignore_identical_ids = task.ignore_identical_ids = own_ids
    expected, by_query = evaluated(Hashed(similarity), expected_task)
    with exact_search(task, Hashed(similarity)) as model:
        assert isinstance(model, MtebSearch)
        assert isinstance(model, SearchProtocol)
        found, our_queries = evaluated(model, task)
    assert expected["ndcg_at_10"] > 0
    assert_same(found, expected, 1e-5)  # mteb rounds means to five digits
    assert our_queries["query_id"] == by_query["query_id"]
    for name in ("ndcg_at_10", "map_at_1000", "recall_at_100"):
        assert our_queries[name] == pytest.approx(by_query[name], abs=1e-6), name


def test_mtebs_evaluator_is_put_back() -> None:
    import mteb.abstasks.retrieval as retrieval

    before = retrieval.RetrievalEvaluator

    def fail() -> None:
        with exact_search(task_with(collection()), Hashed()):
            assert retrieval.RetrievalEvaluator is not before
            raise KeyError("stopped")

    with pytest.raises(KeyError, match="stopped"):
        fail()
    assert retrieval.RetrievalEvaluator is before


def test_arrays_are_scored_as_mteb_scores_dictionaries() -> None:
    """Ties, a run shorter than k, a query without hits."""
    random = np.random.default_rng(0)
    rows = np.stack([random.permutation(300)[:50] for _ in range(25)])
    scores = -np.sort(-np.round(random.normal(size=(25, 50)), 1).astype(np.float32), axis=1)
    documents = [f"d{number}" for number in random.permutation(300)]
    queries = [f"q{number}" for number in range(25)]
    relevant = {
        query: {str(item): int(random.integers(0, 3)) for item in random.choice(documents, 30, replace=False)}
        for query in queries
    }
    relevant["q3"] = {"nowhere": 1}
    run = ArrayRun(queries, documents, scores, rows)
    found = score_run(run, relevant, CUTOFFS)
    expected = calculate_retrieval_scores({query: run[query] for query in run}, relevant, CUTOFFS)
    for name in expected._fields:
        ours_, theirs = getattr(found, name), getattr(expected, name)
        if name == "all_scores":
            assert ours_.keys() == theirs.keys()
            for query in theirs:
                assert ours_[query] == pytest.approx(theirs[query], abs=1e-6)
        else:
            assert ours_ == pytest.approx(theirs, abs=1e-5, nan_ok=True), name


def searched(model: MtebSearch | SearchEncoderWrapper, rows: dict[str, Any], k: int = 20) -> Any:
    context: dict[str, Any] = {
        "task_metadata": task_with(rows).metadata,
        "hf_split": "test",
        "hf_subset": "default",
        "encode_kwargs": {"batch_size": 64},
        "num_proc": None,
    }
    model.index(rows["corpus"], **context)
    return model.search(rows["queries"], top_k=k, top_ranked=rows["top_ranked"], **context)


def test_vectors_on_disk_are_encoded_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(ours, "_DOCUMENTS_AT_ONCE", 150)
    rows = collection()
    expected = searched(SearchEncoderWrapper(Hashed()), rows)
    first, second, other = Hashed(), Hashed(), Hashed()
    found = searched(MtebSearch(first, vectors=tmp_path), rows)
    assert first.encoded == 430
    assert {query: sorted(hits) for query, hits in found.items()} == {q: sorted(hits) for q, hits in expected.items()}
    for query, hits in expected.items():
        assert found[query] == pytest.approx(hits, abs=1e-6)
    assert searched(MtebSearch(second, vectors=tmp_path), rows) == found
    assert second.encoded == 30
    facts = {"name": "test/other", "revision": "1", "similarity_fn_name": ScoringFunction.COSINE}
    other.mteb_model_meta = ModelMeta.create_empty(facts)
    searched(MtebSearch(other, vectors=tmp_path), rows)
    assert other.encoded == 430
    kept = [open_vectors(folder) for folder in tmp_path.iterdir()]
    assert [(len(folder), folder.ids()[399]) for folder in kept] == [(400, "399")] * 2


def test_evaluate_keeps_vectors_where_it_is_told(tmp_path: Path, mini: Any) -> None:
    write_collection(tmp_path / "data", "x.test")
    results = [
        m3e.evaluate(mini, suite="local", data=tmp_path / "data", vectors=folder).results
        for folder in (None, tmp_path / "v", tmp_path / "v")
    ]
    assert results[0] == results[1] == results[2]
    assert [len(open_vectors(folder)) for folder in (tmp_path / "v").iterdir()] == [len(CORPUS)]


def test_large_corpora_go_to_a_temporary_folder(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(ours, "MEMORY_BYTES", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = collection()
    found = searched(MtebSearch(Hashed(), dtype="fp16"), rows)
    expected = searched(SearchEncoderWrapper(Hashed()), rows)
    for query, hits in expected.items():
        assert found[query] == pytest.approx(hits, abs=1e-3)  # fp16
    assert list(tmp_path.iterdir()) == []


def test_candidates_are_ranked_by_mteb() -> None:
    rows = collection()
    rows["top_ranked"] = {query: [str(number) for number in range(10)] for query in rows["queries"]["id"]}
    found = searched(MtebSearch(Hashed()), rows)
    assert found == searched(SearchEncoderWrapper(Hashed()), rows)
    assert all(len(hits) == 10 for hits in found.values())


def test_what_is_no_encoder_is_called_itself() -> None:
    class Searcher:
        mteb_model_meta = ModelMeta.create_empty({"name": "test/searcher", "revision": "1"})

        def index(self, corpus: Any, **_: Any) -> None: ...

        def search(self, queries: Any, **_: Any) -> Any: ...

    searcher = Searcher()
    with exact_search(task_with(collection()), searcher) as model:
        assert model is searcher
