"""A piece of work in a process of its own: its seconds, processor seconds and peak memory, children included."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from m3e.errors import M3EError
from m3e.files import read_json, write_json

_PAGE = os.sysconf("SC_PAGE_SIZE")
_EVERY = 0.1
_SESSION, _RESIDENT = 3, 21  # places in /proc/PID/stat after the name, see proc(5)


class PeerMissingError(M3EError):
    """A peer cannot run here; the message says why."""


def run_measured(script: Path, arguments: Sequence[str], threads: int = 1) -> dict[str, Any]:
    """What ``script`` reports of itself, with ``peak_rss_mb``: of the process and its children together.

    Raises:
        PeerMissingError: the script said that it cannot run.
        RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        log = Path(folder) / "log"
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "M3E_ANSWER": str(answer)}
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, str(script), *arguments],
                env=environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            peak = 0
            while process.poll() is None:
                peak = max(peak, _resident(process.pid))
                time.sleep(_EVERY)
        if process.returncode or not answer.exists():
            raise RuntimeError(f"{' '.join(arguments)}: {log.read_text(errors='replace')[-2000:]}")
        found: dict[str, Any] = read_json(answer)
    if "missing" in found:
        raise PeerMissingError(found["missing"])
    return {**found, "peak_rss_mb": round(peak / 2**20)}


def report(prepare: Callable[[], Callable[[], dict[str, Any]]]) -> None:
    """Time the work that ``prepare`` gives, in the process that :func:`run_measured` started, and answer.

    What cannot be imported is answered as missing.
    """
    try:
        work = prepare()
    except ImportError as error:
        write_json(os.environ["M3E_ANSWER"], {"missing": f"not installed: {error}"})
        return
    started, processor = time.monotonic(), _processor_seconds()
    found = work()
    times = {
        "seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(_processor_seconds() - processor, 2),
    }
    write_json(os.environ["M3E_ANSWER"], {**times, **found})


def _processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _resident(session: int) -> int:
    """Bytes resident in all processes of a session."""
    pages = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            pages += int(fields[_RESIDENT]) if int(fields[_SESSION]) == session else 0
    return pages * _PAGE
