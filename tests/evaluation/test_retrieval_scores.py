"""Retrieval scores against pytrec_eval on runs that we rank ourselves."""

import numpy as np
import pytest
import pytrec_eval

import m3e
from tests.evaluation.conftest import FOOD, SPORT, WEATHER, write, write_collection


class Ranker:
    """An mteb search model that gives each query-document pair a fixed score."""

    def __init__(self, scores):
        from mteb.models import ModelMeta

        self.scores = scores
        self.mteb_model_meta = ModelMeta.create_empty({"name": "test/ranker", "revision": "r1"})

    def index(self, corpus, **_):
        self.documents = list(corpus["id"])

    def search(self, queries, *, top_k, **_):
        return {
            query: {document: self.scores[query, document] for document in self.documents} for query in queries["id"]
        }


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_runs_score_as_in_pytrec_eval(tmp_path, seed):
    random = np.random.default_rng(seed)
    corpus = {f"d{index}": text for index, text in enumerate(WEATHER + FOOD + SPORT)}
    queries = {f"q{index}": "问题" for index in range(8)}
    scores = {(query, document): float(random.random()) for query in queries for document in corpus}
    qrels = {
        query: {str(document): int(random.integers(1, 4)) for document in random.choice(list(corpus), 4, replace=False)}
        for query in queries
    }
    rows = [(query, document, grade) for query, found in qrels.items() for document, grade in found.items()]
    write_collection(tmp_path, "run.test", corpus, queries, rows)
    score = m3e.evaluate(Ranker(scores), suite="local", data=tmp_path).results[0]
    run = {query: {document: scores[query, document] for document in corpus} for query in queries}
    measures = {"ndcg_cut.10", "map_cut.10", "recall.5"}
    expected = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)

    def mean(name):
        return float(np.mean([found[name] for found in expected.values()]))

    assert score.score == pytest.approx(mean("ndcg_cut_10"), abs=1e-5)
    assert score.scores["map_at_10"] == pytest.approx(mean("map_cut_10"), abs=1e-5)
    assert score.scores["recall_at_5"] == pytest.approx(mean("recall_5"), abs=1e-5)
    assert score.ci95[0] <= score.score <= score.ci95[1]


def test_a_document_with_the_querys_id_is_ranked(tmp_path, encoder):
    corpus = {"1": FOOD[0], "2": SPORT[0], "3": WEATHER[0]}
    write_collection(tmp_path, "same.test", corpus, {"1": FOOD[0]}, [("1", "1", 1)])
    assert m3e.evaluate(encoder, suite="local", data=tmp_path).results[0].score == 1.0


def test_empty_documents_are_never_ranked(tmp_path, encoder):
    corpus = {"full": FOOD[0], "empty": "", "blank": "　\u200b "}
    write_collection(tmp_path, "set.test", corpus, {"q": SPORT[0]}, [("q", "full", 1)])
    results = m3e.evaluate(encoder, suite="local", data=tmp_path)
    assert results.results[0].score == 1.0
    assert results.notes == ["set.test: 2 empty documents were left out: empty, blank"]


def test_ids_compare_as_strings_whatever_their_type(tmp_path, encoder):
    """Integer documents, 32-bit queries, string judgements with a float score."""
    import pyarrow as pa

    texts = [WEATHER[0], FOOD[0], SPORT[0]]
    write(tmp_path / "t.test.corpus.parquet", id=pa.array([7, 8, 9], pa.int64()), text=texts)
    write(tmp_path / "t.test.queries.parquet", id=pa.array([70, 80], pa.int32()), text=texts[:2])
    write(tmp_path / "t.test.qrels.parquet", query_id=["70", "80"], doc_id=["7", "8"], score=[1.0, 1.0])
    score = m3e.evaluate(encoder, suite="local", data=tmp_path).results[0]
    assert (score.task, score.metric, score.n, score.score) == ("t.test", "ndcg_at_10", 2, 1.0)


def test_reranking_ranks_only_the_candidates(tmp_path, encoder):
    corpus = {"right": FOOD[1], "near": FOOD[0], "best": "怎么煮面条"}
    write_collection(tmp_path, "re.test", corpus, {"q": "怎么煮面条"}, [("q", "right", 1)])
    write(tmp_path / "re.test.candidates.parquet", query_id=["q", "q"], doc_id=["right", "near"])
    only = m3e.evaluate(encoder, suite="local", data=tmp_path).results[0]
    assert only.metric == "map_at_1000"
    similar = encoder.model.similarity(encoder.encode(["怎么煮面条"]), encoder.encode([FOOD[1], FOOD[0]]))[0]
    assert only.score == (1.0 if similar[0] > similar[1] else 0.5)


def test_models_that_only_search_have_no_score_on_pairs(tmp_path, pairs):
    one, two, labels = pairs
    write(tmp_path / "p.test.parquet", sentence1=one, sentence2=two, label=labels)
    results = m3e.evaluate(Ranker({}), suite="local", data=tmp_path)
    assert results.results == []
    assert "needs vectors" in results.missing["p.test"]
