"""Printing: lines, tables, progress bars on a terminal, errors on stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from m3e.files import write_json

PLAIN_WIDTH = 120


def console() -> Console:
    """A console on stdout; a fixed width where stdout is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH, color_system=None)


def say(line: str) -> None:
    """Print one line as it is."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def complain(message: str) -> None:
    """Print one line to stderr."""
    sys.stderr.write(f"m3e: {message}\n")


def show(table: Table) -> None:
    """Print a table."""
    console().print(table)


def write_result(path: Path | None, value: Any) -> None:
    """Write ``--json FILE`` where it was asked for."""
    if path is not None:
        write_json(path, value)


@contextlib.contextmanager
def progress(title: str, *, shown: bool = True) -> Iterator[Callable[[int, int, str], None]]:
    """Yield ``(done, total, note) -> None``; it draws a bar on a terminal and nothing elsewhere, or where not shown."""
    if not shown or not sys.stderr.isatty():
        yield lambda done, total, note: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total, note: bar.update(task, completed=done, total=total, description=f"{title} {note}")
