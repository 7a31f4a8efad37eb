"""``evaluate``: one model, some tasks, their scores.

Names are checked first, then all data, then the model is loaded: nothing is encoded before
everything that can be refused has been.
"""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3e.errors import MissingExtraError, SettingsError, first_line
from m3e.evaluation.api_cost import cost_after, cost_before
from m3e.evaluation.bm25_model import Bm25Model
from m3e.evaluation.contamination import contamination, find_filter
from m3e.evaluation.items import Items, watch
from m3e.evaluation.label_lists import read_labels_at_once
from m3e.evaluation.mteb_search import exact_search
from m3e.evaluation.plan import plan
from m3e.evaluation.planned import Planned
from m3e.evaluation.prompt_ablation import prompt_settings, prompts_switched
from m3e.evaluation.results import Results, TaskScore, category_of, finite_scores
from m3e.evaluation.speed import dtype_of, hardware_of, watch_encoding
from m3e.evaluation.store import ModelResults
from m3e.evaluation.vector_model import VectorModel
from m3e.inference import ApiEncoder, TfidfEncoder
from m3e.inference.api_client import API_PREFIX

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from sentence_transformers import SentenceTransformer

    from m3e.data.bloom import TextFilter
    from m3e.inference import ApiOptions, Encoder
    from m3e.inference.encoder import DType

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
    dtype: DType = "fp32",
    progress: bool = False,
    prompts: str = "on",
    api: ApiOptions | None = None,
    on_line: Callable[[str], None] = lambda line: None,
    resume: bool = False,
) -> Results:
    """The scores of ``model`` by mteb's tasks and metrics.

    Args:
        model: a name, folder or hub id, ``api:BASE_URL#model`` for an OpenAI-compatible endpoint, ``bm25``
            (retrieval and reranking only), ``tfidf``, a ``SentenceTransformer``, an :class:`m3e.Encoder` or
            another encoder of :mod:`m3e.inference`, or any object with mteb's encoder or search protocol.
        tasks: task names; with neither ``tasks`` nor ``suite``, every task whose files are in ``data``.
        suite: ``local`` (every evaluation set in ``data``, tasks named ``<name>.<split>``), ``m3e-zh``,
            ``c-mteb``, ``code``, ``cross``, ``zh``, ``en`` or ``retrieval``.
        data: a folder of parquet files; a task whose files are not there is loaded from the hub
            where that can be reached, else it is missing.
        out: where mteb's result JSON and the scores of single items are written, in
            ``<model>/<revision>/<task>.json`` and ``.parquet``; the hash of local data is in the name too.
        resume: take the results that ``out`` holds already, of the same model, data, prompts, dtype and release of
            mteb, instead of computing them again.
        train: a parquet file of training rows (text, label) for the classification sets of suite ``local``.
        vectors: a folder where the vectors of retrieval corpora stay, so that a later or a broken run does not
            encode them again; without it they are kept for the one task only.
        device: for a model given by name.
        dtype: of a model given by name or loaded: ``fp32`` gives mteb's own scores to 1e-4; ``auto`` is sooner where
            the hardware has bf16, and moves scores by some 1e-4.
        progress: show a bar on a terminal.
        prompts: ``on``, ``off`` (the model's prompts and instructions are left out) or ``both``, one run each.
        api: prompts, price and patience for an endpoint.
        on_line: called with what a person should read before the work starts: an endpoint's cost.

    Raises:
        SettingsError: a task or suite that does not exist, nothing to evaluate, or ``resume`` without ``out``.
        DataError: local files that cannot be used; names the task or the file.
        MissingExtraError: mteb is not installed.
    """
    if resume and out is None:
        raise SettingsError("resume takes results from out, which is not given")
    require_mteb()
    with quiet_libraries():
        work = plan(tasks, suite, _path(data), _path(train))
        name, scorer = _scorer(model, device, dtype, api)
        revision = str(scorer.mteb_model_meta.revision)
        results: list[TaskScore] = []
        missing = dict(work.missing)
        notes = list(work.notes)
        seen = find_filter(model, notes)
        settings = prompt_settings(prompts, scorer, name, notes)
        endpoint = _endpoint(scorer)
        kept = ModelResults(_path(out), name, revision, dtype_of(scorer) or "")
        if endpoint is not None:
            on_line(cost_before(endpoint, work.tasks, settings))
        for planned in _shown(work.tasks, progress, endpoint):
            for on in settings:
                outcome = _judge(planned, scorer, seen, _path(vectors), kept, prompts=on, resume=resume)
                if isinstance(outcome, str):
                    missing[planned.name] = outcome
                    break
                results.append(outcome)
                if outcome.truncated and on == settings[0]:
                    notes.append(f"{outcome.task}: {outcome.truncated:.2%} of its texts were cut to the model's length")
            planned.task.unload_data()
    notes += [f"{kept.taken} of {len(results)} results were in {out} already"] if kept.taken else []
    if endpoint is not None:
        notes.append(cost_after(endpoint))
    return Results(name, revision, results, missing, notes, **(_facts(scorer) if results else {}))


def require_mteb() -> None:
    """Check that mteb can be imported.

    Raises:
        MissingExtraError: it cannot.
    """
    try:
        import mteb  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("mteb", "eval") from error


def _path(value: str | os.PathLike[str] | None) -> Path | None:
    return None if value is None else Path(value)


def _scorer(model: Any, device: str | None, dtype: DType, api: ApiOptions | None) -> tuple[str, Any]:
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
    encoder = model if isinstance(model, Encoder) else Encoder(model, dtype=dtype, device=device)
    return name, MtebEncoder(encoder, name)


def _endpoint(scorer: Any) -> ApiEncoder | None:
    encoder = getattr(scorer, "encoder", None)
    return encoder if isinstance(encoder, ApiEncoder) else None


def _facts(scorer: Any) -> dict[str, int | None]:
    """The size of a model and of its vectors, where they can be known; to be asked for after a run."""
    encoder = getattr(scorer, "encoder", None)
    model: Any = getattr(encoder, "model", None)
    counted = sum(weights.numel() for weights in model.parameters()) if hasattr(model, "parameters") else 0
    return {
        "parameters": counted or None,
        "dim": scorer.mteb_model_meta.embed_dim or getattr(encoder, "dimension", None),
    }


def _judge(
    planned: Planned,
    scorer: Any,
    seen: TextFilter | None,
    vectors: Path | None,
    kept: ModelResults,
    *,
    prompts: bool,
    resume: bool,
) -> TaskScore | str:
    """The score, found in ``kept`` or computed and written there; or why there is none."""
    found = kept.take(planned, prompts=prompts) if resume else None
    if found is not None:
        return found
    with prompts_switched(scorer, prompts):
        outcome = _run(planned, scorer, seen, vectors)
    if isinstance(outcome, str):
        return outcome
    score, items, record = replace(outcome[0], prompts=prompts), *outcome[1:]
    kept.write(score, record, items, _facts(scorer))
    return score


def _run(
    planned: Planned, scorer: Any, seen: TextFilter | None, vectors: Path | None
) -> tuple[TaskScore, Items | None, Any] | str:
    """The score, the scores of single items and mteb's record; or why there is no score."""
    import mteb
    from mteb.models import EncoderProtocol

    task = planned.task
    if not isinstance(scorer, EncoderProtocol) and not task._support_search:
        return f"{task.metadata.type} needs vectors, and this model only searches"
    if not task.data_loaded and (reason := _load_from_hub(task)):
        return reason
    task = copy.copy(task)  # so that a second run of the task starts as the first did
    task.rng_state = copy.deepcopy(task.rng_state)
    read_labels_at_once(task)
    items = watch(task)
    with watch_encoding(scorer) as speed, exact_search(task, scorer, vectors) as model:
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
        type=task.metadata.type,
        category=category_of(task.metadata.type, code="Programming" in (task.metadata.domains or ())),
        data_revision=str(record.dataset_revision),
        contamination=contamination(task, planned.split, seen) if seen else None,
        texts_per_second=speed.texts_per_second,
        hardware=hardware_of(scorer) if speed.texts_per_second else "",
        recipe=planned.recipe,
        truncated=speed.truncated,
    )
    return score, items, record


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
def quiet_libraries() -> Iterator[None]:
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
