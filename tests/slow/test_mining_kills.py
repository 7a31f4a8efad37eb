"""``m3e data mine`` and ``score`` killed while they encode, search and score: the same bytes as without."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from m3e.files import read_json
from tests.conftest import write_mini
from tests.slow.processes import offline_environment, run_m3e, start_m3e

pytestmark = pytest.mark.slow

CHARACTERS = "今天气很好我们去公园吧怎么办退货款订单地址修改快递到哪了发票会员积分猫狗树叶黄番茄阳台花开"


def write_pairs(path: Path, count: int) -> Path:
    """Pairs of which every third shares its answer with the one before."""
    draw = random.Random(count)
    answer = ""
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            if number % 3 != 2:
                answer = f"{''.join(draw.choices(CHARACTERS, k=draw.randint(20, 50)))}{number}"
            start = draw.randrange(10)
            query = f"{answer[start : start + draw.randint(4, 10)]}{number}"
            stream.write(json.dumps({"text": query, "text_pos": answer}, ensure_ascii=False) + "\n")
    return path


def kill_when(reached: Callable[[], bool], log: Path, *command: str | Path) -> None:
    """Start a command and kill it as soon as it has come so far."""
    process = start_m3e(log, *command)
    end = time.monotonic() + 300
    while not reached():
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < end
        time.sleep(0.002)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL, "it ended before it was killed"


def number_in(path: Path, key: str) -> int:
    """A number of a JSON file that is perhaps not there yet."""
    try:
        found = re.search(rf'"{key}": (\d+)', path.read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def test_mining_killed_while_it_encodes_and_searches(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "faq.jsonl", 28_000)
    whole, out, log = tmp_path / "whole.jsonl", tmp_path / "m.jsonl", tmp_path / "log"
    command = (
        "data",
        "mine",
        source,
        "--model",
        "m3e-static",
        "--consistency",
        "50",
        "--sampling",
        "random",
        "--out",
    )
    run_m3e(*command, whole)
    work = tmp_path / ".m.jsonl.work" / "faq"
    for marker, key, least in (
        (work / "queries" / "m3e.json", "rows", 4096),
        (work / "passages" / "m3e.json", "rows", 8192),
        (work / "found" / "done.json", "queries", 8192),
        (work / "found" / "done.json", "queries", 16_384),
    ):
        kill_when(lambda marker=marker, key=key, least=least: number_in(marker, key) >= least, log, *command, out)  # type: ignore[misc]
        assert not out.exists()
    assert number_in(work / "found" / "done.json", "queries") < 28_000, "killed too late, which tests nothing"
    run_m3e(*command, out)
    assert out.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob(".m.*"))


def test_a_folder_killed_at_random_moments(tmp_path: Path) -> None:
    source = write_pairs(tmp_path / "faq.jsonl", 8_000)
    run_m3e("data", "dedup", source, "--exact-only", "--out", tmp_path / "data")
    command = ("data", "mine", tmp_path / "data", "--model", "m3e-static", "--out")
    started = time.monotonic()
    run_m3e(*command, tmp_path / "whole")
    seconds = time.monotonic() - started
    out = tmp_path / "mined"
    for _ in range(4):
        process = start_m3e(tmp_path / "log", *command, out)
        time.sleep(random.uniform(0.3, 1.1) * seconds)
        process.kill()
        process.wait(60)
        assert not out.exists() or (out / "manifest.json").is_file()
    run_m3e(*command, out)
    whole, mined = (
        {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "whole", out)
    )
    assert whole.keys() == mined.keys()
    for name in whole.keys() - {"README.md", "m3e.json"}:  # which have the folder's name
        assert whole[name].read_bytes() == mined[name].read_bytes(), name
    assert not list(tmp_path.glob(".mined*"))


def test_scoring_killed_while_it_scores(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    folder = write_mini(tmp_path / "mini")
    CrossEncoder(str(folder), num_labels=1, device="cpu").save_pretrained(str(tmp_path / "reranker"))
    source = write_pairs(tmp_path / "faq.jsonl", 16_000)
    command = ("data", "score", source, "--reranker", tmp_path / "reranker", "--device", "cpu", "--out")
    run_m3e(*command, tmp_path / "whole.parquet")
    out, done = tmp_path / "s.parquet", tmp_path / ".s.parquet.work" / "faq" / "pairs" / "done.json"

    def finished() -> int:
        try:
            return int(read_json(done))
        except (OSError, ValueError):
            return 0

    for least in (2048, 6144):
        kill_when(lambda least=least: finished() >= least, tmp_path / "log", *command, out)  # type: ignore[misc]
        assert finished() < 16_000, "killed too late, which tests nothing"
    run_m3e(*command, out)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


# what is mapped from files is the system's to take back, and no memory of ours
ANONYMOUS = """
import sys, threading, time
from pathlib import Path
from m3e.cli import main
report = Path(sys.argv.pop(1))
peak = 0
def watch():
    global peak
    while True:
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = max(peak, int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))))
        time.sleep(0.01)
threading.Thread(target=watch, daemon=True).start()
try:
    main()
finally:
    report.write_text(str(peak))
"""


def test_memory_holds_neither_vectors_nor_texts(tmp_path: Path) -> None:
    peaks = []
    for count in (20_000, 120_000):
        source, report = write_pairs(tmp_path / f"{count}.jsonl", count), tmp_path / "peak"
        out = tmp_path / f"{count}.out.jsonl"
        command = ("data", "mine", source, "--model", "m3e-static", "--pool", "4096", "--out", out)
        subprocess.run(
            [sys.executable, "-c", ANONYMOUS, report, *map(str, command)],
            env=offline_environment(),
            check=True,
            timeout=600,
        )
        peaks.append(int(report.read_text()) * 1024)
    vectors = 100_000 * 384 * 4
    assert peaks[1] - peaks[0] < vectors / 3, peaks
