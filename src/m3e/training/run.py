"""A whole recipe: data, stages, evaluation, model card; what is done is not done again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from m3e.errors import M3EError, SettingsError
from m3e.evaluation.tasks import LOCAL_SUITE, check_names, suite_tasks
from m3e.files import (
    check_output_folder,
    failed_write,
    hash_settings,
    read_json,
    read_marker,
    remove_partial,
    write_json,
    write_marker,
)
from m3e.training.base import load_base
from m3e.training.finish import finish
from m3e.training.gather import from_first_process, is_first_process, joined_processes, wait_for_all
from m3e.training.looks import check_watched
from m3e.training.recipe import SCRATCH, MergeStage, PretrainingStage, Recipe, TrainedStage
from m3e.training.run_data import content_of, data_folders, prepared_data
from m3e.training.run_report import STEP, RunOptions, RunReport, Say
from m3e.training.stages.stage import MODEL, OnStep, StageReport, StageWork
from m3e.training.stages.table import run_stage
from m3e.training.terms import check_data, check_ingredients, named_teachers

REPORT = "stage.json"
BASE = "0-base"


def run_recipe(
    recipe: Recipe,
    options: RunOptions,
    *,
    say: Say = print,
    on_set: Callable[[int, int, str], None] = lambda done, total, name: None,
    on_step: OnStep = lambda step, total, note: None,
) -> RunReport:
    """Run all of a recipe in ``options.out``; a stage that was finished with the same inputs is not run again.

    Of several processes the first one reads, writes and speaks; all of them train, and all return its report.

    Raises:
        M3EError: a part failed: names the stage; what was finished before it stays.
    """
    with joined_processes(options.device):
        if not is_first_process():
            say, on_step = _in_silence, _in_silence
        return _run(recipe, options, say, on_set, on_step)


def _in_silence(*_: object) -> None:
    """Say nothing: another process does."""


def _run(
    recipe: Recipe,
    options: RunOptions,
    say: Say,
    on_set: Callable[[int, int, str], None],
    on_step: OnStep,
) -> RunReport:
    started = time.monotonic()
    out = options.out
    from_first_process(lambda: _begin(recipe, options))
    data = prepared_data(recipe, options, say, on_set)
    report = RunReport(out / MODEL)
    base = _base(recipe, out, options, report, say)
    check_data(recipe, data_folders(recipe, data))
    check_ingredients(recipe, [*report.ingredients, *named_teachers(recipe)])
    model = base
    finished: dict[str, Path] = {}
    chain = _fingerprint(base) if base else hash_settings(recipe.base.model_dump(mode="json"))
    for number, (stage, name) in enumerate(zip(recipe.stages, recipe.stage_names, strict=True), start=1):
        work = StageWork(
            name=name,
            folder=out / f"{number}-{name}",
            model=model,
            base=base,
            data=data,
            models=dict(finished),
            from_scratch=None if base else recipe.base,
            seed=recipe.seed,
            device=options.device,
            precision=recipe.precision,
            checkpoint_steps=options.checkpoint_steps,
            resume=options.resume,
            say=say,
            on_step=on_step,
        )
        chain = _identity(chain, stage, recipe, data)
        report.stages[name] = _stage(stage, work, chain, report, say)
        report.ingredients += report.stages[name].ingredients
        check_ingredients(recipe, report.ingredients)
        model = finished[name] = work.target
    assert model is not None
    report = from_first_process(lambda: finish(recipe, options, report, model, base, data, say))
    report.seconds = time.monotonic() - started
    return report


def _begin(recipe: Recipe, options: RunOptions) -> None:
    """The run's folder, refused where it holds something else; and what the model will be judged by must be there."""
    out = options.out
    check_output_folder(out, overwrite=options.overwrite, step=STEP)
    _check_tasks(recipe)
    out.mkdir(parents=True, exist_ok=True)
    for folder in (out, out / MODEL):
        remove_partial(folder)
    write_marker(out, STEP, recipe=hash_settings(recipe.model_dump(mode="json")), title=recipe.title)
    write_json(out / "recipe.json", recipe.model_dump(mode="json"))


def _check_tasks(recipe: Recipe) -> None:
    """Refuse a misspelt task now, not after hours of training.

    Raises:
        SettingsError: names the key and what is there.
    """
    for stage, name in zip(recipe.stages, recipe.stage_names, strict=True):
        if isinstance(stage, TrainedStage | PretrainingStage):
            check_watched(stage.watch.tasks, f"stages.{name}.watch.tasks")
    wanted = recipe.evaluation
    if wanted.suite == LOCAL_SUITE:
        check_watched(wanted.tasks, "evaluation.tasks")
    elif find_spec("mteb") is not None:  # without it the model is made, and its figures are missing
        try:
            check_names(wanted.tasks)
            if wanted.suite:
                suite_tasks(wanted.suite)
        except SettingsError as error:
            raise SettingsError(f"evaluation: {error}") from error


def _base(recipe: Recipe, out: Path, options: RunOptions, report: RunReport, say: Say) -> Path | None:
    """The base model's folder, written once."""
    if recipe.base.model == SCRATCH:
        return None
    folder = out / BASE
    from_first_process(lambda: _write_base(recipe, folder, options.device))
    known = StageReport.from_dict(read_json(folder / REPORT))
    report.ingredients += known.ingredients
    named = known.ingredients[0]
    say(f"base {named.name}: licence {named.licence or 'not stated'}, commercial use {named.commercial}")
    return folder / MODEL


def _write_base(recipe: Recipe, folder: Path, device: str | None) -> None:
    identity = hash_settings(recipe.base.model_dump(mode="json"))
    if (read_marker(folder) or {}).get("identity") == identity and (folder / REPORT).is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    found = load_base(recipe.base, folder / MODEL, device)
    write_json(folder / REPORT, StageReport(ingredients=[found]).as_dict())
    write_marker(folder, "base", identity=identity)


def _fingerprint(base: Path) -> str:
    return str(read_json(base.parent / REPORT)["ingredients"][0]["fingerprint"])


def _identity(before: str, stage: Any, recipe: Recipe, data: Path) -> str:
    """What a stage's result depends on: all before it, its own settings, the data."""
    settings = {name: value for name, value in stage.model_dump(mode="json").items() if name not in ("watch", "name")}
    watch = getattr(stage, "watch", None)
    settings["keep"] = watch is not None and watch.keep_best
    if watch is not None and (watch.keep_best or watch.patience):  # otherwise a look changes nothing
        settings["watch"] = watch.model_dump(mode="json", include={"every", "tasks", "patience"})
    folder = getattr(getattr(stage, "rows", None), "folder", None) or data
    content = "" if isinstance(stage, MergeStage) else content_of(folder)
    return hash_settings([before, settings, recipe.seed, recipe.precision, content])


def _stage(stage: Any, work: StageWork, identity: str, report: RunReport, say: Say) -> StageReport:
    """Run a stage, or take what an earlier run left."""
    before = from_first_process(lambda: _done_before(work, identity))
    if before is not None:
        report.reused.append(work.name)
        say(f"stage {work.name}: done before")
        return before
    say(f"stage {work.name}")
    try:
        if isinstance(stage, TrainedStage | PretrainingStage):
            done = run_stage(stage, work)
        else:  # nothing in it is shared out
            done = from_first_process(lambda: run_stage(stage, work))
    except M3EError as error:
        if f"stage {work.name}" in str(error) or f"stages.{work.name}" in str(error):
            raise
        raise type(error)(f"stage {work.name}: {error}") from error
    except Exception as error:
        reason = failed_write(error) or (str(error) if isinstance(error, OSError) else None)
        if reason is None:
            raise
        raise M3EError(
            f"stage {work.name}, in {work.folder}: {reason}; free some space or name another --out, and run again: "
            "finished stages are kept"
        ) from error
    if is_first_process():
        write_json(work.folder / REPORT, done.as_dict())
        for name in ("tokens", "checkpoints"):  # large, and of no use once the stage is done
            shutil.rmtree(work.folder / name, ignore_errors=True)
    wait_for_all()
    return done


def _done_before(work: StageWork, identity: str) -> StageReport | None:
    """The report of a stage that an earlier run finished with the same inputs; else its folder is made ready."""
    marker = read_marker(work.folder) or {}
    same = marker.get("identity") == identity
    if same and (work.folder / REPORT).is_file() and work.target.is_dir():
        return StageReport.from_dict(read_json(work.folder / REPORT))
    if not same or not work.resume:
        shutil.rmtree(work.folder, ignore_errors=True)
    remove_partial(work.folder)
    work.folder.mkdir(parents=True, exist_ok=True)
    write_marker(work.folder, "stage", identity=identity)
    return None
