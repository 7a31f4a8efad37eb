"""Daft, on local threads or on a Ray cluster: one setting, the same plan."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from m3e.errors import MissingExtraError, SettingsError, first_line

if TYPE_CHECKING:
    import pyarrow as pa

LOCAL = "local"
_STARTED: list[str] = []
_ROWS_AT_ONCE = 16384


def start_engine(engine: str | None = None) -> Any:
    """The module ``daft``, set to run where ``engine`` says; where it says nothing, as it was set before.

    Args:
        engine: ``local`` (the default), ``ray`` (a cluster on this machine), or ``ray://HOST:PORT``. Workers on
            other machines must see the output folder under the same path.

    Raises:
        MissingExtraError: Daft or Ray is not installed.
        SettingsError: ``engine`` is unknown, the cluster does not answer, or another engine runs already.
    """
    engine = engine or (_STARTED[0] if _STARTED else LOCAL)
    if engine != LOCAL and engine != "ray" and not engine.startswith("ray://"):
        raise SettingsError(f"--engine {engine!r} is not known; choose {LOCAL}, ray or ray://HOST:PORT")
    os.environ["DAFT_ANALYTICS_ENABLED"] = "0"  # it would report its use when it is imported
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    try:
        import daft
    except ImportError as error:
        raise MissingExtraError("daft", "data") from error
    if _STARTED and _STARTED[0] != engine:
        raise SettingsError(f"the engine {_STARTED[0]} runs in this process; start another process for {engine}")
    if not _STARTED:
        _set_runner(daft, engine)
        _STARTED.append(engine)
    return daft


def stream(frame: Any) -> Iterator[pa.RecordBatch]:
    """A plan's rows in batches, in whatever order the engine finishes them; few of them in memory at a time."""
    import daft

    with daft.execution_config_ctx(default_morsel_size=_ROWS_AT_ONCE, **_reading()):
        yield from frame.to_arrow_iter(results_buffer_size=2)


def _reading() -> dict[str, Any]:
    """How files are dealt out: they are read whole, so here one at a time, and on a cluster each as a task."""
    if _STARTED[:1] == [LOCAL]:
        return {"scantask_max_parallel": 1}
    return {"enable_scan_task_split_and_merge": True, "scan_tasks_min_size_bytes": 1}


def _set_runner(daft: Any, engine: str) -> None:
    if engine == LOCAL:
        daft.set_runner_native()
        return
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("ray", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        daft.set_runner_ray(None if engine == "ray" else engine)
    except Exception as error:  # Ray raises whatever it likes
        raise SettingsError(f"the Ray cluster {engine} cannot be used: {first_line(error)}") from error
