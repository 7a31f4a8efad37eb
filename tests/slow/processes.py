"""Other Python environments, the command line in a process of its own, and plain sentence-transformers as a judge."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READER = Path(__file__).with_name("read_folder.py")
OLD_STACK = ("sentence-transformers==5.1.2", "transformers==4.57.6", "numpy")
NO_INDEX = ("from versions: none", "name resolution", "Connection refused", "Network is unreachable", "timed out")
COMMAND = (sys.executable, "-c", "from m3e.cli import main; main()")

# the peak is this process's own: what the kernel keeps for a parent's children may be the parent's
MEASURED = """
import sys
from pathlib import Path
from m3e.cli import main
report = Path(sys.argv.pop(1))
try:
    main()
finally:
    lines = Path("/proc/self/status").read_text().splitlines()
    report.write_text(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def offline_environment(**more: str) -> dict[str, str]:
    """The environment of a subprocess that runs this checkout's m3e, one thread, no hub."""
    fixed = {
        "PYTHONPATH": str(ROOT / "src"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return {**os.environ, **fixed, **more}


def run_m3e(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and require exit 0."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=offline_environment(),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def start_m3e(log: Path, *arguments: str | Path) -> subprocess.Popen[bytes]:
    """Start a command and return at once; what it prints goes to ``log``."""
    with log.open("wb") as stream:
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)], env=offline_environment(), stdout=stream, stderr=subprocess.STDOUT
        )


def pip(python: Path | str, *arguments: str, seconds: int = 420) -> None:
    """Run pip; skip the test where the package index cannot be reached, fail on any other error."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments, "--retries", "1"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        pytest.skip(f"the package index did not answer within {seconds} s")
    offline = [line.strip() for line in done.stderr.splitlines() if any(sign in line for sign in NO_INDEX)]
    if done.returncode and offline:
        pytest.skip(f"no package index can be reached: {offline[-1]}")
    assert done.returncode == 0, done.stderr


def our_torch() -> str:
    """The torch that m3e itself asks for; left to themselves, environments would fetch the newest, several GB of it."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    return str(next(item for item in dependencies if item.startswith("torch>")))


def environment_of(requirements: Sequence[str], seconds: int = 420) -> Path:
    """The Python of a virtual environment with ``requirements`` and without m3e; made once, kept in the user's cache.

    It is made under a temporary name and renamed, so that a stopped run leaves nothing that looks finished.
    """
    identity = "\n".join([sys.version.split()[0], *sorted(requirements)])
    name = hashlib.sha256(identity.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "m3e" / "test-envs"
    folder = cache / name
    if not (folder / "bin" / "python").exists():
        cache.mkdir(parents=True, exist_ok=True)
        temporary = cache / f".{name}.{uuid.uuid4().hex[:8]}"
        try:
            subprocess.run([sys.executable, "-m", "venv", str(temporary)], check=True, capture_output=True)
            pip(temporary / "bin" / "python", "install", "-q", *requirements, seconds=seconds)
            if not folder.exists():
                temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder / "bin" / "python"


def read_in(python: Path | str, folder: Path, texts: Path, out: Path) -> None:
    """Let a Python without m3e load a folder and write token ids and vectors of ``texts`` to ``out``."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(python), str(READER), str(folder), str(texts), str(out)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
