"""Routes: ids, errors, limits, headers, probes, the page."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import numpy as np
import pytest

from m3e.inference import Encoder
from m3e.serving import ServeOptions, create_app
from tests.serving.api_shapes import EMBEDDINGS, refused, vectors_of

JSON = {"content-type": "application/json"}


def ask(client: Any, model: str = "mini", given: Any = "花开了吗", **fields: Any) -> Any:
    return client.post(EMBEDDINGS, json={"model": model, "input": given, **fields})


def test_a_model_has_an_id_for_passages_and_one_for_queries(mini_client: Any, mini_encoder: Encoder) -> None:
    passage, query = (vectors_of(ask(mini_client, model)) for model in ("mini", "mini:query"))
    assert np.abs(passage - mini_encoder.encode_document(["花开了吗"])).max() < 1e-6
    assert np.abs(query - mini_encoder.encode_query(["花开了吗"])).max() < 1e-6
    assert np.abs(passage - query).max() > 1e-3
    assert ask(mini_client, "mini:query").json()["model"] == "mini:query"


def test_aliases_have_both_too(serve: Any) -> None:
    client = serve(aliases={"ada": "mini", "q": "mini:query"})
    passage, query = (vectors_of(ask(client, model)) for model in ("mini", "mini:query"))
    for model, expected in (("ada", passage), ("ada:query", query), ("q", query), ("q:query", query)):
        answer = ask(client, model)
        assert np.abs(vectors_of(answer) - expected).max() < 1e-6
        assert answer.json()["model"] == model
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [item["id"] for item in listed["data"]] == ["mini", "mini:query", "ada", "q", "ada:query", "q:query"]
    for item in listed["data"]:
        assert set(item) == {"id", "object", "created", "owned_by"}
        assert item["object"] == "model"
        assert client.get(f"/v1/models/{item['id']}").json() == item


def test_names_of_hub_models_hold_a_slash(serve: Any) -> None:
    client = serve(name="moka-ai/m3e-base")
    assert client.get("/v1/models/moka-ai/m3e-base:query").json()["id"] == "moka-ai/m3e-base:query"
    assert ask(client, "moka-ai/m3e-base").status_code == 200
    azure = client.post("/openai/deployments/moka-ai/m3e-base/embeddings?api-version=1", json={"input": "花"})
    assert azure.json()["model"] == "moka-ai/m3e-base"


@pytest.mark.parametrize("model", ["gpt-4", "", "MINI", "mini:passage", "mini ", "query", "ada" * 200, "\u0000", "甲"])
def test_unknown_models_are_named_with_those_that_are_there(mini_client: Any, model: str) -> None:
    error = refused(ask(mini_client, model), 404, "model", "mini", "mini:query")
    assert error["code"] == "model_not_found"


@pytest.mark.parametrize("model", [None, 5, ["mini"], {}, True])
def test_a_model_that_is_no_name_is_refused(mini_client: Any, model: Any) -> None:
    refused(mini_client.post(EMBEDDINGS, json={"model": model, "input": "花"}), 400, "model", "model")


def test_a_missing_model_is_refused(mini_client: Any) -> None:
    refused(mini_client.post(EMBEDDINGS, json={"input": "花"}), 400, "model", "missing", "/v1/models")


def test_azures_address_names_the_model(serve: Any, mini_encoder: Encoder) -> None:
    client = serve(keys=("k",))
    path = "/openai/deployments/mini:query/embeddings?api-version=2024-10-21"
    answer = client.post(
        path, json={"input": ["花开了吗"], "model": "text-embedding-3-small"}, headers={"api-key": "k"}
    )
    assert np.abs(vectors_of(answer) - mini_encoder.encode_query(["花开了吗"])).max() < 1e-6
    assert answer.json()["model"] == "mini:query"
    wrong = client.post("/openai/deployments/gpt/embeddings", json={"input": "花"}, headers={"api-key": "k"})
    refused(wrong, 404, "model", "gpt", "mini")


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/embeddings", "/v1/embeddings"),
        ("/v1", "/v1/"),
        ("/v1/embedding", "/v1/embeddings"),
        ("/v1/v1/embeddings", "/v1/embeddings"),
        ("/models", "/v1/models"),
        ("/health", "/healthz"),
        ("/v1/chat/completions", "/v1/embeddings"),
        ("/docs", "/openapi.json"),
        ("/search", "/v1/search"),
        ("/V1/EMBEDDINGS", "/v1/embeddings"),
        ("/%2e%2e/%2e%2e/etc/passwd", "/v1"),
    ],
)
def test_wrong_paths_are_told_what_would_be_right(mini_client: Any, path: str, right: str) -> None:
    error = refused(mini_client.post(path, json={}), 404, None, right)
    assert error["code"] == "not_found"


@pytest.mark.parametrize("path", ["/v1/embeddings/", "//v1/embeddings", "/v1//embeddings", "/v1/embeddings//"])
def test_slashes_of_joined_addresses_do_no_harm(mini_client: Any, path: str) -> None:
    answer = mini_client.post(f"http://testserver{path}", json={"model": "mini", "input": "花"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", EMBEDDINGS, "POST"),
        ("PUT", EMBEDDINGS, "POST"),
        ("DELETE", EMBEDDINGS, "POST"),
        ("OPTIONS", EMBEDDINGS, "POST"),
        ("HEAD", EMBEDDINGS, "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/mini", "GET"),
        ("POST", "/healthz", "GET"),
        ("PATCH", "/", "GET"),
    ],
)
def test_wrong_methods_are_told_the_right_one(mini_client: Any, method: str, path: str, allowed: str) -> None:
    answer = mini_client.request(method, path)
    assert answer.status_code == 405
    assert allowed in answer.headers["allow"]
    if method != "HEAD":
        refused(answer, 405, None, allowed)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"5",
        b'{"model": "mini", "input": "x",}',
        b"{'model': 'mini'}",
        b'{"model": "mini", "input": "x", "dimensions": NaN}',
        b'{"model": "mini", "input": "x", "dimensions": Infinity}',
        b"[" * 100_000,
        b'{"model": "mini", "input": "x", "dimensions": ' + b"9" * 5000 + b"}",
        "{'x'}".encode("utf-16"),
        '{"model": "mini", "input": "花开了"}'.encode("gb18030"),
        b'{"model": "mini", "input": "\xff"}',
        b'{"model": "mini"\x00}',
        b"model=mini&input=x",
    ],
)
def test_what_is_no_json_object_is_refused(mini_client: Any, body: bytes) -> None:
    refused(mini_client.post(EMBEDDINGS, content=body, headers=JSON), 400, None, "body")


def test_a_body_in_gb18030_is_told_so(mini_client: Any) -> None:
    body = '{"model": "mini", "input": "花开了"}'.encode("gb18030")
    refused(mini_client.post(EMBEDDINGS, content=body, headers=JSON), 400, None, "UTF-8", "GB18030")


def test_a_byte_order_mark_does_no_harm(mini_client: Any) -> None:
    body = b"\xef\xbb\xbf" + json.dumps({"model": "mini", "input": "花"}).encode()
    assert mini_client.post(EMBEDDINGS, content=body, headers=JSON).status_code == 200


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", "json"],
)
def test_other_content_types_are_refused(mini_client: Any, kind: str) -> None:
    body = b'{"model": "mini", "input": "x"}'
    refused(mini_client.post(EMBEDDINGS, content=body, headers={"content-type": kind}), 415, None, "application/json")
    wrong = mini_client.post(EMBEDDINGS, content=body, headers={"content-type": "application/json; charset=gbk"})
    refused(wrong, 415, None, "gbk", "UTF-8")


@pytest.mark.parametrize(
    "kind",
    ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8", "application/x+json", ""],
)
def test_json_by_any_of_its_names(mini_client: Any, kind: str) -> None:
    body = b'{"model": "mini", "input": "x"}'
    headers = {"content-type": kind} if kind else {}
    assert mini_client.post(EMBEDDINGS, content=body, headers=headers).status_code == 200


def test_compressed_bodies_are_refused_as_such(mini_client: Any) -> None:
    body = gzip.compress(b'{"model": "mini", "input": "x"}')
    refused(mini_client.post(EMBEDDINGS, content=body, headers={**JSON, "content-encoding": "gzip"}), 415, None, "gzip")


def test_a_user_is_a_string(mini_client: Any) -> None:
    assert ask(mini_client, user="u-1").status_code == 200
    refused(ask(mini_client, user=7), 400, "user", "user")


def test_fields_of_later_versions_do_no_harm(mini_client: Any) -> None:
    assert ask(mini_client, truncate="END", extra_body={"a": 1}).status_code == 200


def test_large_bodies_are_refused_by_their_announcement_and_by_their_size(serve: Any) -> None:
    client = serve(max_body=1000)
    text = "x" * 2000
    error = refused(ask(client, given=text), 413, None, "1000")
    assert error["code"] == "body_too_large"

    def pieces() -> Any:
        yield b'{"model": "mini", "input": "'
        yield from [b"x" * 100] * 20
        yield b'"}'

    refused(client.post(EMBEDDINGS, content=pieces(), headers=JSON), 413, None, "1000")
    assert ask(client, given="x").status_code == 200


def test_the_cap_of_texts_is_an_option(serve: Any) -> None:
    client = serve(max_items=3)
    assert ask(client, given=["花"] * 3).status_code == 200
    refused(ask(client, given=["花"] * 4), 400, "input", "3", "4")


def test_truncation_is_counted_in_a_header(mini_client: Any) -> None:
    assert ask(mini_client).headers["x-m3e-truncated"] == "0"
    answer = ask(mini_client, given=["花" * 500, "花", "树" * 65])
    assert answer.headers["x-m3e-truncated"] == "2"
    assert answer.json()["usage"]["prompt_tokens"] == 64 + 4 + 64


def test_every_answer_has_an_id_of_its_own(mini_client: Any) -> None:
    answers = [ask(mini_client), ask(mini_client, "nope"), mini_client.get("/nowhere"), mini_client.get("/healthz")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == 4
    assert all(re.fullmatch("[0-9a-f]{16}", value) for value in ids)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/v1/models"])
def test_head_is_get_without_a_body(mini_client: Any, path: str) -> None:
    answer, whole = mini_client.head(path), mini_client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-length"] == str(len(whole.content))


def test_a_server_that_stops_says_so(serve: Any) -> None:
    client = serve()
    service = client.app.state.service
    assert client.get("/readyz").json() == {"status": "ready"}
    service.stopping = True
    error = refused(ask(client), 503, None, "stopping")
    assert error["code"] == "server_stopping"
    assert int(ask(client).headers["retry-after"]) > 0
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
    assert client.get("/metrics").status_code == 200


def test_a_full_queue_is_429_with_retry_after(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve(queue_tokens=10)
    monkeypatch.setattr(client.app.state.service.batcher, "tokens", 10)
    answer = ask(client)
    error = refused(answer, 429, None, "try again")
    assert error["code"] == "rate_limit_exceeded"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    monkeypatch.setattr(client.app.state.service.batcher, "tokens", 0)
    assert ask(client).status_code == 200


def test_bodies_that_wait_are_bounded_together(serve: Any) -> None:
    client = serve(max_body=1000)
    service = client.app.state.service
    service._buffered = 4000
    refused(ask(client), 429, None, "try again")
    service._buffered = 0
    assert ask(client).status_code == 200
    assert service._buffered == 0


def test_a_failing_model_is_an_error_in_our_shape_without_the_text(serve: Any, mini_encoder: Encoder) -> None:
    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(mini_encoder, name)

        def encode_tokens(self, tokens: Any) -> Any:
            raise ValueError("secret text")

    answer = ask(serve(encoder=Failing()))
    assert "secret" not in answer.text
    refused(answer, 500, None, "failed")


def test_the_card(serve: Any) -> None:
    card = serve(keys=("k",), aliases={"ada": "mini"}).get("/card").json()
    assert card["model"] == "mini"
    assert card["ids"] == ["mini", "mini:query", "ada", "ada:query"]
    assert (card["dimension"], card["max_length"], card["dtype"], card["backend"]) == (32, 64, "fp32", "torch")
    assert card["prompts"] == {"query": "问", "document": "答"}
    assert card["store"] is None
    assert card["key_required"] is True
    assert serve().get("/card").json()["key_required"] is False


def test_the_page_may_not_be_framed_and_names_no_other_address(mini_client: Any) -> None:
    answer = mini_client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert not re.search(r"(src|href)\s*=\s*[\"'](https?:)?//", answer.text)


def test_many_apps_live_side_by_side(mini_encoder: Encoder) -> None:
    apps = [create_app(mini_encoder, f"m{index}", ServeOptions()) for index in range(3)]
    assert [app.state.service.ids.name for app in apps] == ["m0", "m1", "m2"]
    for app in apps:
        app.state.service.close()


def test_search_without_a_store_says_how_to_get_one(mini_client: Any) -> None:
    refused(mini_client.post("/v1/search", json={"query": "花"}), 404, None, "--store")
