"""Dense, lexical and hybrid search over one store; filters in each of them; rerankers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from m3e.errors import DataError, ModelError, SettingsError, StoreError
from m3e.inference import Encoder
from m3e.retrieval import index_file, open_store, search
from m3e.retrieval import lexical as lexical_module
from m3e.retrieval.bm25 import BM25
from m3e.retrieval.fusion import Fusion
from m3e.retrieval.lexical import lexical_index
from m3e.retrieval.reranking import cross_encoder
from m3e.retrieval.searching import encoder_of
from m3e.retrieval.stores import Hit, Store

ROWS = [
    {"id": "d1", "text": "公园里的荷花七月最好看", "city": "北京", "year": 2020},
    {"id": "d2", "text": "自行车的链条掉了怎么装回去", "city": "上海", "year": 2021},
    {"id": "d3", "text": "腳踏車換鏈條要多少錢", "city": "台北", "year": 2022},
    {"id": "d4", "text": "會員積分可以兌換什麼禮品", "city": "台北", "year": 2023},
    {"id": "d5", "text": "打印机卡纸先断电再取纸", "city": "北京", "year": 2024},
    {"id": "d6", "text": "会议室要提前一天预约", "city": None},
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder("m3e-static")


@pytest.fixture
def store(tmp_path: Path, write_lines: Any, encoder: Encoder) -> Iterator[Store]:
    index_file(write_lines("rows.jsonl", ROWS), str(tmp_path / "store"), encoder, model_name="m3e-static")
    with open_store(str(tmp_path / "store")) as opened:
        yield opened


def ids(hits: list[Hit]) -> list[str]:
    return [hit.id for hit in hits]


def test_dense_scores_are_cosines(store: Store, encoder: Encoder) -> None:
    hits = search(store, encoder, "自行车链条", 6)
    assert hits[0].id == "d2"
    query, document = encoder.encode_query(["自行车链条"])[0], encoder.encode_document([ROWS[1]["text"]])[0]
    assert hits[0].score == pytest.approx(float(query @ document), abs=1e-6)
    assert hits[0].metadata == {"city": "上海", "year": 2021}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_lexical_search_needs_no_encoder_and_one_script(store: Store) -> None:
    hits = search(store, None, "链条", 6, "bm25")
    assert set(ids(hits)) == {"d2", "d3"}
    index = BM25.build([str(row["text"]) for row in ROWS], [row["id"] for row in ROWS])
    assert [hit.score for hit in hits] == pytest.approx(sorted(index.scores("链条", ["d2", "d3"]), reverse=True))
    assert ids(search(store, None, "会员积分", 6, "bm25")) == ["d4"]
    assert search(store, None, "完全无关 xyz", 6, "bm25") == []


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_filters_hold_in_every_mode(store: Store, encoder: Encoder, mode: Any) -> None:
    hits = search(store, encoder, "链条 积分 荷花 打印机 会议室", 6, mode, ["year>=2021", "city!=上海"])
    assert sorted(ids(hits)) == ["d3", "d4", "d5"]
    assert ids(search(store, encoder, "会议室预约", 6, mode, ["city=null"])) == ["d6"]
    assert search(store, encoder, "会议室预约", 6, mode, ["city=广州"]) == []


def test_lexical_search_looks_on_until_enough_pass_the_filter(
    tmp_path: Path, write_lines: Any, encoder: Encoder
) -> None:
    rows = [{"id": f"{at:03d}", "text": "链条", "last": at == 299} for at in range(300)]
    index_file(write_lines("many.jsonl", rows), str(tmp_path / "many"), encoder)
    with open_store(str(tmp_path / "many")) as many:
        assert ids(search(many, None, "链条", 2, "bm25", ["last=true"])) == ["299"]
        assert ids(search(many, None, "链条", 3, "bm25")) == ["000", "001", "002"]


def test_hybrid_is_the_fusion_of_both_rankings(store: Store, encoder: Encoder) -> None:
    dense, lexical = search(store, encoder, "链条多少钱", 6), search(store, None, "链条多少钱", 6, "bm25")
    ranks = {hit.id: 0.5 / (60 + at) for at, hit in enumerate(dense, 1)}
    for at, hit in enumerate(lexical, 1):
        ranks[hit.id] = ranks.get(hit.id, 0) + 0.5 / (60 + at)
    hits = search(store, encoder, "链条多少钱", 6, "hybrid")
    assert {hit.id: hit.score for hit in hits} == pytest.approx(ranks)
    assert ids(hits) == sorted(ranks, key=lambda key: (-ranks[key], key))
    assert ids(search(store, encoder, "链条", 2, "hybrid", fusion=Fusion(dense_weight=0))) == ids(
        search(store, None, "链条", 2, "bm25")
    )


def test_weighted_fusion_scores_every_candidate_both_ways(store: Store, encoder: Encoder) -> None:
    cosines = {hit.id: hit.score for hit in search(store, encoder, "链条", 6)}
    index = lexical_index(store)
    lexical = dict(zip(cosines, index.scores("链条", list(cosines)), strict=True))
    low, high = min(cosines.values()), max(cosines.values())
    expected = {
        key: 0.7 * (cosine - low) / (high - low) + 0.3 * lexical[key] / max(lexical.values())
        for key, cosine in cosines.items()
    }
    hits = search(store, encoder, "链条", 6, "hybrid", fusion=Fusion("weighted", dense_weight=0.7))
    assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-6)


def test_a_reranker_orders_anew(store: Store, encoder: Encoder) -> None:
    seen: list[int] = []

    def by_length(query: str, texts: list[str]) -> list[float]:
        seen.append(len(texts))
        return [-float(len(text)) for text in texts]

    hits = search(store, encoder, "链条", 2, reranker=by_length)
    assert ids(hits) == ["d3", "d6"]
    assert [hit.score for hit in hits] == [-10, -10]
    search(store, encoder, "链条", 2, reranker=by_length, rerank_depth=1)
    assert seen == [6, 2]
    with pytest.raises(DataError, match="1 scores for 6 texts"):
        search(store, encoder, "链条", 2, reranker=lambda query, texts: [1.0])


def test_a_cross_encoder_from_a_folder(store: Store, encoder: Encoder, mini_folder: Path, tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    CrossEncoder(str(mini_folder), num_labels=1, device="cpu").save_pretrained(str(tmp_path / "reranker"))
    reranker = cross_encoder(str(tmp_path / "reranker"), device="cpu")
    model = CrossEncoder(str(tmp_path / "reranker"), device="cpu")
    expected = model.predict([("链条", str(row["text"])) for row in ROWS])
    hits = search(store, encoder, "链条", 6, reranker=reranker)
    assert {hit.id: hit.score for hit in hits} == pytest.approx(
        {str(row["id"]): float(score) for row, score in zip(ROWS, expected, strict=True)}, abs=1e-5
    )
    CrossEncoder(str(mini_folder), num_labels=3, device="cpu").save_pretrained(str(tmp_path / "classes"))
    with pytest.raises(ModelError, match="3 classes"):
        cross_encoder(str(tmp_path / "classes"), device="cpu")
    with pytest.raises(ModelError, match="no reranker folder"):
        cross_encoder(str(tmp_path / "absent"))


def test_the_lexical_index_follows_the_store(store: Store, encoder: Encoder, write_lines: Any) -> None:
    assert search(store, None, "雨伞", 3, "bm25") == []
    first = lexical_index(store)
    assert lexical_index(store) is first
    index_file(write_lines("more.jsonl", [{"id": "d7", "text": "雨伞忘在车上"}]), store.url.place, encoder)
    assert ids(search(store, None, "雨伞", 3, "bm25")) == ["d7"]


def test_the_lexical_index_of_many_texts_is_kept(
    store: Store, encoder: Encoder, write_lines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical_module, "KEPT_FROM", 3)
    monkeypatch.setattr(lexical_module, "cache_folder", lambda: tmp_path / "cache")
    expected = search(store, None, "链条多少钱", 6, "bm25")
    built = BM25.build
    with monkeypatch.context() as patch, open_store(store.url.place) as again:
        patch.setattr(BM25, "build", lambda *parts: pytest.fail("made anew"))
        assert search(again, None, "链条多少钱", 6, "bm25") == expected
    assert BM25.build == built
    index_file(write_lines("more.jsonl", [{"id": "d7", "text": "链条"}]), store.url.place, encoder)
    with open_store(store.url.place) as again:
        assert "d7" in ids(search(again, None, "链条多少钱", 6, "bm25"))
    assert len(list((tmp_path / "cache" / "bm25").iterdir())) == 1


@pytest.mark.parametrize(
    ("query", "options", "error", "reason"),
    [
        (" \u200b", {}, DataError, "query is empty"),
        ("x", {"top_k": 0}, SettingsError, "--top-k"),
        ("x", {"mode": "exact"}, SettingsError, "dense, bm25, hybrid"),
        ("x", {"filters": ["city>北京"]}, SettingsError, "city>北京"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    store: Store, encoder: Encoder, query: str, options: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        search(store, encoder, query, **options)


def test_dense_search_wants_the_stores_model(store: Store, mini: Any) -> None:
    with pytest.raises(SettingsError, match="needs an encoder"):
        search(store, None, "x")
    for mode in ("dense", "hybrid", "bm25"):
        with pytest.raises(StoreError, match=r"m3e-static .*384 dimensions.*32 dimensions"):
            search(store, Encoder(mini, dtype="fp32"), "x", 3, mode)  # type: ignore[arg-type]


def test_shortened_vectors_are_searched_by_shortened_queries(tmp_path: Path, write_lines: Any) -> None:
    short = Encoder("m3e-static", dim=64)
    index_file(write_lines("rows.jsonl", ROWS), str(tmp_path / "short"), short, model_name="m3e-static")
    with open_store(str(tmp_path / "short")) as opened:
        for model in (None, "m3e-static"):
            encoder = encoder_of(opened, model)
            assert encoder.dimension == 64
            assert search(opened, encoder, "自行车链条", 1)[0].id == "d2"
        with pytest.raises(StoreError, match=r"64 dimensions.*384 dimensions.*the same, but not: dimension"):
            opened.check_model(Encoder("m3e-static"), "m3e-static")


def test_the_recorded_model_is_found_or_its_loss_is_said(tmp_path: Path, mini_folder: Path, write_lines: Any) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(mini_folder, folder)
    index_file(write_lines("rows.jsonl", ROWS), str(tmp_path / "own"), str(folder))
    with open_store(str(tmp_path / "own")) as own:
        assert own.model.name == str(folder.resolve())
        assert encoder_of(own).dimension == 32
        folder.rename(tmp_path / "moved")
        with pytest.raises(ModelError, match=r"cannot be loaded any more.*--model FOLDER"):
            encoder_of(own)
        assert search(own, encoder_of(own, str(tmp_path / "moved")), "天气", 1)
        with pytest.raises(StoreError, match="m3e-tiny"):
            encoder_of(own, "m3e-tiny")
        shutil.copytree(tmp_path / "moved", folder)
        from tests.conftest import write_mini

        shutil.rmtree(folder)
        folder.mkdir()
        write_mini(folder, prompts={"query": "问", "document": "答"}, seed=5)
        with pytest.raises(StoreError, match="what is now at"):
            encoder_of(own)
