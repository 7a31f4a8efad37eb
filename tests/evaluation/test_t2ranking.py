"""T2Ranking's recipe on small files in the set's own layout."""

import dataclasses
import json
import os

import numpy as np
import pytest
import pytrec_eval
from evaluation_sets import SENTENCES1, Ranker

import m3e
import m3e.evaluation.mteb_search
from m3e.errors import DataError
from m3e.evaluation import t2ranking
from m3e.evaluation.local_files import LocalFolder
from m3e.evaluation.planned import Plan
from m3e.evaluation.store import result_name
from m3e.evaluation.task_cards import CARDS
from m3e.evaluation.tasks import card_of

PASSAGES = [f"{text}第{number}" for number, text in enumerate(SENTENCES1)]
QUERIES = {0: "今天天气", 3: "怎么退货", 7: "番茄叶黄", 8: "公园的花", 9: "订单在哪", 12: "没有判断"}
GRADES = [
    (0, 0, 3),
    (0, 1, 0),
    (0, 14, 2),
    (3, 5, 1),
    (3, 6, 0),
    (7, 10, 2),
    (7, 3, 1),
    (8, 2, 0),
    (9, 11, 3),
    (9, 12, 2),
]


def write_t2(folder, passages=PASSAGES, queries=QUERIES, grades=GRADES, header=True, trec=False):
    folder.mkdir(parents=True, exist_ok=True)

    def lines(name, head, rows):
        text = "".join("\t".join(map(str, row)) + "\n" for row in ([head] if header else []) + list(rows))
        (folder / name).write_text(text, encoding="utf-8")

    lines("collection.tsv", ("pid", "text"), enumerate(passages))
    lines("queries.dev.tsv", ("qid", "text"), queries.items())
    middle = (0,) if trec else ()
    lines("qrels.dev.tsv", ("qid", *(("-",) if trec else ()), "pid", "rel"), [(q, *middle, p, g) for q, p, g in grades])
    lines("qrels.retrieval.dev.tsv", ("qid", "pid"), [(q, p) for q, p, g in grades if g >= 2])
    return folder


def card(name="T2RRetrieval-1W", passages=10_000):
    return dataclasses.replace(card_of(name), passages=passages)


def planned(folder, chosen):
    made = Plan()
    assert t2ranking.add_task(made, chosen, folder) == ""
    return made.tasks[0]


def rows(item):
    data = item.task.dataset["default"]["dev"]
    return (
        dict(zip(data["corpus"]["id"], data["corpus"]["text"], strict=True)),
        dict(zip(data["queries"]["id"], data["queries"]["text"], strict=True)),
        data["relevant_docs"],
        data["top_ranked"],
    )


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("M3E_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("trec", [True, False])
def test_passages_up_to_n_inclusive_all_grades_kept(tmp_path, header, trec):
    folder = write_t2(tmp_path / "t2ranking", header=header, trec=trec)
    corpus, queries, relevant, top_ranked = rows(planned(folder, card(passages=10)))
    assert corpus == {str(number): PASSAGES[number] for number in range(11)}
    # 0 has grade 3 and 0; 3 only grade 1; 8 nothing but grade 0; 9 has its grades beyond the cut
    assert queries == {"0": QUERIES[0], "3": QUERIES[3], "7": QUERIES[7]}
    assert relevant == {"0": {"0": 3, "1": 0}, "3": {"5": 1, "6": 0}, "7": {"10": 2, "3": 1}}
    assert top_ranked is None


def test_reading_ends_at_the_first_larger_number(tmp_path):
    folder = write_t2(tmp_path / "t2ranking")
    with (folder / "collection.tsv").open("a", encoding="utf-8") as stream:
        stream.write("2\t又一次\n")
    corpus, _, _, _ = rows(planned(folder, card(passages=12)))
    assert list(corpus) == [str(number) for number in range(13)]


def test_no_limit_is_every_passage(tmp_path):
    folder = write_t2(tmp_path / "t2ranking")
    corpus, queries, _, _ = rows(planned(folder, card("T2RRetrieval-full", None)))
    assert len(corpus) == 15
    assert set(queries) == {"0", "3", "7", "9"}


def test_1w_holds_10001_passages(tmp_path):
    """The recipe's own number, from a collection that goes on after it."""
    passages = [f"第{number}段" for number in range(10_050)]
    grades = [(1, 10_000, 1), (2, 10_001, 3), (3, 4, 2)]
    folder = write_t2(tmp_path / "t2ranking", passages, {1: "甲", 2: "乙", 3: "丙"}, grades)
    item = planned(folder, card_of("T2RRetrieval-1W"))
    corpus, queries, relevant, _ = rows(item)
    assert len(corpus) == 10_001
    assert (next(iter(corpus)), list(corpus)[-1]) == ("0", "10000")
    assert set(queries) == {"1", "3"}
    assert relevant["1"] == {"10000": 1}
    assert item.rows == 2
    sizes = {made.name: made.passages for made in CARDS if made.files == "t2ranking" and made.kind == "retrieval"}
    assert sizes == {
        "T2RRetrieval-1W": 10_000,
        "T2RRetrieval-10W": 100_000,
        "T2RRetrieval-50W": 500_000,
        "T2RRetrieval-full": None,
    }


def test_passages_lie_in_a_mapped_file_that_is_written_once(tmp_path):
    folder = write_t2(tmp_path / "t2ranking")
    first = planned(folder, card(passages=10))
    files = sorted((tmp_path / "cache" / "t2ranking").rglob("*.arrow"))
    assert len(files) == 1
    stamp = files[0].stat().st_mtime_ns
    again = planned(folder, card(passages=10))
    assert files[0].stat().st_mtime_ns == stamp
    assert again.revision == first.revision
    corpus = again.task.dataset["default"]["dev"]["corpus"]
    assert corpus.cache_files[0]["filename"] == str(files[0])
    assert planned(folder, card(passages=11)).revision != first.revision


def test_a_collection_that_changed_is_read_again(tmp_path):
    folder = write_t2(tmp_path / "t2ranking")
    first = planned(folder, card(passages=10))
    write_t2(folder, [f"新{text}" for text in PASSAGES])
    os.utime(folder / "collection.tsv", ns=(1, 1))
    second = planned(folder, card(passages=10))
    assert rows(second)[0]["0"] == f"新{PASSAGES[0]}"
    assert second.revision != first.revision


def test_reranking_needs_both_sides_of_grade_2(tmp_path):
    folder = write_t2(tmp_path / "t2ranking")
    corpus, queries, relevant, candidates = rows(planned(folder, card_of("T2RReranking")))
    # 3 has no grade 2, 8 neither, 9 nothing below it
    assert relevant == {"0": {"0": 1, "1": 0, "14": 1}, "7": {"10": 1, "3": 0}}
    assert candidates == {"0": ["0", "1", "14"], "7": ["10", "3"]}
    assert set(queries) == {"0", "7"}
    assert set(corpus) == {"0", "1", "14", "10", "3"}


def test_reranking_merges_queries_of_one_text(tmp_path):
    queries = {1: "甲", 2: "甲", 3: "乙"}
    grades = [(1, 0, 3), (2, 1, 0), (2, 0, 1), (3, 2, 2), (3, 3, 1)]
    folder = write_t2(tmp_path / "t2ranking", queries=queries, grades=grades)
    _, found, relevant, _ = rows(planned(folder, card_of("T2RReranking")))
    assert found == {"1": "甲", "3": "乙"}
    assert relevant["1"] == {"0": 1, "1": 0}


def test_scores_are_pytrec_evals_and_the_official_rule_stands_beside(tmp_path):
    """Linear gains of all grades; the official figures count grade 2 and 3 alike, and fewer queries."""
    write_t2(tmp_path / "t2ranking")
    generator = np.random.default_rng(5)
    scores = {
        (str(query), str(number)): float(generator.integers(0, 8))
        for query in QUERIES
        for number in range(len(PASSAGES))
    }
    result = m3e.evaluate(Ranker(scores), ["T2RRetrieval-full"], data=tmp_path).results[0]
    grades, official = {}, {}
    for query, passage, grade in GRADES:
        if query != 8:
            grades.setdefault(str(query), {})[str(passage)] = grade
        if grade >= 2:
            official.setdefault(str(query), {})[str(passage)] = 1
    ranked = {query: {str(number): scores[query, str(number)] for number in range(len(PASSAGES))} for query in grades}

    def mean(judged, measure):
        found = pytrec_eval.RelevanceEvaluator(judged, {measure}).evaluate({query: ranked[query] for query in judged})
        name = measure.replace(".", "_")
        return sum(values[name] for values in found.values()) / len(found)

    assert (result.task, result.split, result.metric, result.n) == ("T2RRetrieval-full", "dev", "ndcg_at_10", 4)
    assert result.score == pytest.approx(mean(grades, "ndcg_cut.10"), abs=1e-5)
    assert result.scores["map_at_10"] == pytest.approx(mean(grades, "map_cut.10"), abs=1e-5)
    assert result.scores["official/ndcg_at_10"] == pytest.approx(mean(official, "ndcg_cut.10"), abs=1e-5)
    assert result.scores["official/recall_at_50"] == pytest.approx(1.0)
    assert result.scores["official/n"] == 3
    assert result.scores["official/mrr_at_10"] > 0
    assert result.scores["official/ndcg_at_10"] != result.score


def test_sizes_are_results_of_their_own(tmp_path, mini):
    write_t2(tmp_path / "data" / "t2ranking")
    names = ["T2RRetrieval-1W", "T2RRetrieval-10W", "T2RRetrieval-50W", "T2RRetrieval-full", "T2RReranking"]
    results = m3e.evaluate(mini, names, data=tmp_path / "data", out=tmp_path / "out")
    assert [score.task for score in results.results] == names
    assert results.results[-1].metric == "map_at_1000"
    assert len(list((tmp_path / "out").rglob("T2R*.json"))) == 5
    json.dumps(results.as_dict(), allow_nan=False)
    named = {result_name(score.task, score.recipe, score.data_revision, score.prompts) for score in results.results}
    assert len(named) == 5


def test_only_the_smallest_size_runs_unasked(tmp_path, mini):
    write_t2(tmp_path / "t2ranking")
    results = m3e.evaluate(mini, data=tmp_path)
    assert [score.task for score in results.results] == ["T2RRetrieval-1W"]
    for name in ("T2RReranking", "T2RRetrieval-10W", "T2RRetrieval-50W", "T2RRetrieval-full"):
        assert results.missing[name] == "here, but large: it runs where --task names it"


def test_missing_files_are_named(tmp_path, mini):
    folder = write_t2(tmp_path / "t2ranking")
    (folder / "qrels.dev.tsv").unlink()
    missing = m3e.evaluate(mini, ["T2RRetrieval-1W"], data=tmp_path).missing
    assert missing["T2RRetrieval-1W"].startswith("qrels.dev.tsv not in ")
    assert "THUIR/T2Ranking" in missing["T2RRetrieval-1W"]
    assert LocalFolder.open(tmp_path).files == {}


@pytest.mark.parametrize(
    ("file", "line", "words"),
    [
        ("collection.tsv", "3 ohne Tab", r"collection\.tsv, line 17: 1 cells, not 2"),
        ("collection.tsv", "x\ttext", r"collection\.tsv, line 17: 'x' is no number"),
        ("qrels.dev.tsv", "1\t2\tgut", r"qrels\.dev\.tsv, line 12: .* is not qid, pid and rel"),
        ("qrels.dev.tsv", "0\t99\t3", "1 judged passages are not in the collection, the first is 99"),
    ],
)
def test_damaged_files_are_refused_by_line(tmp_path, file, line, words):
    folder = write_t2(tmp_path / "t2ranking")
    with (folder / file).open("a", encoding="utf-8") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(DataError, match=words):
        planned(folder, card("T2RRetrieval-full", None))


def test_quotes_are_characters(tmp_path):
    folder = write_t2(tmp_path / "t2ranking", ['"双十一"大促', '一半"', *PASSAGES[2:]])
    corpus, _, _, _ = rows(planned(folder, card(passages=10)))
    assert (corpus["0"], corpus["1"], len(corpus)) == ('"双十一"大促', '一半"', 11)


def test_arrays_give_the_figures_of_dictionaries(tmp_path, mini, monkeypatch):
    """Where the answers are many they stay arrays, and the official figures are made from those."""
    write_t2(tmp_path / "t2ranking")
    expected = m3e.evaluate(mini, ["T2RRetrieval-full"], data=tmp_path).results[0]
    made = []
    only = m3e.evaluation.mteb_search.ArrayRun.only
    monkeypatch.setattr(m3e.evaluation.mteb_search, "ARRAY_ENTRIES", 0)
    monkeypatch.setattr(
        m3e.evaluation.mteb_search.ArrayRun, "only", lambda run, queries: made.append(len(run)) or only(run, queries)
    )
    found = m3e.evaluate(mini, ["T2RRetrieval-full"], data=tmp_path).results[0]
    assert made == [4]
    assert found.scores.keys() == expected.scores.keys()
    assert found.scores == pytest.approx(expected.scores, abs=1e-5)
    assert found.scores["official/n"] == 3
