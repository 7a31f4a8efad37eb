"""``m3e serve``: what is refused before a model is loaded. Running servers are in tests/slow."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--log-level", "loud"], ("--log-level", "loud", "warning")),
        (["--alias", "ada=bert"], ("--alias", "bert")),
        (["--api-key", ""], ("--api-key", "empty")),
        (["--api-keys-file", "none.txt"], ("none.txt", "cannot be read")),
        (["--port", "99999"], ("--port", "65535")),
        (["--host", "no.such.host.invalid"], ("no.such.host.invalid",)),
        (["--host", "192.0.2.1"], ("192.0.2.1", "--host")),
        (["--max-items", "0"], ("--max-items",)),
        (["--queue-tokens", "0"], ("--queue-tokens",)),
        (["--dtype", "fp8"], ("dtype", "fp8")),
        (["--backend", "jax"], ("backend", "jax")),
        (["--dim", "33"], ("33", "32")),
    ],
)
def test_wrong_options(
    cli: Callable[..., Any], mini_folder: Path, arguments: list[str], named: tuple[str, ...]
) -> None:
    done = cli("serve", mini_folder, "--port", 0, *arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert all(word in done.err for word in named), done.err


def test_a_port_that_is_taken_is_named_before_the_model_is_loaded(cli: Callable[..., Any]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = cli("serve", "no-such-model", "--port", port)
    assert done.code == 2
    assert str(port) in done.err
    assert "--port" in done.err


def test_a_model_that_is_not_there(cli: Callable[..., Any]) -> None:
    done = cli("serve", "./no-such-folder", "--port", 0)
    assert done.code == 2
    assert "no-such-folder" in done.err


def test_a_store_that_is_not_there(cli: Callable[..., Any], mini_folder: Path) -> None:
    done = cli("serve", mini_folder, "--port", 0, "--store", "./no-such-store")
    assert done.code == 2
    assert "no-such-store" in done.err
