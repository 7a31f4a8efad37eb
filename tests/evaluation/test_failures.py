import pyarrow.parquet as pq
from datasets import Dataset
from evaluation_sets import CORPUS, JUDGEMENTS, QUERIES, Ranker, write_collection

import m3e
from m3e.evaluation.failures import CHARACTERS, WORST, failure_columns


def columns(scores, relevant, ranked, corpus):
    data = {
        "corpus": Dataset.from_dict({"id": list(corpus), "text": list(corpus.values())}),
        "queries": Dataset.from_dict({"id": list(scores), "text": [f"问{query}" for query in scores]}),
    }
    return failure_columns(data, scores, relevant, ranked)


def test_what_was_wanted_and_what_came_back():
    corpus = {f"d{index}": f"文{index}" for index in range(6)}
    scores = {"good": 1.0, "bad": 0.2, "lost": 0.0}
    relevant = {"good": {"d0": 1}, "bad": {"d1": 1, "d2": 2}, "lost": {"d5": 1}}
    ranked = {
        "good": {"d0": 0.9},
        "bad": {"d0": 0.9, "d3": 0.8, "d1": 0.7, "d2": 0.6, "d4": 0.5},
        "lost": {"d0": 0.1, "d1": 0.3},
    }
    found = columns(scores, relevant, ranked, corpus)
    assert found["query"] == [None, "问bad", "问lost"]  # a perfect query is nobody's failure
    assert found["expected"] == [None, "文2", "文5"]  # the most relevant
    assert found["expected_rank"] == [None, 4, None]
    assert found["returned"] == [None, ["文0", "文3", "文1"], ["文1", "文0"]]


def test_texts_of_a_table_in_another_order():
    corpus = Dataset.from_dict({"id": ["b", "c", "a"], "title": ["题", "", None], "text": ["乙", "丙", "甲"]})
    data = {"corpus": corpus.sort("id"), "queries": Dataset.from_dict({"id": ["q"], "text": ["问"]})}
    found = failure_columns(data, {"q": 0.5}, {"q": {"b": 1}}, {"q": {"a": 0.9, "b": 0.8, "c": 0.7}})
    assert (found["expected"], found["returned"]) == (["题 乙"], [["甲", "题 乙", "丙"]])


def test_only_the_worst_are_kept_and_cut():
    scores = {f"q{index}": index / 100 for index in range(50)}
    relevant = {query: {"long": 1} for query in scores}
    ranked = {query: {"long": 1.0} for query in scores}
    found = columns(scores, relevant, ranked, {"long": "长" * 500})
    assert [query is not None for query in found["query"]] == [index < WORST for index in range(50)]
    assert found["expected"][0] == "长" * (CHARACTERS - 1) + "…"
    assert columns({"q": 1.0}, {"q": {"long": 1}}, {"q": {"long": 1.0}}, {"long": "x"}) == {}


def test_they_stand_beside_the_queries_scores(tmp_path):
    write_collection(tmp_path / "data", "find.test")
    scores = {(query, item): float(item == "d14") for query in QUERIES for item in CORPUS}
    scores |= {(query, item): 2.0 for query, item, grade in JUDGEMENTS if query == "q1" and grade}
    m3e.evaluate(Ranker(scores), suite="local", data=tmp_path / "data", out=tmp_path / "out")
    rows = pq.read_table(next((tmp_path / "out").rglob("find.test.local-*.parquet"))).to_pylist()
    by_query = {row["query_id"]: row for row in rows}
    assert by_query["q1"]["query"] is None
    assert by_query["q3"]["query"] == QUERIES["q3"]
    assert by_query["q3"]["expected"] == CORPUS["d10"]
    assert by_query["q3"]["returned"][0] == CORPUS["d14"]
    assert len(by_query["q3"]["returned"]) == 3
