"""What answers of the API must look like."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

EMBEDDINGS = "/v1/embeddings"


def refused(answer: Any, status: int, param: str | None, *named: str) -> dict[str, Any]:
    """Check an error in the API's shape; its ``error`` object."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == ("invalid_request_error" if status < 500 else "server_error")
    assert error["param"] == param, error
    assert all(word.lower() in error["message"].lower() for word in named), error["message"]
    return error


def vectors_of(answer: Any) -> np.ndarray[Any, Any]:
    """Check an answer's shape; its vectors, whichever way they came."""
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"object", "data", "model", "usage"}
    assert body["object"] == "list"
    assert set(body["usage"]) == {"prompt_tokens", "total_tokens"}
    assert [item["index"] for item in body["data"]] == list(range(len(body["data"])))
    assert all(set(item) == {"object", "index", "embedding"} for item in body["data"])
    assert all(item["object"] == "embedding" for item in body["data"])
    rows = [item["embedding"] for item in body["data"]]
    return np.stack(
        [
            np.frombuffer(base64.b64decode(row, validate=True), "<f4") if isinstance(row, str) else np.float32(row)
            for row in rows
        ]
    )
