"""Pages of other origins: only those that were named, errors included."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving.api_shapes import EMBEDDINGS

HERE, THERE = "https://chat.example", "https://evil.example"
ASK = {"access-control-request-method": "POST"}


def test_without_the_option_no_origin_is_allowed(serve: Any) -> None:
    client = serve()
    for answer in (
        client.options(EMBEDDINGS, headers={"origin": HERE, **ASK}),
        client.post(EMBEDDINGS, json={"model": "mini", "input": "花"}, headers={"origin": HERE}),
    ):
        assert answer.status_code in (200, 204)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origins", [(HERE,), ("http://localhost:3000", HERE), ("*",)])
def test_a_named_origin_is_allowed_in_every_answer(serve: Any, origins: tuple[str, ...]) -> None:
    client = serve(keys=("k",), origins=origins, max_body=100)
    origin = {"origin": HERE}
    key = {**origin, "authorization": "Bearer k"}
    answers = [
        client.options(EMBEDDINGS, headers={**origin, **ASK}),
        client.post(EMBEDDINGS, json={"model": "mini", "input": "花"}, headers=key),
        client.post(EMBEDDINGS, json={"model": "mini", "input": ""}, headers=key),
        client.post(EMBEDDINGS, json={"model": "mini", "input": "x" * 200}, headers=key),
        client.post(EMBEDDINGS, json={}, headers=origin),
        client.get("/nowhere", headers=key),
    ]
    assert [answer.status_code for answer in answers] == [204, 200, 400, 413, 401, 404]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == HERE
        assert "x-m3e-truncated" in answer.headers["access-control-expose-headers"]
        assert "origin" in answer.headers["vary"].lower()
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", [THERE, "null", HERE + ":8443", HERE + ".evil.example", "http://chat.example", ""])
def test_other_origins_are_not(serve: Any, origin: str) -> None:
    client = serve(origins=(HERE,))
    answer = client.options(EMBEDDINGS, headers={"origin": origin, **ASK})
    assert answer.status_code == 204
    assert "access-control-allow-origin" not in answer.headers
