"""Indexing files: run twice, changed, killed, with another model; the store is never doubled, short or mixed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e import load
from m3e.errors import DataError, SettingsError, StoreError
from m3e.inference import Encoder
from m3e.retrieval import index_file, open_store, search
from m3e.retrieval.exact import top_k
from tests.conftest import write_mini

GOODS = ["饺子", "雨伞", "口罩", "茶壶", "拖鞋", "台灯", "毛巾", "书架", "耳机", "水杯"]
QUESTIONS = ["什么时候到货", "怎么退换", "可以开发票吗", "保修多久", "坏了找谁修", "有没有蓝色的", "能送到山区吗"]


def passages(count: int) -> list[dict[str, Any]]:
    """Distinct short texts with ids that look like numbers."""
    return [
        {
            "id": f"{at:05d}",
            "text": f"{GOODS[at % 10]}{QUESTIONS[at // 10 % 7]}，第{at}号{GOODS[at // 70 % 10]}{at * 7919 % 1013}弄",
            "n": at,
        }
        for at in range(count)
    ]


@pytest.fixture(scope="module")
def static() -> Encoder:
    return Encoder("m3e-static")


@pytest.fixture
def documents(write_lines: Callable[..., Path]) -> Path:
    return write_lines("documents.jsonl", passages(50))


class Dying(Encoder):
    """Encodes so many batches, and then dies as a killed process does: between two writes."""

    batches = 0

    def encode_document(self, texts: Sequence[str], **options: Any) -> Any:
        self.batches -= 1
        if self.batches < 0:
            raise KeyboardInterrupt
        return super().encode_document(texts, **options)


def contents(url: str) -> dict[str, str]:
    with open_store(url) as store:
        return dict(store.texts())


def test_indexed_twice_changes_nothing(url: str, documents: Path, static: Encoder) -> None:
    first = index_file(documents, url, static, model_name="m3e-static", batch=20)
    assert (first.rows, first.written, first.unchanged, first.total, first.dropped) == (50, 50, 0, 50, {})
    with open_store(url) as store:
        revision = store.revision
    second = index_file(documents, url, static, model_name="m3e-static")
    assert (second.written, second.unchanged, second.removed, second.total) == (0, 50, 0, 50)
    with open_store(url) as store:
        assert store.revision == revision
        assert not store.unfinished


def test_only_what_changed_is_encoded(new_url: Callable[[str], str], write_lines: Any, static: Encoder) -> None:
    url, rows = new_url("lance"), passages(20)
    index_file(write_lines("a.jsonl", rows), url, static)
    rows[3]["text"] = "换了一句话"
    rows[4]["n"] = 4.0
    rows[5]["text"] = " "
    report = index_file(write_lines("a.jsonl", [*rows, {"id": "new", "text": "新来的"}]), url, static)
    assert (report.written, report.unchanged, report.removed, report.total) == (3, 17, 1, 20)
    assert report.dropped == {"blank": 1}
    with open_store(url) as store:
        found = store.fetch(["00003", "00004", "00005"])
        assert found["00003"].text == "换了一句话"
        assert repr(found["00004"].metadata) == "{'n': 4.0}"
        assert "00005" not in found


def test_the_last_of_an_id_in_one_input_wins(url: str, write_lines: Any, static: Encoder) -> None:
    rows = [{"id": "1", "text": "旧的"}, *passages(30), {"id": 1, "text": "新的"}]
    report = index_file(write_lines("a.jsonl", rows), url, static, batch=8)
    assert report.dropped == {"duplicate_id": 1}
    assert (report.written, report.total) == (31, 31)
    assert contents(url)["1"] == "新的"
    again = index_file(write_lines("a.jsonl", rows), url, static, batch=8)
    assert (again.written, again.total) == (0, 31)


def test_a_broken_run_goes_on_where_it_stopped(url: str, documents: Path) -> None:
    dying = Dying("m3e-static")
    dying.batches = 2
    with pytest.raises(KeyboardInterrupt):
        index_file(documents, url, dying, batch=10)
    with open_store(url) as store:
        assert (store.count(), store.unfinished) == (20, True)
    dying.batches = 99
    report = index_file(documents, url, dying, batch=10)
    assert (report.written, report.unchanged, report.total) == (30, 20, 50)
    assert dying.batches == 99 - 3
    assert contents(url) == {row["id"]: row["text"] for row in passages(50)}
    with open_store(url) as store:
        assert not store.unfinished


def test_a_broken_rebuild_leaves_the_old_store_and_goes_on(url: str, documents: Path, tmp_path: Path) -> None:
    index_file(documents, url, "m3e-static")
    other = Dying(load(write_mini(tmp_path / "mini"), device="cpu"), dtype="fp32")
    with pytest.raises(StoreError, match=r"m3e-static .*not of mini \(32.*--rebuild"):
        index_file(documents, url, other, model_name="mini")
    other.batches = 3
    with pytest.raises(KeyboardInterrupt):
        index_file(documents, url, other, model_name="mini", batch=10, rebuild=True)
    with open_store(url) as store:
        assert (store.count(), store.model.name) == (50, "m3e-static")
        assert len(search(store, Encoder("m3e-static"), "耳机保修多久", 60)) == 50
    other.batches = 99
    report = index_file(documents, url, other, model_name="mini", batch=10, rebuild=True)
    assert (report.written, report.unchanged, report.total) == (20, 30, 50)
    with open_store(url) as store:
        assert (store.count(), store.model.name, store.model.dimension) == (50, "mini", 32)
        with pytest.raises(StoreError, match="m3e-static"):
            store.check_model(Encoder("m3e-static"), "m3e-static")


def test_a_rebuild_holds_the_input_and_no_more(new_url: Any, write_lines: Any, static: Encoder) -> None:
    url = new_url("lance")
    index_file(write_lines("a.jsonl", passages(12)), url, static)
    report = index_file(write_lines("b.jsonl", passages(5)), url, static, rebuild=True)
    assert (report.written, report.removed, report.total) == (5, 7, 5)


def test_what_the_model_knows_no_word_of_is_not_indexed(new_url: Any, write_lines: Any, mini: Any) -> None:
    class Zeros(Encoder):
        def encode_document(self, texts: Sequence[str], **options: Any) -> Any:
            vectors = super().encode_document(texts, **options)
            vectors[[text.startswith("?") for text in texts]] = 0
            return vectors

    url, encoder = new_url("lance"), Zeros(mini, dtype="fp32")
    index_file(write_lines("a.jsonl", [{"id": "1", "text": "今天"}, {"id": "2", "text": "猫"}]), url, encoder)
    report = index_file(write_lines("b.jsonl", [{"id": "1", "text": "?"}, {"id": "3", "text": "狗"}]), url, encoder)
    assert (report.written, report.removed, report.dropped) == (1, 1, {"zero_vector": 1})
    assert contents(url) == {"2": "猫", "3": "狗"}


def test_a_fault_of_the_input_leaves_no_store(tmp_path: Path, write_lines: Any, static: Encoder) -> None:
    place = tmp_path / "store"
    for source in (tmp_path / "absent.jsonl", write_lines("a.jsonl", [{"id": 1, "text": "一"}, {"id": 2, "text": 5}])):
        with pytest.raises(DataError):
            index_file(source, str(place), static)
    with pytest.raises(SettingsError, match="--batch"):
        index_file(write_lines("b.jsonl", passages(2)), str(place), static, batch=0)
    assert not place.exists()


def test_documents_get_the_document_prompt(new_url: Any, write_lines: Any, mini: Any) -> None:
    url, encoder = new_url("lance"), Encoder(mini, dtype="fp32")
    index_file(write_lines("a.jsonl", [{"id": "1", "text": "今天天气"}]), url, encoder, model_name="mini")
    with open_store(url) as store:
        assert (store.model.query_prompt, store.model.document_prompt) == ("问", "答")
        [row] = store.fetch(["1"]).values()
    assert row.vector == pytest.approx(encoder.encode(["今天天气"], prompt="答")[0], abs=1e-6)


@pytest.mark.parametrize(  # ten thousand in each are a slow test
    ("kind", "count"),
    [("lance", 10_000), ("postgresql", 10_000), ("chroma", 2000), ("milvus", 2000), ("qdrant", 2000)],
)
def test_thousands_of_passages_are_searched_exactly(
    kind: str, count: int, new_url: Any, write_lines: Any, static: Encoder
) -> None:
    url, rows = new_url(kind), passages(count)
    report = index_file(write_lines("a.jsonl", rows), url, static, batch=2000)
    assert report.total == count
    queries = [f"{QUESTIONS[at % 7]}{GOODS[at % 10]}第{at * 37}号" for at in range(8)]
    corpus = static.encode_document([row["text"] for row in rows])
    scores, best = top_k(static.encode_query(queries), corpus, 10)
    with open_store(url) as store:
        for query, expected, ids in zip(queries, scores, best, strict=True):
            hits = search(store, static, query, 10)
            assert [hit.score for hit in hits] == pytest.approx(expected.tolist(), abs=1e-5)
            assert np.mean([hit.id == rows[at]["id"] for hit, at in zip(hits, ids, strict=True)]) == 1


def test_the_report_can_be_written_as_json(new_url: Any, documents: Path, static: Encoder) -> None:
    from dataclasses import asdict

    report = index_file(documents, new_url("lance"), static, model_name="m3e-static")
    assert json.loads(json.dumps(asdict(report)))["model"]["name"] == "m3e-static"
