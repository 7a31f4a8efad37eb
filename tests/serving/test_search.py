"""``/v1/search``: a store behind the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e.errors import StoreError
from m3e.inference import Encoder
from m3e.retrieval import index_file, open_store, search
from tests.serving.api_shapes import refused

DOCUMENTS = [
    {"id": "d1", "text": "今天天气很好", "city": "北京", "year": 2019},
    {"id": "007", "text": "退货款怎么办", "city": "上海", "year": 2021},
    {"id": "d3", "text": "快递到哪了", "city": "北京", "year": 2023, "价": None},
    {"id": "d4", "text": "阳台番茄叶子黄", "city": "广州", "year": 2020},
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, mini_encoder: Encoder) -> str:
    folder = tmp_path_factory.mktemp("search")
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in DOCUMENTS), "utf-8")
    index_file(rows, str(folder / "store"), mini_encoder, model_name="mini")
    return str(folder / "store")


@pytest.fixture
def store(url: str) -> Any:
    with open_store(url) as opened:
        yield opened


@pytest.fixture
def client(serve: Any, store: Any) -> Any:
    return serve(store=store, aliases={"ada": "mini"})


def ask(client: Any, query: Any = "退货", **fields: Any) -> Any:
    return client.post("/v1/search", json={"query": query, **fields})


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_hits_are_those_of_the_library(client: Any, store: Any, mini_encoder: Encoder, mode: Any) -> None:
    answer = ask(client, "退货款到哪了", mode=mode, top_k=3)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"model", "hits"}
    assert body["model"] == "mini"
    expected = search(store, mini_encoder, "退货款到哪了", 3, mode)
    assert [hit["id"] for hit in body["hits"]] == [hit.id for hit in expected]
    assert np.allclose([hit["score"] for hit in body["hits"]], [hit.score for hit in expected], atol=1e-6)
    for hit, row in zip(body["hits"], expected, strict=True):
        assert set(hit) == {"id", "score", "text", "metadata"}
        assert (hit["text"], hit["metadata"]) == (row.text, row.metadata)


def test_the_default_is_ten_by_cosine(client: Any) -> None:
    hits = ask(client).json()["hits"]
    assert {hit["id"] for hit in hits} == {"d1", "007", "d3", "d4"}
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    assert ask(client, top_k=None, mode=None, filter=None).json()["hits"] == hits


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ("city=北京", {"d1", "d3"}),
        (["city=北京", "year>=2020"], {"d3"}),
        ([], {"d1", "007", "d3", "d4"}),
        ("city=深圳", set()),
        ("year<2020", {"d1"}),
    ],
)
def test_filters(client: Any, given: Any, ids: set[str]) -> None:
    assert {hit["id"] for hit in ask(client, filter=given).json()["hits"]} == ids


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": None}, "query"),
        ({"query": ["退货"]}, "query"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": "3"}, "top_k"),
        ({"top_k": 10**6}, "top_k"),
        ({"top_k": True}, "top_k"),
        ({"mode": "fuzzy"}, "mode"),
        ({"mode": ["dense"]}, "mode"),
        ({"filter": "city"}, "filter"),
        ({"filter": {"city": "北京"}}, "filter"),
        ({"filter": ["city=北京", 5]}, "filter"),
        ({"filter": [""]}, "filter"),
    ],
)
def test_wrong_fields_are_named(client: Any, fields: dict[str, Any], param: str) -> None:
    refused(client.post("/v1/search", json={"query": "退货", **fields}), 400, param, param)


def test_a_blank_query_is_refused(client: Any) -> None:
    refused(ask(client, "  \u3000"), 400, None, "empty")


def test_half_of_a_character_is_refused(client: Any) -> None:
    answer = client.post("/v1/search", content=rb'{"query": "\ud83d"}', headers={"content-type": "application/json"})
    refused(answer, 400, "query", "surrogate")


def test_the_card_and_the_schema_know_of_the_store(client: Any) -> None:
    assert client.get("/card").json()["store"] == {"url_kind": "lance", "rows": 4}
    assert "/v1/search" in client.get("/openapi.json").json()["paths"]


def test_queries_go_through_the_servers_queue(client: Any) -> None:
    client.app.state.service.batcher.tokens = 10**9
    refused(ask(client), 429, None, "try again")
    client.app.state.service.batcher.tokens = 0
    assert ask(client).status_code == 200
    assert 'm3e_texts_total{model="mini"} 1.0' in client.get("/metrics").text


def test_a_key_is_needed(serve: Any, store: Any) -> None:
    client = serve(store=store, keys=("k",))
    refused(ask(client), 401, None)
    assert client.post("/v1/search", json={"query": "退货"}, headers={"api-key": "k"}).status_code == 200


def test_another_models_store_is_refused_at_the_start(serve: Any, store: Any, tmp_path: Path) -> None:
    from tests.conftest import write_mini

    other = Encoder(write_mini(tmp_path / "other", seed=1), backend="torch", dtype="fp32", device="cpu")
    with pytest.raises(StoreError, match="mini"):
        serve(encoder=other, name="other", store=store)


def test_a_store_that_fails_is_503(client: Any, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> Any:
        raise StoreError("the database does not answer")

    monkeypatch.setattr(store, "nearest", fail)
    error = refused(ask(client), 503, None, "does not answer")
    assert error["code"] == "store_failed"
