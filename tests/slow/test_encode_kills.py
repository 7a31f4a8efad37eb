"""``m3e encode`` killed at any moment, by itself, with workers and on a cluster: the same bytes; memory that stays."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from m3e.files import read_json
from tests.slow.processes import MEASURED, offline_environment, run_m3e, start_m3e

pytestmark = pytest.mark.slow

CHARACTERS = "今天气很好我们去公园吧怎么办退货款订单地址修改快递到哪了发票会员积分猫狗树叶黄番茄阳台花开"
DRIVER = Path(__file__).with_name("run_on_ray.py")
KILLS = 5


def write_texts(path: Path, count: int) -> Path:
    """So many texts of 2 to 60 characters, all different."""
    draw = random.Random(count)
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            text = f"{number}{''.join(draw.choices(CHARACTERS, k=draw.randint(1, 50)))}"
            stream.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    return path


def chunks_in(out: Path) -> int:
    folder = out.with_name(f".{out.name}.parts")
    return len(list(folder.glob("*.safetensors"))) if folder.is_dir() else 0


def kill_after_more_chunks(out: Path, log: Path, *command: str | Path, extra: float) -> list[int]:
    """Start a command, and kill it a random moment after it has finished a chunk more than there were.

    Its children at that moment, by process id.
    """
    before = chunks_in(out)
    process = start_m3e(log, *command)
    end = time.monotonic() + 300
    while chunks_in(out) <= before:
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < end
        time.sleep(0.002)
    time.sleep(random.uniform(0, extra))
    children = children_of(process)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL, "it ended before it was killed"
    assert not out.exists()
    return children


def children_of(process: subprocess.Popen[bytes]) -> list[int]:
    """The worker processes of a command."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.parametrize(
    ("model", "count", "ending", "options"),
    [
        ("m3e-static", 200_000, "npy", ()),
        ("m3e-static", 100_000, "parquet", ("--dim", "64")),
        ("m3e-tiny", 30_000, "safetensors", ()),
    ],
)
def test_five_kills_and_the_same_bytes(
    model: str, count: int, ending: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    source = write_texts(tmp_path / "t.jsonl", count)
    out, whole = tmp_path / f"v.{ending}", tmp_path / f"whole.{ending}"
    command = ("encode", model, source, *options, "--out")
    run_m3e(*command, whole)
    for _ in range(KILLS):
        kill_after_more_chunks(out, tmp_path / "log", *command, out, extra=0.1)
    kept = chunks_in(out)
    assert KILLS <= kept < count / 4096, "killed too late, which tests nothing"
    done = run_m3e(*command, out)
    assert f"of {count} vectors of an earlier run were kept" in done.stdout
    assert out.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob(".v*"))


def test_a_kill_before_the_first_chunk_and_one_while_the_file_is_written(tmp_path: Path) -> None:
    source = write_texts(tmp_path / "t.jsonl", 60_000)
    command = ("encode", "m3e-static", source, "--out")
    run_m3e(*command, tmp_path / "whole.npy")
    out = tmp_path / "v.npy"
    out.write_bytes(b"an older file")
    process = start_m3e(tmp_path / "log", *command, out)
    time.sleep(random.uniform(0, 4))
    process.kill()
    process.wait(60)
    assert out.read_bytes() == b"an older file"
    process = start_m3e(tmp_path / "log", *command, out)
    end = time.monotonic() + 300
    while not any(tmp_path.glob(".v.npy.*.partial")):
        assert process.poll() is None, (tmp_path / "log").read_text(errors="replace")
        assert time.monotonic() < end
    process.kill()
    if process.wait(60) == -signal.SIGKILL and out.read_bytes() == b"an older file":
        done = run_m3e(*command, out)
        assert "60000 of 60000 vectors of an earlier run were kept" in done.stdout
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_several_processes_write_the_same_bytes_and_end_with_their_parent(mini_model: Path, tmp_path: Path) -> None:
    source = write_texts(tmp_path / "t.jsonl", 20_000)
    command = ("encode", mini_model, source, "--dtype", "fp32", "--device", "cpu,cpu", "--workers", "2", "--out")
    run_m3e("encode", mini_model, source, "--dtype", "fp32", "--out", tmp_path / "whole.npy")
    out = tmp_path / "v.npy"
    workers = kill_after_more_chunks(out, tmp_path / "log", *command, out, extra=0.5)
    assert len(workers) == 2
    end = time.monotonic() + 20
    while any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers):
        assert time.monotonic() < end, "they are still there without their parent"
        time.sleep(0.1)
    done = run_m3e(*command, out)
    assert "vectors of an earlier run were kept" in done.stdout
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_a_killed_worker_is_named(mini_model: Path, tmp_path: Path) -> None:
    source = write_texts(tmp_path / "t.jsonl", 80_000)
    out = tmp_path / "v.npy"
    process = start_m3e(tmp_path / "log", "encode", mini_model, source, "--workers", "2", "--out", out)
    end = time.monotonic() + 300
    while not chunks_in(out):
        assert process.poll() is None, (tmp_path / "log").read_text(errors="replace")
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(children_of(process)[0], signal.SIGKILL)
    assert process.wait(60) == 2
    message = (tmp_path / "log").read_text().strip().splitlines()[-1]
    assert "killed by signal 9" in message
    assert "--workers" in message
    assert chunks_in(out) >= 1


def test_a_ray_cluster_writes_the_same_bytes_and_goes_on(mini_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    source = write_texts(tmp_path / "t.jsonl", 40_000)
    out = tmp_path / "v.npy"
    command = ("encode", mini_model, source, "--dtype", "fp32", "--out")
    run_m3e(*command, tmp_path / "whole.npy")
    kill_after_more_chunks(out, tmp_path / "log", *command, out, extra=0.1)
    kept = chunks_in(out)
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(tmp_path / "ray.json"), *map(str, command), str(out), "--engine", "ray"],
        env=offline_environment(),
        capture_output=True,
        text=True,
        timeout=420,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kept * 4096} of 40000 vectors of an earlier run were kept" in done.stdout
    report = read_json(tmp_path / "ray.json")
    assert report["nodes"] == 2
    assert len(report["tasks_by_worker"]) == 2, "one worker did everything"
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, ending: str) -> None:
    peaks = []
    for count in (40_000, 400_000):
        source = write_texts(tmp_path / f"{count}.jsonl", count)
        out, report = tmp_path / f"{count}.{ending}", tmp_path / f"{count}.peak"
        command = [sys.executable, "-c", MEASURED, report, "encode", "m3e-static", source, "--out", out]
        done = subprocess.run(
            list(map(str, command)), env=offline_environment(), capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stdout + done.stderr
        peaks.append(int(report.read_text()))
    assert peaks[1] < 1.1 * peaks[0]
    if ending == "npy":
        vectors = np.load(tmp_path / "400000.npy", mmap_mode="r")
        assert vectors.shape == (400_000, 384)
        assert np.isfinite(vectors[::1000]).all()
