"""The same sets on local threads and on a Ray cluster of two workers: the same bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from m3e.files import read_json
from tests.slow.data_rows import LEAKS, content, write_sets
from tests.slow.processes import offline_environment, run_m3e

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="Ray is not installed")

DRIVER = Path(__file__).with_name("run_on_ray.py")


def run_on_ray(report: Path, *arguments: str | Path) -> dict[str, Any]:
    """Run a command on a cluster and require exit 0; what its workers did."""
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(report), *map(str, arguments)],
        env=offline_environment(M3E_DATA=""),
        capture_output=True,
        text=True,
        timeout=420,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = read_json(report)
    return answer


def test_a_ray_cluster_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M3E_DATA", "")
    paths, evaluation = write_sets(tmp_path, 24_000)
    command = ("data", "prepare", "--sets", ",".join(map(str, paths)), "--against", evaluation)
    run_m3e(*command, "--out", tmp_path / "local")
    report = run_on_ray(tmp_path / "ray.json", *command, "--out", tmp_path / "ray", "--engine", "ray")
    assert report["nodes"] == 2
    assert len(report["tasks_by_worker"]) == 2, "one worker did everything"

    local, ray = content(tmp_path / "local"), content(tmp_path / "ray")
    assert list(local) == list(ray)
    assert [name for name in local if local[name] != ray[name]] == []
    assert {name.split("/")[0] for name in local if name.endswith(".parquet")} == {path.stem for path in paths}

    # the run did something: every rule that the rows were made for dropped some of them
    manifest = read_json(tmp_path / "ray" / "manifest.json")
    assert manifest["content_hash"] == read_json(tmp_path / "local" / "manifest.json")["content_hash"]
    dropped = {entry["dataset"]: entry["dropped"] for entry in manifest["datasets"]}
    assert {"exact_duplicate", "near_duplicate", "contaminated_exact", "contaminated_near"} <= set(dropped["first"])
    assert dropped["second"]["exact_duplicate"] >= 24_000 // 20
    assert manifest["by_pair"][0]["rows"] == LEAKS
