"""Preparing data: memory that does not grow with the texts, and runs that are killed and go on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3e.files import read_json
from tests.slow.data_rows import content, sentence, write_sets
from tests.slow.processes import COMMAND, MEASURED, offline_environment, run_m3e

pytestmark = pytest.mark.slow

ROWS_AT_ONCE = 10_000

# which sets were read and cleaned, one a line
WATCHED = """
import sys
from pathlib import Path
from m3e.cli import main
from m3e.data import pipeline
report, whole = Path(sys.argv.pop(1)), pipeline._stage
def watched(plan, *arguments):
    with report.open("a") as stream:
        stream.write(plan.name + "\\n")
    whole(plan, *arguments)
pipeline._stage = watched
main()
"""


@pytest.fixture(autouse=True)
def no_local_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M3E_DATA", "")


def run_script(script: str, *arguments: str | Path) -> None:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=offline_environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


def write_long_pairs(path: Path, rows: int) -> int:
    """Pairs whose positives have about 1000 bytes; how many bytes of text there are."""
    draw = random.Random(7)
    parts = [sentence(draw, 40, 80) for _ in range(20_000)]
    size = 0
    with pq.ParquetWriter(path, pa.schema([("text", pa.string()), ("text_pos", pa.string())])) as writer:
        for _ in range(0, rows, ROWS_AT_ONCE):
            texts = [draw.choice(parts) for _ in range(ROWS_AT_ONCE)]
            positives = ["，".join(draw.choices(parts, k=6)) for _ in range(ROWS_AT_ONCE)]
            table = pa.table({"text": texts, "text_pos": positives})
            size += table.nbytes
            writer.write_table(table)
    return size


def peak_bytes(folder: Path, rows: int) -> tuple[int, int]:
    """Peak memory of preparing so many rows, and their size."""
    size = write_long_pairs(folder / f"{rows}.parquet", rows)
    report = folder / f"{rows}.peak"
    run_script(
        MEASURED, report, "data", "prepare", "--sets", folder / f"{rows}.parquet", "--out", folder / f"{rows}.out"
    )
    assert read_json(folder / f"{rows}.out" / "manifest.json")["rows_out"] == rows
    return int(report.read_text()) * 1024, size


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_texts(tmp_path: Path) -> None:
    small_peak, small_size = peak_bytes(tmp_path, 100_000)
    peak, size = peak_bytes(tmp_path, 300_000)
    assert size - small_size > 200 << 20
    assert peak < 1 << 30
    assert peak - small_peak < 100 << 20


def killed_when(happened: Callable[[], bool], *arguments: str | Path, log: Path) -> None:
    """Start a command and kill it as soon as something is so; fail where it ends before."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)], env=offline_environment(), stdout=stream, stderr=subprocess.STDOUT
        )
    end = time.monotonic() + 300
    while not happened():
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < end
        time.sleep(0.002)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL, "it ended before it was killed"


@pytest.mark.parametrize("moment", ["the second set is cleaned", "the third set is read", "shards are written"])
def test_a_killed_prepare_goes_on_with_the_set_that_it_was_at(moment: str, tmp_path: Path) -> None:
    paths, evaluation = write_sets(tmp_path, 24_000)
    names = [path.stem for path in paths]
    command = ("data", "prepare", "--sets", ",".join(map(str, paths)), "--against", evaluation)
    run_m3e(*command, "--out", tmp_path / "whole")
    work, out = tmp_path / ".out.work", tmp_path / "out"
    happened = {
        "the second set is cleaned": (work / "second" / "clean.parquet").exists,
        "the third set is read": (work / "triplets" / "raw").exists,
        "shards are written": lambda: any(tmp_path.glob(".out.*.partial/first/00000.parquet")),
    }[moment]
    killed_when(happened, *command, "--out", out, log=tmp_path / "log")
    assert not out.exists(), "an output folder is complete or not there"
    done = [name for name in names if (work / name / "m3e.json").exists()]
    assert done == names[: {"the second set is cleaned": 1, "the third set is read": 2}.get(moment, 4)]

    run_script(WATCHED, tmp_path / "read", *command, "--out", out)
    read = (tmp_path / "read").read_text().split() if (tmp_path / "read").exists() else []
    assert read == names[len(done) :]
    assert content(out) == content(tmp_path / "whole")
    assert not work.exists()
