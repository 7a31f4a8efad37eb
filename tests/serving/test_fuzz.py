"""Whatever is sent: no 500, no NaN, nothing that the schema does not say, no vector that is not the encoder's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from starlette.testclient import TestClient

from m3e.inference import Encoder
from m3e.serving import ServeOptions, create_app
from tests.serving.api_shapes import EMBEDDINGS, vectors_of

EXAMPLES = int(os.environ.get("M3E_FUZZ_EXAMPLES", "25"))
"""More of them take longer and look further; tests/slow runs this file with many."""

BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.fixture(scope="module")
def app(mini_encoder: Encoder) -> Iterator[Any]:
    made = create_app(mini_encoder, "mini", ServeOptions(aliases={"ada": "mini"}, max_items=8))
    with TestClient(made):
        yield made


@pytest.fixture(scope="module")
def client(app: Any) -> TestClient:
    return TestClient(app, raise_server_exceptions=True)


OPERATIONS = [
    ("/v1/embeddings", "post"),
    ("/openai/deployments/{model}/embeddings", "post"),
    ("/v1/models", "get"),
    ("/v1/models/{model}", "get"),
    ("/card", "get"),
    ("/healthz", "get"),
    ("/readyz", "get"),
]


@pytest.fixture(scope="module")
def schema(mini_encoder: Encoder) -> Any:
    # an app of its own: schemathesis starts and stops it for every request
    made = create_app(mini_encoder, "mini", ServeOptions(aliases={"ada": "mini"}, max_items=8))
    return schemathesis.openapi.from_asgi("/openapi.json", made)


def test_every_operation_of_the_schema_is_tried(schema: Any) -> None:
    found = [operation.ok() for operation in schema.get_all_operations()]
    assert [(operation.path, operation.method) for operation in found] == OPERATIONS


POSITIVE = [(*operation, GenerationMode.POSITIVE) for operation in OPERATIONS]
NEGATIVE = [(*OPERATIONS[index], GenerationMode.NEGATIVE) for index in (0, 1, 3)]  # those that take anything


@pytest.mark.parametrize(("path", "method", "mode"), POSITIVE + NEGATIVE)
def test_the_server_does_what_its_schema_says(schema: Any, path: str, method: str, mode: GenerationMode) -> None:
    @BOUNDED
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate()

    check()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
SIZES = st.integers(1, 32)
PATHS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@BOUNDED
@given(texts=st.lists(TEXTS, min_size=1, max_size=8), query=st.booleans(), base64=st.booleans(), size=SIZES)
def test_vectors_are_the_encoders(
    client: TestClient, mini_encoder: Encoder, texts: list[str], query: bool, base64: bool, size: int
) -> None:
    body = {"model": "mini:query" if query else "mini", "input": texts, "dimensions": size}
    answer = client.post(EMBEDDINGS, json={**body, "encoding_format": "base64" if base64 else "float"})
    encode = mini_encoder.encode_query if query else mini_encoder.encode_document
    full = encode(texts)[:, :size]
    expected = full / np.linalg.norm(full, axis=1, keepdims=True) if size < 32 else full
    assert np.abs(vectors_of(answer) - expected).max() < 1e-6
    assert int(answer.headers["x-m3e-truncated"]) == mini_encoder.cut


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["mini", "ada:query", "gpt", 5]) | JSON,
        "input": TEXTS | st.lists(TEXTS | JSON, max_size=10) | JSON,
        "encoding_format": st.sampled_from(["float", "base64"]) | JSON,
        "dimensions": st.integers(-2, 40) | JSON,
        "user": JSON,
    },
)


def is_error(answer: Any) -> bool:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return bool(error["message"])


@BOUNDED
@given(body=FIELDS | JSON)
def test_any_json_is_answered_or_refused_in_shape(client: TestClient, body: Any) -> None:
    answer = client.post(EMBEDDINGS, content=json.dumps(body), headers={"content-type": "application/json"})
    if answer.status_code == 200:
        assert np.isfinite(vectors_of(answer)).all()
    else:
        assert answer.status_code in (400, 404)
        assert is_error(answer)


@BOUNDED
@given(body=st.binary(max_size=300), kind=st.sampled_from(["application/json", "text/plain", "", "a/b; charset=x"]))
def test_any_bytes_are_refused_in_shape(client: TestClient, body: bytes, kind: str) -> None:
    answer = client.post(EMBEDDINGS, content=body, headers={"content-type": kind} if kind else {})
    assert answer.status_code in (400, 404, 415)
    assert is_error(answer)


@BOUNDED
@given(path=PATHS, method=st.sampled_from(["GET", "POST", "PUT"]))
def test_any_path_is_answered_or_refused_in_shape(client: TestClient, path: str, method: str) -> None:
    answer = client.request(method, "/v1/" + quote(path))
    assert answer.status_code in (200, 400, 404, 405)
    assert answer.status_code == 200 or is_error(answer)
