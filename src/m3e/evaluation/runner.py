"""``evaluate``: one model, some tasks, their scores.

Names are checked first, then all data, then the model is loaded: nothing is encoded before
everything that can be refused has been.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3e.errors import MissingExtraError, SettingsError, first_line
from m3e.evaluation.items import Items, watch
from m3e.evaluation.mteb_search import exact_search
from m3e.evaluation.plan import Planned, plan
from m3e.evaluation.results import Results, TaskScore, finite_scores
from m3e.evaluation.store import write_result

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from m3e.inference import Encoder

_BATCH = 1024


def evaluate(
    model: str | os.PathLike[str] | SentenceTransformer | Encoder | Any,
    tasks: Sequence[str] | None = None,
    *,
    suite: str | None = None,
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    train: str | os.PathLike[str] | None = None,
    vectors: str | os.PathLike[str] | None = None,
    device: str | None = None,
    progress: bool = False,
) -> Results:
    """The scores of ``model`` by mteb's tasks and metrics.

    Args:
        model: a name, folder or hub id, a ``SentenceTransformer``, an :class:`m3e.Encoder`, or any
            object with mteb's encoder or search protocol.
        tasks: task names; with neither ``tasks`` nor ``suite``, every task whose files are in ``data``.
        suite: ``local`` (every evaluation set in ``data``, tasks named ``<name>.<split>``), ``zh``,
            ``en``, ``retrieval`` or ``c-mteb``.
        data: a folder of parquet files; a task whose files are not there is loaded from the hub
            where that can be reached, else it is missing.
        out: where mteb's result JSON and the scores of single items are written, in
            ``<model>/<revision>/<task>.json`` and ``.parquet``.
        train: a parquet file of training rows (text, label) for the classification sets of suite ``local``.
        vectors: a folder where the vectors of retrieval corpora stay, so that a later or a broken run does not
            encode them again; without it they are kept for the one task only.
        device: for a model given by name.
        progress: show a bar on a terminal.

    Raises:
        SettingsError: a task or suite that does not exist, or nothing to evaluate.
        DataError: local files that cannot be used; names the task or the file.
        MissingExtraError: mteb is not installed.
    """
    _require_mteb()
    with _quiet_libraries():
        work = plan(tasks, suite, _path(data), _path(train))
        name, scorer = _scorer(model, device)
        revision = str(scorer.mteb_model_meta.revision)
        results: list[TaskScore] = []
        missing = dict(work.missing)
        notes = list(work.notes)
        for planned in _shown(work.tasks, progress):
            outcome = _run(planned, scorer, _path(vectors))
            if isinstance(outcome, str):
                missing[planned.name] = outcome
                continue
            score, items, record = outcome
            results.append(score)
            if out is not None:
                write_result(Path(out), name, revision, score, record, items)
    return Results(name, revision, results, missing, notes)


def _require_mteb() -> None:
    try:
        import mteb  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("mteb", "eval") from error


def _path(value: str | os.PathLike[str] | None) -> Path | None:
    return None if value is None else Path(value)


def _scorer(model: Any, device: str | None) -> tuple[str, Any]:
    """The model's name and the object that mteb calls."""
    from m3e.evaluation.mteb_model import MtebEncoder, model_name
    from m3e.inference import Encoder

    name = model_name(model)
    if hasattr(model, "mteb_model_meta"):
        revision = model.mteb_model_meta.revision
        if not revision or revision == "no_revision_available":
            raise SettingsError(f"{name}: mteb_model_meta has no revision; set one that changes with the model")
        return name, model
    encoder = model if isinstance(model, Encoder) else Encoder(model, device=device)
    return name, MtebEncoder(encoder, name)


def _run(planned: Planned, scorer: Any, vectors: Path | None) -> tuple[TaskScore, Items | None, Any] | str:
    """The score, the scores of single items and mteb's record; or why there is no score."""
    import mteb
    from mteb.models import EncoderProtocol

    task = planned.task
    if not isinstance(scorer, EncoderProtocol) and not task._support_search:
        return f"{task.metadata.type} needs vectors, and this model only searches"
    if not task.data_loaded and (reason := _load_from_hub(task)):
        return reason
    items = watch(task)
    with exact_search(task, scorer, vectors) as model:
        record = mteb.evaluate(
            model,
            task,
            cache=None,
            co2_tracker=False,
            encode_kwargs={"batch_size": _BATCH, "show_progress_bar": False},
            show_progress_bar=False,
        ).task_results[0]
    if planned.revision:
        record = record.model_copy(update={"dataset_revision": planned.revision})
    scores = finite_scores(record.scores[planned.split])
    metric = task.metadata.main_score
    if metric not in scores:
        return f"{metric} is not a number: the vectors or the labels are all alike"
    score = TaskScore(
        task=planned.name,
        split=planned.split,
        metric=metric,
        score=scores[metric],
        scores=scores,
        ci95=items.interval(metric) if items else None,
        n=planned.size(items),
        official_split=planned.official,
    )
    task.unload_data()
    return score, items, record


def _load_from_hub(task: Any) -> str | None:
    """Load a task's data from the hub; the reason where that fails, whatever it is."""
    try:
        task.load_data()
    except Exception as error:  # the hub's client raises many kinds, and a missing set must not end the run
        return f"loading from the hub failed: {first_line(error)}"
    return None


def _shown(tasks: Sequence[Planned], progress: bool) -> Iterator[Planned]:
    if not progress:
        yield from tasks
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        row = bar.add_task("evaluate", total=len(tasks))
        for task in tasks:
            bar.update(row, description=task.name)
            yield task
            bar.advance(row)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Silence mteb's notices, the progress bars of datasets and scikit-learn's warnings inside the block."""
    import datasets

    log = logging.getLogger("mteb")
    level = log.level
    bars = datasets.are_progress_bars_disabled()
    log.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
