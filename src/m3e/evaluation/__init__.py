"""Judging models: mteb's tasks and metrics on files of your own, or on the hub's."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m3e.evaluation.report import results_table as results_table
    from m3e.evaluation.results import Results as Results
    from m3e.evaluation.results import TaskScore as TaskScore
    from m3e.evaluation.runner import evaluate as evaluate

_HOMES = {
    "Results": "m3e.evaluation.results",
    "TaskScore": "m3e.evaluation.results",
    "evaluate": "m3e.evaluation.runner",
    "results_table": "m3e.evaluation.report",
}

__all__ = ["Results", "TaskScore", "evaluate", "results_table"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'm3e.evaluation' has no attribute {name!r}")
