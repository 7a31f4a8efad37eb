"""SIGKILL at any moment: nothing half written, resumed work ends in the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from m3e import load
from m3e.models.folder import save
from tests.conftest import write_mini
from tests.slow.processes import run_m3e, start_m3e

pytestmark = pytest.mark.slow

TEXTS = ["今天天气很好", "退货怎么办", "猫狗", "a cat"]
SETTINGS = ("--batch-size", "16", "--lr", "2e-3", "--precision", "fp32", "--device", "cpu")
FILE_EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "shutil.rmtree")


def vectors_of(folder: Path) -> np.ndarray[Any, Any]:
    """What plain sentence-transformers makes of a folder."""
    return SentenceTransformer(str(folder), device="cpu").encode(TEXTS)


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Look every 2 ms; fail where the process ends or the time is over first."""
    end = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, "the process ended before it could be killed"
        assert time.monotonic() < end, f"nothing happened in {seconds} s"
        time.sleep(0.002)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    assert process.wait(60) == -signal.SIGKILL, "the process ended before it was killed"


@pytest.fixture(scope="module")
def train(mini_model: Path, pair_file: Path) -> Callable[..., tuple[str | Path, ...]]:
    """The command line of one fine-tune into ``out``."""

    def command(out: Path, *more: str) -> tuple[str | Path, ...]:
        return ("finetune", mini_model, pair_file, "--out", out, *SETTINGS, *more)

    return command


@pytest.fixture(scope="module")
def whole(train: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fine-tune that nothing stopped."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run_m3e(*train(out, "--checkpoint-steps", "7"))
    return out


def test_a_killed_fine_tune_resumes_to_the_same_bytes(train: Callable[..., Any], whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = train(out, "--checkpoint-steps", "7")
    process = start_m3e(tmp_path / "log", *command)
    wait_until(lambda: any((out / "checkpoints").glob("checkpoint-*/trainer_state.json")), process)
    kill(process)
    assert not (out / "modules.json").exists(), "killed after the end, which tests nothing"
    resumed = run_m3e(*command, "--resume")
    assert "starting anew" not in resumed.stdout
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert np.array_equal(vectors_of(out), vectors_of(whole))
    assert not (out / "checkpoints").exists()


def test_killed_before_a_checkpoint_it_starts_anew_and_says_so(
    train: Callable[..., Any], whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start_m3e(tmp_path / "log", *train(out))
    wait_until(lambda: (out / "checkpoints" / "guard.json").exists(), process)
    kill(process)
    assert not any((out / "checkpoints").glob("checkpoint-*"))
    resumed = run_m3e(*train(out), "--resume")
    assert "nothing to resume" in resumed.stdout
    assert "starting anew" in resumed.stdout
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize("moment", ["importing", "training", "saving", "saving a little later"])
def test_a_kill_leaves_the_old_or_the_new_model(
    moment: str, train: Callable[..., Any], mini_model: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    process = start_m3e(tmp_path / "log", *train(out, "--epochs", "1", "--seed", "7"))
    if moment == "importing":
        time.sleep(random.uniform(0, 5))
    elif moment == "training":
        wait_until(lambda: (out / "checkpoints" / "guard.json").exists(), process)
        time.sleep(random.uniform(0, 0.5))
    else:
        wait_until(lambda: any(tmp_path.glob(".out.*.partial")), process)
        time.sleep(0.0 if moment == "saving" else random.uniform(0, 0.05))
    process.kill()
    process.wait(60)
    found = vectors_of(out)
    if not np.array_equal(found, vectors_of(whole)):
        run_m3e(*train(tmp_path / "new", "--epochs", "1", "--seed", "7"))
        assert np.array_equal(found, vectors_of(tmp_path / "new"))
    assert load(out, device="cpu").encode(TEXTS).shape == (4, 32)


def run_and_die(work: Callable[[], Any], root: Path, at: int) -> bool:
    """Run ``work`` in a fork that is killed before its file operation number ``at`` under ``root``; whether it was."""
    child = os.fork()
    if child == 0:
        seen = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            writes = event == "open" and len(arguments) > 2 and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
            if (event in FILE_EVENTS or writes) and str(arguments[0]).startswith(str(root)):
                seen += 1
                if seen == at:
                    os.kill(os.getpid(), signal.SIGKILL)

        signal.alarm(60)
        try:
            sys.addaudithook(count)
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL), "saving failed in the fork"
    return os.WIFSIGNALED(status)


def test_a_kill_before_any_file_operation_of_saving_leaves_a_whole_model(mini_model: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    new = load(write_mini(tmp_path / "other", prompts={"query": "猫"}, seed=1, hidden=16), device="cpu")
    old_vectors, new_vectors = load(mini_model, device="cpu").encode(TEXTS), new.encode(TEXTS)
    outcomes = []
    for at in range(1, 1000):
        root = tmp_path / f"kill-{at}"
        shutil.copytree(mini_model, root / "out")
        (root / "out" / "notes.txt").write_text("keep")
        killed = run_and_die(lambda folder=root / "out": save(new, folder), root, at)
        found = vectors_of(root / "out")
        assert found.shape in (old_vectors.shape, new_vectors.shape)
        is_new = found.shape == new_vectors.shape
        assert np.abs(found - (new_vectors if is_new else old_vectors)).max() < 1e-6, f"operation {at}"
        prompts = json.loads((root / "out" / "config_sentence_transformers.json").read_text("utf-8"))["prompts"]
        assert prompts["query"] == ("猫" if is_new else "问"), f"operation {at}"
        assert (root / "out" / "notes.txt").read_text() == "keep", f"operation {at}"
        outcomes.append(is_new)
        shutil.rmtree(root)
        if not killed:
            break
    assert not outcomes[0]
    assert outcomes[-1], "the last run was not killed, and saved"
    assert len(outcomes) > 20, "too few operations were seen"
