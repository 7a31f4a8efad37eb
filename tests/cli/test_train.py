"""``m3e train``: the plan, the run, and errors in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m3e.files import read_json
from tests.training.recipes import write_data

RECIPE = """
title = "mini"
precision = "fp32"
[base]
model = "{base}"
[data]
folder = "nowhere"
[[stages]]
stage = "contrastive"
batch = {{ size = 8 }}
schedule = {{ steps = 3, lr = 1e-3 }}
watch = {{ every = 0, log_with = [] }}
"""


@pytest.fixture
def file(tmp_path: Path, mini_folder: Path) -> Path:
    path = tmp_path / "mini.toml"
    path.write_text(RECIPE.format(base=mini_folder), encoding="utf-8")
    return path


def test_train_and_its_report(file: Path, tmp_path: Path, cli: Any) -> None:
    data = write_data(tmp_path / "data")
    out, result = tmp_path / "run", tmp_path / "report.json"
    done = cli("train", file, "--data", data, "--out", out, "--json", result, "--device", "cpu")
    assert done.code == 0, done.err
    report = read_json(result)
    assert report["model_dir"] == str(out / "model")
    assert report["stages"]["contrastive"]["steps"] == 3
    assert report["commercial"] == "unknown"
    again = cli("train", file, "--data", data, "--out", out, "--device", "cpu")
    assert "stage contrastive: done before" in again.out


def test_a_plan_does_nothing(file: Path, tmp_path: Path, cli: Any) -> None:
    data = write_data(tmp_path / "data")
    result = tmp_path / "plan.json"
    done = cli("train", file, "--data", data, "--out", tmp_path / "run", "--dry-run", "--json", result)
    assert done.code == 0, done.err
    assert "estimates; nothing was done" in done.out
    assert read_json(result)["stages"][0]["steps"] == 3
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["--set", "stages.contrastive.batch.sise=8"], "batch.sise: no such key"),
        (["--set", "policy=commercial"], "commercial use"),
        ([], "data.folder: there is no folder nowhere"),
    ],
)
def test_errors_are_one_line(file: Path, tmp_path: Path, cli: Any, settings: list[str], said: str) -> None:
    data = ["--data", write_data(tmp_path / "data")] if settings else []
    done = cli("train", file, *data, "--out", tmp_path / "run", *settings)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
