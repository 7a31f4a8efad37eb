"""Models that are not ours: endpoints, BM25, TF-IDF; and mteb's own test of a model's every task shape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from evaluation_sets import (
    CORPUS,
    JUDGEMENTS,
    LIKENESS,
    ORDERS,
    QUERIES,
    SENTENCES1,
    SENTENCES2,
    TEST,
    TRAIN,
    WEATHER,
    write,
    write_collection,
    write_pairs,
    write_texts,
)

import m3e
from m3e.errors import DataError, ModelError, SettingsError
from m3e.evaluation.bm25_model import Bm25Model
from m3e.evaluation.mteb_model import MtebEncoder
from m3e.evaluation.vector_model import VectorModel
from m3e.inference import ApiEncoder, ApiOptions, Encoder, TfidfEncoder
from tests.fake_embeddings import FakeServer

QUICK = ApiOptions(backoff=0.01, timeout=1.0, retries=5)
SEARCHING = ["bm25", "tfidf", "mini"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M3E_CACHE", str(tmp_path_factory.mktemp("cache")))
    for name in ("M3E_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


@pytest.fixture
def score(tmp_path: Path, mini: Any):
    """``score(model)``: the results of suite local over the test's folder; ``mini`` is the miniature model."""

    def run(model: str, **options: Any) -> m3e.evaluation.Results:
        results = m3e.evaluate(mini if model == "mini" else model, suite="local", data=tmp_path, **options)
        text = json.dumps(results.as_dict(), allow_nan=False)
        assert json.loads(text)["model"] == results.model
        return results

    return run


@pytest.fixture
def all_kinds(tmp_path: Path) -> Path:
    """One local set of each kind."""
    write_pairs(tmp_path / "sts.test.parquet")
    write_pairs(tmp_path / "pairs.test.parquet", [int(label >= 3) for label in LIKENESS])
    (tmp_path / "pairs.json").write_text('{"type": "pair_classification"}')
    write_texts(tmp_path / "texts.train.parquet", TRAIN)
    write_texts(tmp_path / "texts.test.parquet", TEST)
    write_collection(tmp_path, "find.test")
    write_collection(tmp_path, "rank.test")
    query_ids = [query for query in QUERIES for _ in range(12)]
    documents = [document for _ in QUERIES for document in list(CORPUS)[:12]]
    write(tmp_path / "rank.test.candidates.parquet", query_id=query_ids, doc_id=documents)
    return tmp_path


def test_bm25_retrieves_and_reranks_and_says_that_it_does_nothing_else(all_kinds: Path, score) -> None:
    results = score("bm25", out=all_kinds / "out")
    assert (results.model, [one.task for one in results.results]) == ("bm25", ["find.test", "rank.test"])
    assert all(one.score >= 0.75 for one in results.results)
    assert set(results.missing) == {"sts.test", "pairs.test", "texts.test"}
    assert all("needs vectors, and this model only searches" in reason for reason in results.missing.values())
    assert len(list((all_kinds / "out" / "bm25" / results.revision).glob("*.json"))) == 2


def test_tfidf_is_the_floor_of_every_kind(all_kinds: Path, score) -> None:
    results = score("tfidf")
    found = {one.task: one.score for one in results.results}
    assert (results.model, results.missing) == ("tfidf", {})
    assert set(found) == {"sts.test", "pairs.test", "texts.test", "find.test", "rank.test"}
    assert found["find.test"] > 0.9
    assert found["texts.test"] > 0.8


def test_the_command_ends_with_3_where_bm25_cannot_score(all_kinds: Path, score, monkeypatch, capsys) -> None:
    from m3e.cli import main

    monkeypatch.chdir(all_kinds)
    monkeypatch.setattr("sys.argv", ["m3e", "eval", "bm25", "--suite", "local", "--data", ".", "--json", "r.json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    assert "sts.test is missing" in capsys.readouterr().err
    value = json.loads(Path("r.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert (value["model"], len(value["results"]), len(value["missing"])) == ("bm25", 2, 3)


def test_traditional_and_simplified_are_one_script_for_bm25(tmp_path: Path, score) -> None:
    corpus = {"1": "訂單怎麼退貨", "2": "今天天氣很好", "3": "番茄葉子發黃", "4": "发票怎么下载"}
    queries = {"a": "退货", "b": "天气", "c": "叶子发黄", "d": "發票下載"}
    judged = [("a", "1", 1), ("b", "2", 1), ("c", "3", 1), ("d", "4", 1)]
    write_collection(tmp_path, "script.test", corpus, queries, judged)
    assert score("bm25").results[0].score == 1.0


TYPES = [
    (lambda number: number, pa.int64(), pa.int32(), pa.string(), pa.float64()),
    (lambda number: number, pa.uint8(), pa.int64(), pa.string(), pa.int8()),
    (lambda number: number, pa.float64(), pa.string(), pa.large_string(), pa.float32()),
    (lambda number: number, pa.string(), pa.dictionary(pa.int32(), pa.string()), pa.int16(), pa.bool_()),
    (lambda number: number, pa.binary(), pa.string(), pa.large_binary(), pa.string()),
    (lambda number: number, pa.int64(), pa.int64(), pa.int64(), pa.decimal128(3, 1)),
]


@pytest.mark.parametrize("model", SEARCHING)
@pytest.mark.parametrize("types", TYPES, ids=lambda types: "-".join(map(str, types[1:])).replace(" ", ""))
def test_19_ids_and_relevance_of_any_type(tmp_path: Path, score, model: str, types: tuple[Any, ...]) -> None:
    _, corpus_type, query_type, judged_type, score_type = types
    texts = [WEATHER[0], ORDERS[0], ORDERS[2], ORDERS[3]]

    def ids(numbers: list[int], kind: pa.DataType) -> pa.Array:
        if pa.types.is_dictionary(kind):
            return pa.array([str(number) for number in numbers]).dictionary_encode()
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return pa.array([str(number) for number in numbers], kind)
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return pa.array([str(number).encode() for number in numbers], kind)
        return pa.array(numbers, kind)

    grades: dict[Any, Any] = {pa.bool_(): True, pa.string(): "1.0", pa.decimal128(3, 1): Decimal("1.0")}
    write(tmp_path / "t.test.corpus.parquet", id=ids([7, 8, 9, 10], corpus_type), text=texts)
    write(tmp_path / "t.test.queries.parquet", id=ids([70, 80, 90, 100], query_type), text=texts)
    write(
        tmp_path / "t.test.qrels.parquet",
        query_id=ids([70, 80, 90, 100], judged_type),
        doc_id=ids([7, 8, 9, 10], judged_type),
        score=pa.array([grades.get(score_type, 1)] * 4, score_type),
    )
    one = score(model).results[0]
    assert (one.task, one.metric, one.n, one.score) == ("t.test", "ndcg_at_10", 4, 1.0)


@pytest.mark.parametrize("grade", [0.5, "high", float("nan"), None, date(2024, 1, 1)])
def test_19_relevance_that_is_no_grade_is_refused(tmp_path: Path, score, grade: Any) -> None:
    write_collection(tmp_path, "t.test")
    write(tmp_path / "t.test.qrels.parquet", query_id=["q1"], doc_id=["d0"], score=[grade])
    with pytest.raises(DataError, match=r"t\.test.*grades are 0, 1, 2"):
        score("bm25")


@pytest.mark.parametrize("model", SEARCHING)
def test_21_queries_without_judgements_change_no_score(tmp_path: Path, score, model: str) -> None:
    write_collection(tmp_path, "x.test", queries={name: QUERIES[name] for name in ("q1", "q2", "q4")})
    with pytest.raises(DataError):  # q3 is judged, and not there
        score(model)
    judged = [row for row in JUDGEMENTS if row[0] != "q3"]
    write_collection(
        tmp_path, "x.test", queries={name: QUERIES[name] for name in ("q1", "q2", "q4")}, judgements=judged
    )
    whole = score(model)
    write_collection(tmp_path, "x.test", judgements=judged)
    holed = score(model)
    assert holed.results == whole.results
    assert (holed.results[0].n, whole.notes) == (3, [])
    assert holed.notes == ["x.test: 1 queries without a relevant document were left out: q3"]


@pytest.mark.parametrize("model", SEARCHING)
@pytest.mark.parametrize("lost", [["d99"], ["d99", "d100", "d99x"]])
def test_21_judgements_of_missing_documents_are_refused_by_name(tmp_path, score, model: str, lost: list[str]) -> None:
    write_collection(tmp_path, "x.test", judgements=JUDGEMENTS + [("q3", name, 1) for name in lost])
    with pytest.raises(DataError, match=rf"x\.test: {len(lost)} judgements .*documents.* d99"):
        score(model)


@pytest.mark.parametrize("model", SEARCHING)
def test_a_document_with_the_querys_id_is_found(tmp_path: Path, score, model: str) -> None:
    corpus = {"1": ORDERS[0], "2": WEATHER[0], "3": WEATHER[3]}
    write_collection(tmp_path, "x.test", corpus, {"1": ORDERS[0], "2": WEATHER[0]}, [("1", "1", 1), ("2", "2", 1)])
    assert score(model).results[0].score == 1.0


@pytest.mark.parametrize("model", SEARCHING)
def test_empty_documents_are_never_ranked_and_empty_queries_are_scored(tmp_path: Path, score, model: str) -> None:
    corpus = {"e": "", "f": ORDERS[0], "b": "　\u200b ", "g": WEATHER[0]}
    queries = {"q": ORDERS[0], "none": ""}
    write_collection(tmp_path, "x.test", corpus, queries, [("q", "f", 1), ("none", "g", 1)])
    results = score(model, out=tmp_path / "out")
    one = results.results[0]
    assert one.n == 2
    assert 0.5 <= one.score <= 1.0
    assert "2 empty documents were left out: e, b" in results.notes[0]
    for path in (tmp_path / "out").rglob("*.json"):
        json.loads(path.read_text("utf-8"), parse_constant=pytest.fail)


@pytest.mark.parametrize("model", SEARCHING)
def test_equal_relevance_and_equal_documents_give_numbers(tmp_path: Path, score, model: str) -> None:
    corpus = {f"d{number}": WEATHER[0] for number in range(5)}
    write_collection(tmp_path, "x.test", corpus, {"q": WEATHER[0]}, [("q", name, 1) for name in corpus])
    assert score(model).results[0].score == 1.0


def test_equal_labels_are_refused_whatever_the_model(tmp_path: Path, score) -> None:
    write_pairs(tmp_path / "x.test.parquet", [1.0] * 15)
    with pytest.raises(DataError, match="every label is 1"):
        score("tfidf")


def test_texts_without_a_word_have_no_score_instead_of_nan(tmp_path: Path, score) -> None:
    write(tmp_path / "x.test.parquet", sentence1=["", "。", " "], sentence2=["！", "", "？"], label=[0.0, 1.0, 2.0])
    results = score("tfidf")
    assert results.results == []
    assert "not a number" in results.missing["x.test"]


def test_an_endpoint_is_judged_on_every_kind_and_asked_once(all_kinds: Path, score, server: FakeServer) -> None:
    lines: list[str] = []
    options = ApiOptions(backoff=0.01, price=2.0)
    first = score(server.name, api=options, on_line=lines.append, out=all_kinds / "out")
    assert (first.model, first.missing, len(first.results)) == ("small@127.0.0.1", {}, 5)
    assert set(server.paid.values()) == {1}
    sent = sum(server.paid.values())
    assert lines[0].startswith(f"small@127.0.0.1: {sent} texts to send, about ")
    assert "at 2 per 1M tokens about" in lines[0]
    assert f"{sent} texts sent in" in first.notes[-1]
    again = score(server.name, api=options, on_line=lines.append)
    assert {one.texts_per_second for one in again.results} == {None}  # reading what was kept is no speed
    assert sum(server.paid.values()) == sent
    assert again.results == first.results
    assert "0 texts to send, about 0 tokens" in lines[1]
    assert len(list((all_kinds / "out").rglob("*.json"))) == 5


def test_a_broken_run_names_the_text_and_costs_nothing_twice(all_kinds: Path, score, server: FakeServer) -> None:
    server.odd[ORDERS[3]] = [float("nan")] * 8
    with pytest.raises(ModelError, match=ORDERS[3]):
        score(server.name, api=QUICK)
    server.odd.clear()
    server.script.extend([429, 500, "cut", "close"])
    assert score(server.name, api=QUICK).missing == {}
    assert {text for (_, text), times in server.paid.items() if times > 1} == {ORDERS[3]}


def test_an_endpoints_queries_and_like_texts_go_to_its_query_model(all_kinds: Path, score, server: FakeServer) -> None:
    server.models = ["small", "small:query"]
    score(server.name, api=QUICK)
    sides = {text: {model for model, other in server.paid if other == text} for _, text in server.paid}
    assert sides[QUERIES["q1"]] == {"small:query"}
    assert sides[CORPUS["d0"]] == {"small", "small:query"}  # a document, and a sentence of the pairs
    queries = [text for model, text in server.paid if model == "small:query"]
    assert set(SENTENCES1 + SENTENCES2) <= set(queries)


def test_an_endpoints_prompts_can_be_switched_off(all_kinds: Path, score, server: FakeServer) -> None:
    lines: list[str] = []
    options = ApiOptions(query_prompt="查：", document_prompt="文：", backoff=0.01)
    results = score(server.name, api=options, prompts="both", on_line=lines.append)
    assert [one.prompts for one in results.results] == [True, False] * 5
    asked = [text for _, text in server.paid]
    assert {f"查：{QUERIES['q1']}", QUERIES["q1"], f"文：{CORPUS['d0']}", CORPUS["d0"]} <= set(asked)
    assert lines[0].startswith(f"small@127.0.0.1: {len(asked)} texts to send")
    for model in ("bm25", "tfidf"):
        found = score(model, prompts="off")
        assert f"{model} has no prompts: there is nothing to switch off" in found.notes
        assert all(one.prompts for one in found.results)


def test_an_encoder_of_an_endpoint_is_a_model_too(all_kinds: Path, score, server: FakeServer) -> None:
    encoder = ApiEncoder(server.name, QUICK)
    assert m3e.evaluate(encoder, ["sts.test"], suite="local", data=all_kinds).model == "small@127.0.0.1"
    with pytest.raises(SettingsError, match="prompts and prices"):
        score("tfidf", api=QUICK)


def test_the_share_of_cut_texts_is_in_the_result(tmp_path: Path, mini: Any, score, server: FakeServer) -> None:
    write(
        tmp_path / "x.test.parquet",
        sentence1=[*SENTENCES1[:7], "今" * 300],
        sentence2=SENTENCES2[:8],
        label=LIKENESS[:8],
    )
    server.limit = 100
    for model, options in (("mini", {}), (server.name, {"api": QUICK})):
        results = score(model, out=tmp_path / "out", **options)
        assert results.results[0].truncated == 1 / 16
        assert results.as_dict()["results"][0]["truncated"] == 1 / 16
        assert results.notes[0] == "x.test: 6.25% of its texts were cut to the model's length"
        [path] = (tmp_path / "out" / results.model / results.revision).glob("x.test.local-*.json")
        assert json.loads(path.read_text("utf-8"))["m3e"]["truncated"] == 1 / 16
    assert score("tfidf").results[0].truncated == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model", "shapes"), [("encoder", 28), ("tfidf", 28), ("bm25", 9)])
def test_every_task_shape_of_mteb_runs(mini: Any, model: str, shapes: int) -> None:
    import mteb
    from mteb.results import TaskResult

    made = {
        "encoder": lambda: MtebEncoder(Encoder(mini), "mini"),
        "tfidf": lambda: VectorModel(TfidfEncoder()),
        "bm25": Bm25Model,
    }
    ran = {task: result for task, result in mteb.mock_run(made[model]()).items() if result is not None}
    assert {task: str(result) for task, result in ran.items() if not isinstance(result, TaskResult)} == {}
    assert len(ran) == shapes
