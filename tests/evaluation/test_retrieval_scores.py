"""Retrieval scores against pytrec_eval on runs that we rank ourselves, and what is left out of them."""

import numpy as np
import pyarrow as pa
import pytest
import pytrec_eval
from evaluation_sets import CORPUS, JUDGEMENTS, ORDERS, QUERIES, WEATHER, Ranker, write, write_collection

import m3e
from m3e.errors import DataError


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_runs_score_as_in_pytrec_eval(tmp_path, seed):
    random = np.random.default_rng(seed)
    queries = {f"q{index}": "怎么办" for index in range(8)}
    scores = {(query, document): float(random.random()) for query in queries for document in CORPUS}
    qrels = {
        query: {str(item): int(random.integers(1, 4)) for item in random.choice(list(CORPUS), 4, replace=False)}
        for query in queries
    }
    rows = [(query, document, grade) for query, found in qrels.items() for document, grade in found.items()]
    write_collection(tmp_path, "run.test", CORPUS, queries, rows)
    score = m3e.evaluate(Ranker(scores), suite="local", data=tmp_path).results[0]
    run = {query: {document: scores[query, document] for document in CORPUS} for query in queries}
    measures = {"ndcg_cut.10", "map_cut.10", "recall.5"}
    expected = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)

    def mean(name):
        return float(np.mean([found[name] for found in expected.values()]))

    assert score.score == pytest.approx(mean("ndcg_cut_10"), abs=1e-5)
    assert score.scores["map_at_10"] == pytest.approx(mean("map_cut_10"), abs=1e-5)
    assert score.scores["recall_at_5"] == pytest.approx(mean("recall_5"), abs=1e-5)
    assert score.ci95[0] <= score.score <= score.ci95[1]


def test_a_document_with_the_querys_id_is_ranked(tmp_path, mini):
    write_collection(tmp_path, "same.test", {"1": ORDERS[0], "2": WEATHER[0]}, {"1": ORDERS[0]}, [("1", "1", 1)])
    assert m3e.evaluate(mini, suite="local", data=tmp_path).results[0].score == 1.0


def test_empty_documents_are_never_ranked(tmp_path, mini):
    corpus = {"empty": "", "full": ORDERS[0], "blank": "　\u200b "}
    write_collection(tmp_path, "set.test", corpus, {"q": WEATHER[0]}, [("q", "full", 1)])
    results = m3e.evaluate(mini, suite="local", data=tmp_path)
    assert results.results[0].score == 1.0
    assert results.notes == ["set.test: 2 empty documents were left out: empty, blank"]


def test_ids_compare_as_strings_whatever_their_type(tmp_path, mini):
    """Integer documents, 32-bit queries, string judgements with a float score."""
    texts = [WEATHER[0], ORDERS[0], ORDERS[2]]
    write(tmp_path / "t.test.corpus.parquet", id=pa.array([7, 8, 9], pa.int64()), text=texts)
    write(tmp_path / "t.test.queries.parquet", id=pa.array([70, 80], pa.int32()), text=texts[:2])
    write(tmp_path / "t.test.qrels.parquet", query_id=["70", "80"], doc_id=["7", "8"], score=[1.0, 1.0])
    score = m3e.evaluate(mini, suite="local", data=tmp_path).results[0]
    assert (score.task, score.metric, score.n, score.score) == ("t.test", "ndcg_at_10", 2, 1.0)


def test_queries_without_a_relevant_document_are_left_out_and_named(tmp_path):
    scores = {(query, document): float(document == "d0") for query in QUERIES for document in CORPUS}
    whole, holed = tmp_path / "whole", tmp_path / "holed"
    write_collection(whole, "x.test", queries={"q1": QUERIES["q1"]}, judgements=[("q1", "d0", 1)])
    write_collection(holed, "x.test", judgements=[("q1", "d0", 1), ("q4", "d0", 0)])
    expected = m3e.evaluate(Ranker(scores), suite="local", data=whole)
    found = m3e.evaluate(Ranker(scores), suite="local", data=holed)
    assert found.results == expected.results
    assert found.results[0].n == 1
    assert found.notes == ["x.test: 3 queries without a relevant document were left out: q2, q3, q4"]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ([("q1", "lost1", 1), ("q2", "lost2", 1)], ("x.test: 2 judgements", "documents", "lost1")),
        ([("nobody", "d1", 1)], ("x.test: 1 judgements", "queries", "nobody")),
        ([("q1", "d0", 2)], ("x.test", "two different scores", "d0")),
    ],
)
def test_judgements_that_cannot_hold_are_refused(tmp_path, mini, extra, words):
    write_collection(tmp_path, "x.test", judgements=JUDGEMENTS + extra)
    with pytest.raises(DataError) as refused:
        m3e.evaluate(mini, suite="local", data=tmp_path)
    assert all(word in str(refused.value) for word in words)


def test_grades_must_be_whole_numbers(tmp_path, mini):
    write_collection(tmp_path, "x.test")
    write(tmp_path / "x.test.qrels.parquet", query_id=["q1"], doc_id=["d0"], score=[0.5])
    with pytest.raises(DataError, match=r"x\.test.*0\.5"):
        m3e.evaluate(mini, suite="local", data=tmp_path)


def test_duplicate_ids_are_refused(tmp_path, mini):
    write_collection(tmp_path, "x.test")
    write(tmp_path / "x.test.corpus.parquet", id=["d0", "d1", "d1"], text=WEATHER[:3])
    with pytest.raises(DataError, match=r"x\.test: 1 ids stand more than once .* d1"):
        m3e.evaluate(mini, suite="local", data=tmp_path)


def test_a_corpus_may_be_shared_by_all_splits(tmp_path, mini):
    write_collection(tmp_path, "x.dev")
    (tmp_path / "x.dev.corpus.parquet").rename(tmp_path / "x.all.corpus.parquet")
    assert [score.task for score in m3e.evaluate(mini, suite="local", data=tmp_path).results] == ["x.dev"]


def test_reranking_ranks_only_the_candidates(tmp_path):
    scores = {("q", "right"): 0.5, ("q", "near"): 0.7, ("q", "best"): 0.9}

    class Reranker(Ranker):
        def search(self, queries, *, top_ranked, **_):
            return {query: {item: self.scores[query, item] for item in top_ranked[query]} for query in queries["id"]}

    corpus = {"right": ORDERS[0], "near": ORDERS[1], "best": ORDERS[2]}
    write_collection(tmp_path, "re.test", corpus, {"q": "怎么办"}, [("q", "right", 1)])
    write(tmp_path / "re.test.candidates.parquet", query_id=["q", "q"], doc_id=["right", "near"])
    score = m3e.evaluate(Reranker(scores), suite="local", data=tmp_path).results[0]
    assert (score.metric, score.score) == ("map_at_1000", 0.5)
