"""Pre-training killed at random steps and resumed, in processes of its own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from m3e.records import Kind, Pair, Record
from tests.conftest import pair_rows
from tests.training.masked_model import write_masked
from tests.training.prepared import records, write_prepared

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent


def start(stage: str, folder: Path, name: str) -> subprocess.Popen[bytes]:
    arguments = [stage, folder / "start", folder / "data", folder / name]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.slow.pretrain", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors.decode()[-2000:]


@pytest.mark.parametrize("stage", ["mlm", "retromae"])
def test_killed_at_random_steps_and_resumed_to_the_same_bits(stage: str, tmp_path: Path) -> None:
    write_masked(tmp_path / "start")
    faq: list[Record] = [Pair(**row) for row in pair_rows(80)]
    write_prepared(tmp_path / "data", {"faq": faq, "triplets": records(Kind.TRIPLET, 40, seed=1)})
    finish(start(stage, tmp_path, "whole"))
    kills = 0
    for number in range(3):
        process = start(stage, tmp_path, "killed")
        checkpoints = tmp_path / "killed" / "checkpoints"
        seen = {path.name for path in checkpoints.glob("checkpoint-*")}
        while process.poll() is None and not {path.name for path in checkpoints.glob("checkpoint-*")} - seen:
            time.sleep(0.01)
        time.sleep(random.Random(number).uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills
    finish(start(stage, tmp_path, "killed"))
    expected, found = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "killed"))
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
