"""``evaluate``: one model, some tasks, their scores.

Names are checked first, then all data, then the model is loaded: nothing is encoded before
everything that can be refused has been.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3e.errors import MissingExtraError, SettingsError, first_line
from m3e.evaluation.api_cost import cost_after, cost_before
from m3e.evaluation.bm25_model import Bm25Model
from m3e.evaluation.items import Items, watch
from m3e.evaluation.plan import Planned, plan
from m3e.evaluation.results import Results, TaskScore, finite_scores
from m3e.evaluation.store import write_result
from m3e.evaluation.vector_model import VectorModel
from m3e.inference import ApiEncoder, TfidfEncoder
from m3e.inference.api_client import API_PREFIX

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from sentence_transformers import SentenceTransformer

    from m3e.inference import ApiOptions, Encoder

_BATCH = 1024


def evaluate(
    model: str | os.PathLike[str] | SentenceTransformer | Encoder | Any,
    tasks: Sequence[str] | None = None,
    *,
    suite: str | None = None,
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    train: str | os.PathLike[str] | None = None,
    device: str | None = None,
    progress: bool = False,
    api: ApiOptions | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> Results:
    """The scores of ``model`` by mteb's tasks and metrics.

    Args:
        model: a name, folder or hub id, ``api:BASE_URL#model`` for an OpenAI-compatible endpoint, ``bm25``
            (retrieval and reranking only), ``tfidf``, a ``SentenceTransformer``, an :class:`m3e.Encoder` or
            another encoder of :mod:`m3e.inference`, or any object with mteb's encoder or search protocol.
        tasks: task names; with neither ``tasks`` nor ``suite``, every task whose files are in ``data``.
        suite: ``local`` (every evaluation set in ``data``, tasks named ``<name>.<split>``), ``zh``,
            ``en``, ``retrieval`` or ``c-mteb``.
        data: a folder of parquet files; a task whose files are not there is loaded from the hub
            where that can be reached, else it is missing.
        out: where mteb's result JSON and the scores of single items are written, in
            ``<model>/<revision>/<task>.json`` and ``.parquet``.
        train: a parquet file of training rows (text, label) for the classification sets of suite ``local``.
        device: for a model given by name.
        progress: show a bar on a terminal.
        api: prompts, price and patience for an endpoint.
        on_line: called with what a person should read before the work starts: an endpoint's cost.

    Raises:
        SettingsError: a task or suite that does not exist, or nothing to evaluate.
        DataError: local files that cannot be used; names the task or the file.
        MissingExtraError: mteb is not installed.
    """
    _require_mteb()
    with _quiet_libraries():
        work = plan(tasks, suite, _path(data), _path(train))
        name, scorer = _scorer(model, device, api)
        endpoint = _endpoint(scorer)
        if endpoint is not None:
            on_line(cost_before(endpoint, work.tasks))
        revision = str(scorer.mteb_model_meta.revision)
        results: list[TaskScore] = []
        missing = dict(work.missing)
        notes = list(work.notes)
        for planned in _shown(work.tasks, progress, endpoint):
            outcome = _run(planned, scorer)
            if isinstance(outcome, str):
                missing[planned.name] = outcome
                continue
            score, items, record = outcome
            results.append(score)
            if score.truncated:
                notes.append(f"{score.task}: {score.truncated:.2%} of its texts were cut to the model's length")
            if out is not None:
                write_result(Path(out), name, revision, score, record, items)
    if endpoint is not None:
        notes.append(cost_after(endpoint))
    return Results(name, revision, results, missing, notes)


def _require_mteb() -> None:
    try:
        import mteb  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("mteb", "eval") from error


def _path(value: str | os.PathLike[str] | None) -> Path | None:
    return None if value is None else Path(value)


def _scorer(model: Any, device: str | None, api: ApiOptions | None) -> tuple[str, Any]:
    """The model's name and the object that mteb calls."""
    from m3e.evaluation.mteb_model import MtebEncoder, model_name
    from m3e.inference import Encoder

    if isinstance(model, str) and model.startswith(API_PREFIX):
        model = ApiEncoder(model, api)
    elif api is not None and not isinstance(model, ApiEncoder):
        raise SettingsError(f"prompts and prices go with an endpoint, {API_PREFIX}BASE_URL#model, not with {model}")
    if model == "bm25" and not Path(model).is_dir():
        return model, Bm25Model()
    if model == "tfidf" and not Path(model).is_dir():
        model = TfidfEncoder()
    name = model_name(model)
    if isinstance(model, ApiEncoder | TfidfEncoder):
        return name, VectorModel(model)
    if hasattr(model, "mteb_model_meta"):
        revision = model.mteb_model_meta.revision
        if not revision or revision == "no_revision_available":
            raise SettingsError(f"{name}: mteb_model_meta has no revision; set one that changes with the model")
        return name, model
    encoder = model if isinstance(model, Encoder) else Encoder(model, device=device)
    return name, MtebEncoder(encoder, name)


def _endpoint(scorer: Any) -> ApiEncoder | None:
    encoder = getattr(scorer, "encoder", None)
    return encoder if isinstance(encoder, ApiEncoder) else None


def _run(planned: Planned, scorer: Any) -> tuple[TaskScore, Items | None, Any] | str:
    """The score, the scores of single items and mteb's record; or why there is no score."""
    import mteb
    from mteb.models import EncoderProtocol

    task = planned.task
    if not isinstance(scorer, EncoderProtocol) and not task._support_search:
        return f"{task.metadata.type} needs vectors, and this model only searches"
    if not task.data_loaded and (reason := _load_from_hub(task)):
        return reason
    items = watch(task)
    encoded, cut = _counts(scorer)
    record = mteb.evaluate(
        scorer,
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
    encoded, cut = (now - before for now, before in zip(_counts(scorer), (encoded, cut), strict=True))
    score = TaskScore(
        task=planned.name,
        split=planned.split,
        metric=metric,
        score=scores[metric],
        scores=scores,
        ci95=items.interval(metric) if items else None,
        n=planned.size(items),
        official_split=planned.official,
        truncated=cut / encoded if encoded else None,
    )
    task.unload_data()
    return score, items, record


def _counts(scorer: Any) -> tuple[int, int]:
    """Texts encoded so far and those of them that were cut, where the model counts them."""
    return getattr(scorer, "encoded", 0), getattr(scorer, "cut", 0)


def _load_from_hub(task: Any) -> str | None:
    """Load a task's data from the hub; the reason where that fails, whatever it is."""
    try:
        task.load_data()
    except Exception as error:  # the hub's client raises many kinds, and a missing set must not end the run
        return f"loading from the hub failed: {first_line(error)}"
    return None


def _shown(tasks: Sequence[Planned], progress: bool, endpoint: ApiEncoder | None) -> Iterator[Planned]:
    if not progress:
        yield from tasks
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        row = bar.add_task("evaluate", total=len(tasks))
        for task in tasks:
            bar.update(row, description=task.name)
            if endpoint is not None:
                endpoint.on_texts = partial(_show_texts, bar, row, task.name)
            yield task
            bar.advance(row)


def _show_texts(bar: Progress, row: TaskID, task: str, done: int, total: int) -> None:
    bar.update(row, description=f"{task} {done:,}/{total:,} texts")


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
