"""Bodies that arrive in pieces, too slowly, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from m3e.serving.bodies import ClientGoneError, read_body
from m3e.serving.failures import ApiError


def pieces(parts: Iterable[Any]) -> Any:
    rest = iter(parts)

    async def receive() -> Any:
        part = next(rest)
        if part is None:
            await asyncio.sleep(10)
        return part

    return receive


def piece(body: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def read(parts: Iterable[Any], announced: int | None = None, limit: int = 10) -> tuple[bytes, list[int]]:
    counted: list[int] = []
    return asyncio.run(read_body(pieces(parts), announced, limit, 0.05, counted.append)), counted


def test_pieces_are_joined_and_counted() -> None:
    assert read([piece(b"ab", True), piece(b"", True), piece(b"cd", False)]) == (b"abcd", [2, 0, 2])
    assert read([{"type": "http.request"}]) == (b"", [0])


def test_the_limit_is_the_last_size_that_is_taken() -> None:
    assert read([piece(b"x" * 10, False)], announced=10)[0] == b"x" * 10
    for parts, announced in (([], 11), ([piece(b"x" * 11, False)], None), ([piece(b"x" * 6, True)] * 2, None)):
        with pytest.raises(ApiError) as refused:
            read(parts, announced)
        assert refused.value.status == 413


def test_a_client_that_stops_sending_is_given_up() -> None:
    with pytest.raises(ApiError) as refused:
        read([piece(b"x", True), None])
    assert refused.value.status == 408


def test_a_client_that_hangs_up() -> None:
    with pytest.raises(ClientGoneError):
        read([piece(b"x", True), {"type": "http.disconnect"}])
