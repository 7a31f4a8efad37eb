"""Servers in this process: a miniature model, or m3e-tiny, behind the real application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from m3e.inference import Encoder
from m3e.serving import ServeOptions, create_app

Client = TestClient
Serve = Callable[..., TestClient]


@pytest.fixture(scope="session")
def mini_encoder(mini_folder: Path) -> Encoder:
    """fp32, 32 numbers, at most 64 tokens, prompts 问 and 答."""
    return Encoder(mini_folder, backend="torch", dtype="fp32", device="cpu")


@pytest.fixture(scope="session")
def tiny_encoder() -> Encoder:
    return Encoder("m3e-tiny", backend="torch", dtype="fp32", device="cpu")


@pytest.fixture
def serve(mini_encoder: Encoder) -> Iterator[Serve]:
    """``serve(keys=("k",), …)``: a client of a server of the miniature model; options are ``ServeOptions``'s."""
    opened: list[TestClient] = []

    def start(encoder: Any = mini_encoder, name: str = "mini", store: Any = None, **options: Any) -> TestClient:
        client = TestClient(create_app(encoder, name, ServeOptions(**options), store=store))
        client.__enter__()
        opened.append(client)
        return client

    yield start
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def mini_client(serve: Serve) -> TestClient:
    return serve()


@pytest.fixture(scope="module")
def tiny_client(tiny_encoder: Encoder) -> Iterator[TestClient]:
    with TestClient(create_app(tiny_encoder, "m3e-tiny")) as client:
        yield client
