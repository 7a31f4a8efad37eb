"""``m3e train`` killed at any moment: resumed it ends in the same bits, and what was done is not done again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m3e.files import read_json
from tests.slow.processes import COMMAND, ROOT, offline_environment
from tests.training.recipes import HEAD, write_data
from tests.training.small_bert import write_bert

pytestmark = pytest.mark.slow

RECIPE = (
    HEAD
    + """[[stages]]
stage = "mlm"
batch = {{ size = 8 }}
schedule = {{ steps = 12, lr = 1e-3 }}
watch = {{ every = 0, log_with = [] }}
[[stages]]
stage = "contrastive"
preserve = 1.0
false_negative_margin = 0.2
lora = {{ rank = 4, alpha = 8, dropout = 0.1 }}
batch = {{ size = 8 }}
schedule = {{ epochs = 2, lr = 1e-3 }}
watch = {{ every = 6, log_with = [] }}
[[stages]]
stage = "scored"
batch = {{ size = 4 }}
schedule = {{ epochs = 2, lr = 1e-3 }}
watch = {{ every = 1, keep_best = true, log_with = [] }}
[[stages]]
stage = "distil"
teacher = "base"
relational = 0.5
batch = {{ size = 8 }}
schedule = {{ steps = 12, lr = 1e-3 }}
watch = {{ every = 0, log_with = [] }}
[[stages]]
stage = "merge"
models = {{ contrastive = 0.3, previous = 0.7 }}
"""
)
STAGES = ("1-mlm", "2-contrastive", "3-scored", "4-distil", "5-merge")
MOMENTS = {
    "the base is written": "0-base/.model.",
    "shards are tokenised": "1-mlm/.tokens.parts/m3e.json",
    "tokens are joined": ".partial/002/keys.npy",
    "a checkpoint is begun": "1-mlm/checkpoints/checkpoint-4",
    "a checkpoint is ended": "1-mlm/checkpoints/checkpoint-8/trainer_state.json",
    "a model is saved": "1-mlm/.model.",
    "a stage is reported": "1-mlm/.stage.json",
    "batches are planned": "2-contrastive/.batches.",
    "the start's vectors are made": "2-contrastive/.start-vectors.parts/00000",
    "the first look is written": "2-contrastive/.looks.json",
    "a later look is written": "2-contrastive/looks.json#2",
    "what is of no use is removed": "2-contrastive/tokens",
    "the best weights are kept": "3-scored/best.safetensors#2",
    "a look is written after them": "3-scored/.looks.json#2",
    "the teacher's vectors are made": "4-distil/.teacher.parts/00000",
    "the teacher's vectors are turned": "4-distil/.targets-",
    "models are averaged": "5-merge/.model.",
    "the model is put together": "/out/.model.",
    "the card is written": "/out/model/.README.md",
}
"""What happens, and a part of a path that is about to be written then; all in the order of a run."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    data = write_data(folder / "data")
    path = folder / "mini.toml"
    path.write_text(RECIPE.format(base=write_bert(folder / "base"), data=data), encoding="utf-8")
    return path


def command(file: Path, out: Path, *more: str) -> list[str]:
    options = ["--device", "cpu", "--checkpoint-steps", "2", "--resume", *more]
    return ["train", str(file), "--out", str(out), *options]


@pytest.fixture(scope="module")
def whole(file: Path) -> Path:
    """The folder of a run that nothing stopped."""
    out = file.parent / "whole"
    done = run(file, out)
    assert done.returncode == 0, done.stderr
    return out


def run(file: Path, out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run to the end, or to where the environment says."""
    program = [sys.executable, "-m", "tests.slow.observed"] if environment else list(COMMAND)
    return subprocess.run(
        [*program, *command(file, out)],
        cwd=ROOT,
        env=offline_environment(**environment),
        capture_output=True,
        text=True,
        timeout=500,
    )


def assert_same_bits(out: Path, whole: Path) -> None:
    for name in (*STAGES, "."):
        found, expected = (folder / name / "model" / "model.safetensors" for folder in (out, whole))
        assert found.read_bytes() == expected.read_bytes(), name
    reports = [read_json(folder / "report.json")["stages"] for folder in (out, whole)]
    for name, stage in reports[1].items():
        for key in ("rows", "steps", "tokens", "losses", "sets"):
            assert reports[0][name][key] == stage[key], f"{name} {key}"
        scores = [[(look["step"], look["score"]) for look in report[name]["looks"]] for report in reports]
        assert scores[0] == scores[1], name


def test_killed_at_every_kind_of_moment(file: Path, whole: Path) -> None:
    out = file.parent / "out"
    finished: dict[str, float] = {}
    for moment, death in MOMENTS.items():
        done = run(file, out, OBSERVED_FOLDER=str(file.parent), OBSERVED_DEATH=death)
        assert done.returncode == -signal.SIGKILL, f"nothing was killed while {moment}: {done.stdout}{done.stderr}"
        now = {stage: path.stat().st_mtime for stage in STAGES if (path := out / stage / "stage.json").exists()}
        assert now.items() >= finished.items(), f"a finished stage was done again after a kill while {moment}"
        finished = now
    assert set(finished) == set(STAGES)
    done = run(file, out)
    assert done.returncode == 0, done.stderr
    assert all(f"stage {name.partition('-')[2]}: done before" in done.stdout for name in STAGES)
    assert_same_bits(out, whole)
    assert not list(out.rglob("*.partial")), "what a killed run left half written"


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_steps(file: Path, whole: Path, seed: int) -> None:
    draw = random.Random(seed)
    out = file.parent / f"random-{seed}"
    kills = 0
    for stage in STAGES[:4]:
        wanted = draw.choice((2, 4, 6, 8))
        process = subprocess.Popen(
            [*COMMAND, *command(file, out)],
            env=offline_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        checkpoint = out / stage / "checkpoints" / f"checkpoint-{wanted}" / "trainer_state.json"
        while process.poll() is None and not checkpoint.exists() and not (out / stage / "stage.json").exists():
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.1))
        process.kill()
        kills += process.wait(60) == -signal.SIGKILL
    assert kills == 4
    done = run(file, out)
    assert done.returncode == 0, done.stderr
    assert_same_bits(out, whole)
