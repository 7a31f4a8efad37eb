"""Two processes are one on the joined batch: the loss, and every gradient."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from m3e.records import Kind
from m3e.training.gather import joined, parts_of_all, processes, sum_gradients
from m3e.training.sources import read_sources
from m3e.training.tokenise import Tokenisation, build_token_store
from tests.conftest import write_mini
from tests.training import gather_worker
from tests.training.loss_cases import CASES
from tests.training.prepared import records, write_prepared

KINDS = (Kind.PAIR, Kind.TRIPLET, Kind.RANKED, Kind.SCORED_PAIR)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_two_processes_are_one_on_the_joined_batch(mini: Any, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    write_mini(tmp_path / "model")
    sources = read_sources(write_prepared(tmp_path / "data", {kind.value: records(kind, 40) for kind in KINDS}))
    build_token_store(sources, Tokenisation.of(mini, sources), tmp_path / "tokens", workers=1)
    port = str(free_port())
    arguments = [port, str(tmp_path), *CASES]
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.gather_worker", str(rank), *arguments],
            cwd=Path(__file__).parent.parent.parent,
            stderr=subprocess.PIPE,
        )
        for rank in (0, 1)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=240)
        assert worker.returncode == 0, errors.decode()[-2000:]
    of_ranks = [torch.load(tmp_path / f"rank-{rank}.pt") for rank in (0, 1)]
    for case in CASES:
        value, gradients = gather_worker.gradients_of(tmp_path, case, 0, 1)
        assert max(float(each.abs().max()) for each in gradients.values()) > 1e-3
        for of_rank in of_ranks:
            found, others = of_rank[case]
            assert found == pytest.approx(value, abs=1e-9), case
            assert others.keys() == gradients.keys()
            assert all(torch.allclose(others[name], each, atol=1e-9) for name, each in gradients.items())


def test_one_process_gathers_nothing() -> None:
    values = torch.ones(2, 3, requires_grad=True)
    assert processes() == 1
    (part,) = parts_of_all(values)
    assert not part.requires_grad
    assert joined([part], values) is values
    sum_gradients([torch.nn.Parameter(torch.ones(1))])
