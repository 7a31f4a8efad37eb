"""``torchrun -m m3e train``: two processes train as one, one of them writes and speaks, an error ends both."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from m3e.files import read_json
from tests.slow.processes import ROOT, offline_environment
from tests.training.recipes import HEAD, write_data
from tests.training.small_bert import write_bert

pytestmark = pytest.mark.slow

RECIPE = (
    HEAD
    + """[[stages]]
stage = "cut"
[[stages]]
stage = "contrastive"
preserve = 1.0
false_negative_margin = 0.2
batch = {{ size = 8 }}
schedule = {{ steps = 8, lr = 1e-3 }}
watch = {{ every = 4, log_with = [] }}
[[stages]]
stage = "scored"
batch = {{ size = 8 }}
schedule = {{ steps = 4, lr = 1e-3 }}
watch = {{ every = 0 }}
[[stages]]
stage = "distil"
teacher = "base"
lora = {{ rank = 4, alpha = 8 }}
batch = {{ size = 8 }}
schedule = {{ steps = 4, lr = 1e-3 }}
watch = {{ every = 0, log_with = [] }}
[[stages]]
stage = "merge"
models = {{ contrastive = 0.2, previous = 0.8 }}
"""
)
STAGES = ("1-cut", "2-contrastive", "3-scored", "4-distil", "5-merge")
FRACTION = re.compile(r"\d+\.\d+")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe for a base without dropout, which no two processes would draw alike."""
    folder = tmp_path_factory.mktemp("processes")
    write_bert(folder / "base", dropout=0.0)
    data = write_data(folder / "data")
    (folder / "mini.toml").write_text(RECIPE.format(base=folder / "base", data=data), encoding="utf-8")
    return folder


def run(command: tuple[str, ...], work: Path, out: str, *more: str, **environment: str) -> Any:
    arguments = ["train", work / "mini.toml", "--device", "cpu", "--out", work / out, *more]
    return subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env=offline_environment(**environment),
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.fixture(scope="module")
def one(work: Path) -> Any:
    done = run((sys.executable, "-m", "m3e"), work, "one")
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def two(work: Path) -> Any:
    environment = {"OBSERVED_FOLDER": str(work / "two"), "OBSERVED_NOTES": str(work / "notes")}
    done = run((*TORCHRUN, "-m", "tests.slow.observed"), work, "two", **environment)
    assert done.returncode == 0, done.stderr
    return done


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_file(folder / "model" / "model.safetensors")
    return weights


def plain(lines: str, out: Path) -> tuple[list[str], list[float]]:
    """Lines without the names of folders, and the fractions in them, which the order of sums may change a little."""
    text = lines.replace(str(out), "OUT")
    return FRACTION.sub("#", text).splitlines(), [float(value) for value in FRACTION.findall(text)]


def test_two_processes_train_as_one(work: Path, one: Any, two: Any) -> None:
    reports = [read_json(work / name / "report.json")["stages"] for name in ("one", "two")]
    for name, expected in reports[0].items():
        found = reports[1][name]
        assert [step for step, _ in found["losses"]] == [step for step, _ in expected["losses"]]
        pairs = zip(found["losses"], expected["losses"], strict=True)
        assert all(abs(ours - theirs) <= 1e-5 for (_, ours), (_, theirs) in pairs), name
        for key in ("rows", "steps", "sets"):
            assert found[key] == expected[key]
    earlier = weights_of(work / "one" / "0-base")
    for name in STAGES:
        expected, found = (weights_of(work / out / name) for out in ("one", "two"))
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            # attention does not depend on it: its gradient is rounding, of which Adam makes steps
            if not key.endswith("attention.self.key.bias"):
                assert torch.allclose(value, found[key], rtol=0, atol=1e-5), f"{name} {key}"
        query = "encoder.layer.1.attention.self.query.weight"
        assert name == "1-cut" or not torch.allclose(expected[query], earlier[query], rtol=0, atol=1e-4), name
        earlier = expected


def test_one_process_writes_speaks_and_looks(work: Path, one: Any, two: Any) -> None:
    (found, values), (expected, wanted) = (
        plain(done.stdout, work / name) for done, name in ((two, "two"), (one, "one"))
    )
    assert found == expected
    assert values == pytest.approx(wanted, abs=0.01)
    first, second = ((work / f"notes.{rank}").read_text("utf-8").splitlines() for rank in (0, 1))
    assert first.count("look") == 3
    assert len([line for line in first if line.startswith("write")]) > 50
    assert second == []
    assert "Warning" not in two.stderr.replace("OMP_NUM_THREADS", "")


def test_more_processes_than_a_batch_can_be_split_into_is_one_line(work: Path) -> None:
    done = run((*TORCHRUN, "-m", "m3e"), work, "uneven", "--set", "stages.contrastive.batch.size=7")
    assert done.returncode != 0
    assert ours(done.stderr) == [
        "m3e: stage contrastive: batches of 7 rows cannot be split evenly over 2 processes; set batch_size to a "
        "multiple of 2"
    ]


def test_a_misspelt_key_is_one_line(work: Path) -> None:
    done = run((*TORCHRUN, "-m", "m3e"), work, "misspelt", "--set", "stages.contrastive.batch.sise=7")
    assert done.returncode != 0
    assert ours(done.stderr) == ["m3e: mini.toml: stages.contrastive (2).batch.sise: no such key"]


@pytest.mark.parametrize("rank", ["0", "1"])
def test_an_error_in_one_process_ends_both(work: Path, rank: str) -> None:
    done = run((*TORCHRUN, "-m", "tests.slow.observed"), work, f"failed-{rank}", OBSERVED_FAILURE=rank)
    assert done.returncode != 0
    assert ours(done.stderr) == [f"m3e: stage contrastive: the disk of process {rank} is gone; plug it in"]
    assert "stage scored" not in done.stdout


def ours(errors: str) -> list[str]:
    """Our lines of what a run printed: torchrun adds its own report, which begins with its own traceback."""
    lines = errors.splitlines()
    assert sum(line.startswith("Traceback") for line in lines) <= 1, errors
    return [line for line in lines if line.startswith("m3e: ")]
