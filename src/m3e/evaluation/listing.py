"""What an evaluation would run, without running it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from m3e.evaluation.planned import Plan

if TYPE_CHECKING:
    from rich.table import Table


def list_tasks(
    tasks: Sequence[str] | None = None,
    *,
    suite: str | None = None,
    data: str | os.PathLike[str] | None = None,
    train: str | os.PathLike[str] | None = None,
) -> Plan:
    """The tasks that :func:`m3e.evaluate` would run on the same arguments, and why others are missing.

    Raises:
        SettingsError: as :func:`m3e.evaluate`.
        DataError: as :func:`m3e.evaluate`.
        MissingExtraError: mteb is not installed.
    """
    from m3e.evaluation.plan import plan
    from m3e.evaluation.runner import quiet_libraries, require_mteb

    require_mteb()
    with quiet_libraries():
        return plan(tasks, suite, Path(data) if data is not None else None, Path(train) if train is not None else None)


def plan_table(planned: Plan) -> Table:
    """A table of task, type, split, items and the data's revision."""
    from rich.table import Table

    table = Table(title=f"{len(planned.tasks)} tasks would run, {len(planned.missing)} are missing")
    for name in ("task", "type", "split"):
        table.add_column(name)
    table.add_column("n", justify="right")
    table.add_column("data")
    for item in planned.tasks:
        split = item.split if item.official else f"{item.split} (not official)"
        name = f"{item.name}@{item.recipe}" if item.recipe else item.name
        rows = "" if item.rows is None else f"{item.rows:,}"
        table.add_row(name, item.task.metadata.type, split, rows, item.revision or "hub")
    return table
