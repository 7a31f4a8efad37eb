from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from m3e.data.keys import text_key
from m3e.data.reading import read_records
from m3e.errors import DataError, ModelError, OutputExistsError, SettingsError
from m3e.mining import EmbeddingOptions, MiningOptions, mine
from m3e.mining.hard_negatives import plan_mining
from m3e.records import Kind
from tests.fake_embeddings import FakeServer, vector_of
from tests.mining.mining_rows import common_characters, pairs, read_jsonl, write_jsonl

FP32 = EmbeddingOptions(dtype="fp32", device="cpu")
LOOSE = {"relative_margin": None}


def mined(folder: Path, rows: list[dict[str, Any]], model: Any, options: MiningOptions, **more: Any) -> list[Any]:
    source = write_jsonl(folder / "rows.jsonl", rows)
    mine(source, folder / "mined.jsonl", model, options, FP32, overwrite=True, **more)
    return read_jsonl(folder / "mined.jsonl")


def answers_of(rows: list[dict[str, str]]) -> dict[str, set[str]]:
    answers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        answers[text_key(row["text"])].add(text_key(row["text_pos"]))
    return answers


@pytest.mark.parametrize(
    ("options", "theirs", "corpus"),
    [
        (MiningOptions(negatives=3, ranks=(0, 30), **LOOSE), {}, False),
        (MiningOptions(negatives=4, ranks=(10, 30), **LOOSE), {}, False),
        (MiningOptions(negatives=3, relative_margin=0.05), {"relative_margin": 0.05}, False),
        (MiningOptions(negatives=3, absolute_margin=0.1, **LOOSE), {"absolute_margin": 0.1}, False),
        (
            MiningOptions(negatives=5, max_score=0.95, min_score=0.3, **LOOSE),
            {"max_score": 0.95, "min_score": 0.3},
            False,
        ),
        (MiningOptions(negatives=3, relative_margin=0.05), {"relative_margin": 0.05}, True),
    ],
)
def test_the_negatives_of_sentence_transformers(
    tmp_path: Path, mini: Any, mini_folder: Path, options: MiningOptions, theirs: dict[str, float], corpus: bool
) -> None:
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    rows = pairs(120)
    more = [row["text_pos"] for row in pairs(60, seed=9)]
    found = mine_hard_negatives(
        Dataset.from_list(rows),
        mini,
        corpus=more if corpus else None,
        range_min=options.ranks[0],
        range_max=options.ranks[1],
        num_negatives=options.negatives,
        output_format="triplet",
        verbose=False,
        **theirs,
    )
    expected: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in found:
        expected[row["text"], row["text_pos"]].append(row["negative"])
    path = write_jsonl(tmp_path / "more.jsonl", [{"text": text} for text in more]) if corpus else None
    ours = {
        (row["query"], row["pos"][0]): row["neg"] for row in mined(tmp_path, rows, mini_folder, options, corpus=path)
    }
    assert {pair: negatives for pair, negatives in ours.items() if negatives} == dict(expected)
    assert sum(map(len, ours.values())) > 60


def test_never_an_answer_of_the_query_nor_the_query_nor_one_that_shares_an_answer(
    tmp_path: Path, mini_folder: Path
) -> None:
    rows = pairs(90)
    # questions stand among the passages, under other spellings too, and so do other spellings of answers
    rows += [{"text": f"{row['text']}又", "text_pos": row["text"].upper()} for row in rows[:30]]
    rows += [{"text": f"{row['text']}再", "text_pos": f"{row['text_pos']}！！"} for row in rows[:30]]
    answers = answers_of(rows)
    report_rows = mined(tmp_path, rows, mini_folder, MiningOptions(negatives=20, ranks=(0, 60), **LOOSE))
    assert len(report_rows) == len(rows)
    asked_by = defaultdict(set)
    for query, found in answers.items():
        for answer in found:
            asked_by[answer].add(query)
    for row in report_rows:
        query, keys = text_key(row["query"]), [text_key(text) for text in row["neg"]]
        assert len(keys) == 20
        assert len(set(keys)) == len(keys)
        related = {query, *answers[query], *asked_by[query]}
        related |= {other for answer in answers[query] for other in asked_by[answer]}
        assert related.isdisjoint(keys)


def test_a_paraphrase_planted_as_a_false_negative_is_dropped_by_the_margin(tmp_path: Path) -> None:
    rows = [
        {"text": "怎么申请退货", "text_pos": "申请退货的方法：在订单页面点击退货按钮，填写原因。"},
        {"text": "天气", "text_pos": "申请退货的办法：在订单页面点退货按钮，写明原因。"},
        {"text": "积分", "text_pos": "申请退款要多久：审核后三天内原路退回。"},
        {"text": "番茄", "text_pos": "阳台的番茄叶子发黄，多半是浇水太多。"},
        {"text": "地址", "text_pos": "发货前可以修改收货地址。"},
    ]
    planted = rows[1]["text_pos"]
    near = mined(tmp_path, rows, "m3e-static", MiningOptions(negatives=2, **LOOSE))
    assert planted in near[0]["neg"]
    source = tmp_path / "rows.jsonl"
    report = mine(source, tmp_path / "b.jsonl", "m3e-static", MiningOptions(negatives=2), FP32)
    assert planted not in read_jsonl(tmp_path / "b.jsonl")[0]["neg"]
    assert rows[2]["text_pos"] in read_jsonl(tmp_path / "b.jsonl")[0]["neg"]
    assert report.total("skipped")["relative_margin"] >= 1


def test_fewer_than_asked_are_counted_and_said(tmp_path: Path, mini_folder: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", pairs(6))
    report = mine(source, tmp_path / "m.jsonl", mini_folder, MiningOptions(negatives=7, **LOOSE), FP32)
    rows = read_jsonl(tmp_path / "m.jsonl")
    counts = report.total("negatives")
    assert counts["mined"] == sum(len(row["neg"]) for row in rows)
    assert counts["short"] == sum(len(row["neg"]) < 7 for row in rows) == 6
    assert counts["none"] == sum(not row["neg"] for row in rows)


def test_scores_are_the_cosines(tmp_path: Path, mini: Any, mini_folder: Path) -> None:
    options = MiningOptions(negatives=3, scores=True, **LOOSE)
    for row in mined(tmp_path, pairs(20), mini_folder, options):
        query = mini.encode_query([row["query"]], normalize_embeddings=True)
        for texts, scores in ((row["pos"], row["pos_scores"]), (row["neg"], row["neg_scores"])):
            vectors = mini.encode_document(texts, normalize_embeddings=True)
            np.testing.assert_allclose(scores, (vectors @ query.T)[:, 0], atol=2e-6)
        assert row["neg_scores"] == sorted(row["neg_scores"], reverse=True)


def test_prompts_of_our_own_and_alike_sides(tmp_path: Path, mini: Any, mini_folder: Path) -> None:
    rows = pairs(12)
    write_jsonl(tmp_path / "rows.jsonl", rows)
    options = MiningOptions(negatives=1, scores=True, **LOOSE)
    own = EmbeddingOptions("快", "慢", dtype="fp32", device="cpu")
    mine(tmp_path / "rows.jsonl", tmp_path / "own.jsonl", mini_folder, options, own)
    mine(tmp_path / "rows.jsonl", tmp_path / "alike.jsonl", mini_folder, options, FP32, symmetric=True)

    def cosine(row: dict[str, Any], query: str, passage: str) -> float:
        first, second = mini.encode([query + row["query"], passage + row["pos"][0]], normalize_embeddings=True)
        return float(first @ second)

    for row in read_jsonl(tmp_path / "own.jsonl"):
        assert row["pos_scores"] == [pytest.approx(cosine(row, "快", "慢"), abs=2e-6)]
    for row in read_jsonl(tmp_path / "alike.jsonl"):
        assert row["pos_scores"] == [pytest.approx(cosine(row, "问", "问"), abs=2e-6)]


def test_negatives_that_rows_have_are_kept_first_or_replaced(tmp_path: Path, mini_folder: Path) -> None:
    base = pairs(30)
    rows = [{**row, "text_neg": f"猫狗{index}"} for index, row in enumerate(base)]
    rows[3]["text_neg"] = rows[3]["text_pos"] + "。"
    kept = mined(tmp_path, rows, mini_folder, MiningOptions(negatives=2, **LOOSE))
    for index, row in enumerate(kept):
        given = [] if index == 3 else [rows[index]["text_neg"]]
        assert row["neg"][: len(given)] == given
        assert len(row["neg"]) == len(given) + 2
        assert len({text_key(text) for text in row["neg"]}) == len(row["neg"])
    replaced = mined(tmp_path, rows, mini_folder, MiningOptions(negatives=2, replace=True, **LOOSE))
    assert [len(row["neg"]) for row in replaced] == [2] * 30
    source = tmp_path / "rows.jsonl"
    report = mine(source, tmp_path / "c.jsonl", mini_folder, MiningOptions(negatives=2, **LOOSE), FP32)
    assert report.total("negatives")["given_positives"] == 1


def test_random_negatives_by_seed(tmp_path: Path, mini_folder: Path) -> None:
    def drawn(**more: Any) -> list[list[str]]:
        options = MiningOptions(negatives=3, ranks=(2, 30), sampling="random", **LOOSE, **more)
        return [row["neg"] for row in mined(tmp_path, pairs(60), mini_folder, options)]

    first = drawn(seed=1)
    assert drawn(seed=1) == first
    assert drawn(seed=2) != first
    ranked = mined(tmp_path, pairs(60), mini_folder, MiningOptions(negatives=28, ranks=(2, 30), **LOOSE))
    for some, every in zip(first, ranked, strict=True):
        assert [text for text in every["neg"] if text in some] == some


def test_a_reranker_drops_likely_positives(tmp_path: Path, mini_folder: Path) -> None:
    rows = pairs(40)
    free = MiningOptions(negatives=3, ranks=(0, 30), **LOOSE)
    before = mined(tmp_path, rows, mini_folder, free)
    source = tmp_path / "rows.jsonl"
    report = mine(source, tmp_path / "r.jsonl", mini_folder, free, FP32, reranker=common_characters)
    after = read_jsonl(tmp_path / "r.jsonl")
    lowest: dict[str, float] = {}
    for row in rows:
        value = common_characters([(row["text"], row["text_pos"])])[0]
        lowest[row["text"]] = min(value, lowest.get(row["text"], 1.0))
    dropped = 0
    for row, other in zip(after, before, strict=True):
        scores = common_characters([(row["query"], text) for text in row["neg"]])
        assert all(score < np.float32(lowest[row["query"]]) for score in scores)
        dropped += len(set(other["neg"]) - set(row["neg"]))
    assert dropped > 10
    assert report.total("skipped")["reranker"] >= dropped


def test_a_reranker_that_fails_is_named(tmp_path: Path, mini_folder: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", pairs(10))
    with pytest.raises(ModelError, match="not a finite number"):
        mine(source, tmp_path / "m.jsonl", mini_folder, reranker=lambda rows: [float("nan")] * len(rows))
    assert not (tmp_path / "m.jsonl").exists()


def test_consistency_is_a_rank_among_all_other_passages(tmp_path: Path, mini: Any, mini_folder: Path) -> None:
    rows = pairs(80)
    answers = answers_of(rows)
    passages = list(dict.fromkeys(row["text_pos"] for row in rows))
    vectors = mini.encode_document(passages, normalize_embeddings=True)
    expected = []
    for row in rows:
        scores = vectors @ mini.encode_query([row["text"]], normalize_embeddings=True)[0]
        own = scores[passages.index(row["text_pos"])]
        others = [
            score
            for text, score in zip(passages, scores, strict=True)
            if text_key(text) not in answers[text_key(row["text"])]
        ]
        if sum(score > own for score in others) < 20:
            expected.append(row)
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    report = mine(source, tmp_path / "m.jsonl", mini_folder, MiningOptions(negatives=0, consistency=20), FP32)
    assert read_jsonl(tmp_path / "m.jsonl") == expected
    assert 5 < len(expected) < 75
    assert report.total("dropped") == {"inconsistent": 80 - len(expected)}
    assert (report.rows_in, report.rows_out) == (80, len(expected))


def test_a_pool_limits_the_search_by_the_seed(tmp_path: Path, mini_folder: Path) -> None:
    def seen(seed: int) -> set[str]:
        options = MiningOptions(negatives=5, pool=12, seed=seed, **LOOSE)
        return {text for row in mined(tmp_path, pairs(60), mini_folder, options) for text in row["neg"]}

    assert len(seen(1)) <= 12
    assert seen(1) == seen(1)
    assert seen(1) != seen(2)


def test_kinds_of_files_and_endings(tmp_path: Path, mini_folder: Path) -> None:
    ranked = [{"query": row["text"], "pos": [row["text_pos"], f"{row['text_pos']}好"], "neg": []} for row in pairs(20)]
    source = write_jsonl(tmp_path / "ranked.jsonl", ranked)
    mine(source, tmp_path / "m.parquet", mini_folder, MiningOptions(negatives=2), FP32)
    assert "dataset" not in pq.read_schema(tmp_path / "m.parquet").names
    again = read_records(tmp_path / "m.parquet")
    assert again.kind is Kind.RANKED
    assert [list(record.pos) for record in again.records] == [row["pos"] for row in ranked]
    scored = write_jsonl(tmp_path / "s.jsonl", [{"sentence1": "今天", "sentence2": "天气", "label": 1.0}])
    with pytest.raises(DataError, match=r"s holds scored pair rows; wanted are pair rows"):
        mine(scored, tmp_path / "x.jsonl", mini_folder)
    texts = write_jsonl(tmp_path / "t.jsonl", [{"text": "今天"}])
    with pytest.raises(DataError, match="single texts"):
        mine(texts, tmp_path / "x.jsonl", mini_folder)


def test_outputs_that_are_refused_before_the_work(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", pairs(3))
    there = write_jsonl(tmp_path / "there.jsonl", [])
    with pytest.raises(OutputExistsError, match="--overwrite"):
        mine(source, there, "no-such-model")
    with pytest.raises(SettingsError, match="is the input"):
        mine(source, source, "no-such-model", overwrite=True)
    with pytest.raises(SettingsError, match=r"\.jsonl or \.parquet"):
        mine(source, tmp_path / "m.csv", "no-such-model")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("keep")
    with pytest.raises(OutputExistsError, match="foreign"):
        mine(source, tmp_path / "m.jsonl", "no-such-model", work=tmp_path / "foreign")
    assert (tmp_path / "foreign" / "notes.txt").read_text() == "keep"


def test_vectors_of_a_kept_work_folder_serve_again(
    tmp_path: Path, mini_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from m3e.mining.embedding import ModelEmbedder

    source = write_jsonl(tmp_path / "rows.jsonl", pairs(30))
    encoded: list[int] = []
    encode = ModelEmbedder.encode
    monkeypatch.setattr(
        ModelEmbedder,
        "encode",
        lambda self, texts, side: (encoded.append(len(texts)), encode(self, texts, side))[1],
    )
    work = tmp_path / "work"
    mine(source, tmp_path / "a.jsonl", mini_folder, MiningOptions(negatives=2), FP32, work=work)
    assert sum(encoded) == len({row["text"] for row in pairs(30)} | {row["text_pos"] for row in pairs(30)})
    encoded.clear()
    mine(source, tmp_path / "b.jsonl", mini_folder, MiningOptions(negatives=4, ranks=(3, 20)), FP32, work=work)
    assert encoded == []
    shutil.rmtree(work)
    mine(source, tmp_path / "c.jsonl", mini_folder, MiningOptions(negatives=4, ranks=(3, 20)), FP32)
    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "c.jsonl").read_bytes()
    assert not list(tmp_path.glob(".*.work"))


def test_a_run_that_stopped_while_it_searched_goes_on(
    tmp_path: Path, mini_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import m3e.mining.search as search

    monkeypatch.setattr(search, "QUERIES_AT_ONCE", 7)
    source = write_jsonl(tmp_path / "rows.jsonl", pairs(60))
    options = MiningOptions(negatives=3, consistency=30)
    mine(source, tmp_path / "whole.jsonl", mini_folder, options, FP32)
    block, asked = search._Search.block, []

    def stopping(self: Any, start: int, stop: int) -> Any:
        asked.append(start)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return block(self, start, stop)

    monkeypatch.setattr(search._Search, "block", stopping)
    with pytest.raises(KeyboardInterrupt):
        mine(source, tmp_path / "m.jsonl", mini_folder, options, FP32)
    assert not (tmp_path / "m.jsonl").exists()
    mine(source, tmp_path / "m.jsonl", mini_folder, options, FP32)
    assert asked[3] == asked[4] == 21
    assert (tmp_path / "m.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_corpus_of_which_rows_are_blank_or_no_text(tmp_path: Path, mini_folder: Path) -> None:
    source = write_jsonl(tmp_path / "rows.jsonl", pairs(8))
    corpus = write_jsonl(tmp_path / "corpus.jsonl", [{"text": "\u200b"}, {"text": "猫狗树叶"}, {"text": "猫狗树叶"}])
    said: list[str] = []
    options = MiningOptions(negatives=7, **LOOSE)
    mine(source, tmp_path / "m.jsonl", mini_folder, options, FP32, corpus=corpus, say=said.append)
    assert "corpus.jsonl: 1 blank rows left out" in said
    rows = read_jsonl(tmp_path / "m.jsonl")
    assert any("猫狗树叶" in row["neg"] for row in rows)
    assert not any("\u200b" in row["neg"] for row in rows)
    write_jsonl(corpus, [{"text": "猫"}, {"text": 3}])
    with pytest.raises(DataError, match=r"corpus\.jsonl.*row 2"):
        mine(source, tmp_path / "n.jsonl", mini_folder, corpus=corpus)


def test_a_plan_counts_and_leaves_nothing(tmp_path: Path) -> None:
    rows = pairs(30)
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    queries, passages = ({row[name] for row in rows} for name in ("text", "text_pos"))
    assert plan_mining(source) == [
        {
            "set": "rows",
            "kind": "pair",
            "rows": 30,
            "queries": len(queries),
            "passages": len(passages),
            "comparisons": len(queries) * len(passages),
        }
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_model_behind_an_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M3E_CACHE", str(tmp_path / "cache"))
    rows = pairs(15)
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    options = MiningOptions(negatives=2, scores=True, **LOOSE)
    with FakeServer() as server:
        report = mine(source, tmp_path / "m.jsonl", f"api:{server.url}#small", options)
        with pytest.raises(SettingsError, match="runs on its server"):
            mine(source, tmp_path / "n.jsonl", f"api:{server.url}#small", options, FP32)
    assert report.models[0].name.startswith("small@")
    for row in read_jsonl(tmp_path / "m.jsonl"):
        vectors = [vector_of("small", text) for text in (row["query"], *row["neg"])]
        assert row["neg_scores"] == pytest.approx([float(vectors[0] @ vector) for vector in vectors[1:]], abs=1e-5)
