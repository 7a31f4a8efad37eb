"""Errors in the shape of OpenAI's API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """A request that is refused.

    Args:
        status: of HTTP.
        message: what is wrong and what would be right; holds no key.
        param: the field of the body that is wrong.
        code: a word that programs can compare.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The answer: ``{"error": {"message", "type", "param", "code"}}``."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return encode_json({"error": error})


def encode_json(value: Any) -> bytes:
    """Strict JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def bad_request(message: str, param: str | None) -> ApiError:
    """Status 400."""
    return ApiError(400, message, param=param)


def wrong_key(*, given: bool) -> ApiError:
    """Status 401; ``given``: there was a key, but it is not one of ours."""
    what = "The API key is not one of this server's" if given else "This server wants an API key"
    return ApiError(
        401,
        f"{what}. Send it in the header 'Authorization: Bearer YOUR_KEY' (or 'api-key: YOUR_KEY').",
        code="invalid_api_key",
        headers={"www-authenticate": "Bearer"},
    )


def too_busy(retry_after: int) -> ApiError:
    """Status 429, with the seconds after which there should be room again."""
    return ApiError(
        429,
        f"The server has as much work waiting as it may hold; try again in {retry_after} s.",
        code="rate_limit_exceeded",
        headers={"retry-after": str(retry_after)},
    )


def stopping() -> ApiError:
    """Status 503."""
    return ApiError(
        503,
        "The server is stopping and takes no more requests; send it to another one.",
        code="server_stopping",
        headers={"retry-after": "5", "connection": "close"},
    )


def too_large(limit: int) -> ApiError:
    """Status 413."""
    return ApiError(413, f"The body is larger than {limit} bytes; send fewer texts a request.", code="body_too_large")
