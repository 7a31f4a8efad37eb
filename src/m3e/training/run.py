"""A whole recipe: data, stages, evaluation, model card; what is done is not done again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from m3e.data.manifest import read_manifest
from m3e.data.prepare_sets import prepare_sets
from m3e.data.preset import Preset, read_preset
from m3e.data.provenance import carry
from m3e.errors import DataError, M3EError, SettingsError
from m3e.evaluation.tasks import LOCAL_SUITE, check_names, suite_tasks
from m3e.files import (
    atomic_folder,
    check_output_folder,
    hash_settings,
    read_json,
    read_marker,
    remove_partial,
    write_json,
    write_marker,
)
from m3e.training.base import load_base
from m3e.training.gather import from_first_process, is_first_process, joined_processes, wait_for_all
from m3e.training.looks import check_watched
from m3e.training.recipe import SCRATCH, MergeStage, PretrainingStage, Recipe, TrainedStage
from m3e.training.stages.stage import MODEL, Ingredient, OnStep, StageReport, StageWork
from m3e.training.stages.table import run_stage
from m3e.training.terms import check_data, check_ingredients, named_teachers

STEP = "train"
REPORT = "stage.json"
BASE = "0-base"
DATA = "data"
RESULTS = "results"
ADAPTER = "adapter"

Say = Callable[[str], None]


@dataclass(frozen=True)
class RunOptions:
    """How a recipe is run.

    Attributes:
        resume: go on inside a stage from its newest checkpoint; finished stages are kept in any case.
        overwrite: write beside files that are not ours.
        raw: the folder to which the catalogue's paths are relative.
    """

    out: Path
    resume: bool = False
    overwrite: bool = False
    device: str | None = None
    checkpoint_steps: int | None = None
    raw: Path | None = None


@dataclass
class RunReport:
    """What a run did.

    Attributes:
        model: the model folder.
        reused: names of stages that were done before.
        missing: evaluation tasks without data, with the reason.
    """

    model: Path
    stages: dict[str, StageReport] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)
    ingredients: list[Ingredient] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    adapter: Path | None = None
    licence: str = ""
    commercial: str = "unknown"
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "model_dir": str(self.model),
            "adapter_dir": str(self.adapter) if self.adapter else None,
            "stages": {name: report.as_dict() for name, report in self.stages.items()},
            "reused": self.reused,
            "results": self.results,
            "missing": self.missing,
            "licence": self.licence,
            "commercial": self.commercial,
            "seconds": round(self.seconds, 1),
        }


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
    data = _data(recipe, options, say, on_set)
    report = RunReport(out / MODEL)
    base = _base(recipe, out, options, report, say)
    check_data(recipe, _data_folders(recipe, data))
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


def finish(
    recipe: Recipe, options: RunOptions, report: RunReport, model: Path, base: Path | None, data: Path, say: Say
) -> RunReport:
    """Write the last stage's model with what went into it, judge it, write its card; the report with all that."""
    from m3e.training.recipe_card import own_licence, write_card

    target = report.model
    if target.exists():
        shutil.rmtree(target)
    with atomic_folder(target) as temporary:
        shutil.copytree(model, temporary, dirs_exist_ok=True)
        carry([*([base] if base else []), *_data_folders(recipe, data)], temporary)
        write_json(temporary / "recipe.json", recipe.model_dump(mode="json"))
        write_marker(temporary, STEP, title=recipe.title)
    report.licence, report.commercial = own_licence(recipe, read_manifest(target), report.ingredients)
    try:
        _evaluate(recipe, options, report, say)
    except M3EError as error:  # the model is whole: only its figures are missing
        report.missing["evaluation"] = str(error)
    write_card(recipe, report)
    if recipe.output.adapter_rank is not None:  # with the card
        _write_adapter(recipe, report, base, options.out / ADAPTER, say)
    write_json(options.out / "report.json", report.as_dict())
    return report


def _data(recipe: Recipe, options: RunOptions, say: Say, on_set: Callable[[int, int, str], None]) -> Path:
    """The prepared folder: the recipe's, or one that is prepared in the run's folder."""
    wanted = recipe.data
    if wanted.folder is not None:
        if not wanted.folder.is_dir():
            raise DataError(f"data.folder: there is no folder {wanted.folder}; m3e data prepare writes one")
        _check_weights(recipe, wanted.folder)
        return wanted.folder
    folder = options.out / DATA
    from_first_process(lambda: _prepare(recipe, options, folder, say, on_set))
    return folder


def _prepare(
    recipe: Recipe, options: RunOptions, folder: Path, say: Say, on_set: Callable[[int, int, str], None]
) -> None:
    prepared, notes = prepare_sets(
        preset_of(recipe), folder, raw=options.raw, say=say, on_set=on_set, named=recipe.data.sets
    )
    for line in notes:
        say(line)
    if prepared.failed:
        name, reason = next(iter(prepared.failed.items()))
        raise DataError(f"data: {name} could not be prepared: {reason}; leave it out, or mend it and run again")


def preset_of(recipe: Recipe) -> Preset:
    """The preset of ``m3e data prepare`` that a recipe's data table means."""
    wanted = recipe.data
    values = read_preset(wanted.preset).model_dump() if wanted.preset else {}
    values |= {"title": recipe.title, "seed": recipe.seed}
    if wanted.sets:
        values["sets"] = wanted.sets
    if recipe.policy == "commercial":
        values["policy"] = recipe.policy
    values["max_rows"] = {**values.get("max_rows", {}), **wanted.max_rows}
    values["weights"] = {**values.get("weights", {}), **wanted.weights}
    return Preset.model_validate(values)


def _check_weights(recipe: Recipe, folder: Path) -> None:
    if recipe.data.weights:
        raise SettingsError(f"data.weights: {folder} is prepared already; set weights in a stage's rows instead")


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
    content = "" if isinstance(stage, MergeStage) else _content(folder)
    return hash_settings([before, settings, recipe.seed, recipe.precision, content])


def _content(folder: Path) -> str:
    manifest = read_manifest(folder)
    return str(manifest.get("content_hash") or hash_settings(manifest["datasets"]))


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
    except OSError as error:
        raise M3EError(
            f"stage {work.name} could not write {error.filename or work.folder}: {error.strerror or error}; "
            "free some space or name another --out, and run again: finished stages are kept"
        ) from error
    except M3EError as error:
        if f"stage {work.name}" in str(error) or f"stages.{work.name}" in str(error):
            raise
        raise type(error)(f"stage {work.name}: {error}") from error
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


def _data_folders(recipe: Recipe, data: Path) -> list[Path]:
    """The prepared folders whose texts the model sees: the recipe's, and those that single stages name."""
    others = [getattr(getattr(stage, "rows", None), "folder", None) for stage in recipe.stages]
    return [*dict.fromkeys([data, *(folder for folder in others if folder is not None)])]


def _write_adapter(recipe: Recipe, report: RunReport, base: Path | None, folder: Path, say: Say) -> None:
    from m3e.models import load
    from m3e.models.adapter import extract

    if base is None:
        raise SettingsError("output.adapter_rank: a model from scratch has no base to differ from")
    assert recipe.output.adapter_rank is not None
    shutil.rmtree(folder, ignore_errors=True)
    found = extract(
        load(report.model),
        load(base),
        folder,
        base_name=recipe.base.model,
        revision=recipe.base.revision,
        pooling=recipe.base.pooling,
        rank=recipe.output.adapter_rank,
        carry=report.model,
    )
    say(f"adapter of rank {found.rank}, {found.bytes:,} bytes, lowest cosine {found.cosine:.5f}: {folder}")
    report.adapter = folder


def _evaluate(recipe: Recipe, options: RunOptions, report: RunReport, say: Say) -> None:
    """Judge the model, and the recipe's peers, on the tasks that are here."""
    wanted = recipe.evaluation
    if not wanted.tasks and not wanted.suite:
        return
    from m3e.catalogue.local import data_folder
    from m3e.evaluation import evaluate

    for name in (str(report.model), *wanted.peers):
        results = evaluate(
            name,
            list(wanted.tasks) or None,
            suite=wanted.suite,
            data=data_folder(),
            out=options.out / RESULTS,
            device=options.device,
            on_line=say,
        )
        report.results.append({**results.as_dict(), "model": recipe.title if name == str(report.model) else name})
        if name == str(report.model):
            report.missing = dict(results.missing)
