"""The end of a recipe: the model folder, what went into it, its figures, its card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from m3e.data.manifest import read_manifest
from m3e.data.provenance import carry
from m3e.errors import M3EError, SettingsError
from m3e.files import atomic_folder, write_json, write_marker
from m3e.training.recipe import Recipe
from m3e.training.recipe_card import own_licence, write_card
from m3e.training.run_data import data_folders
from m3e.training.run_report import STEP, RunOptions, RunReport, Say

RESULTS = "results"
ADAPTER = "adapter"


def finish(
    recipe: Recipe, options: RunOptions, report: RunReport, model: Path, base: Path | None, data: Path, say: Say
) -> RunReport:
    """Write the last stage's model with what went into it, judge it, write its card; the report with all that."""
    target = report.model
    if target.exists():
        shutil.rmtree(target)
    with atomic_folder(target) as temporary:
        shutil.copytree(model, temporary, dirs_exist_ok=True)
        carry([*([base] if base else []), *data_folders(recipe, data)], temporary)
        write_json(temporary / "recipe.json", _without_places(recipe.model_dump(mode="json")))
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


def _without_places(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's tables with the names of its data folders, not where they lie: models are handed on."""
    for table in (values["data"], *(stage.get("rows", {}) for stage in values["stages"])):
        if table.get("folder"):
            table["folder"] = Path(table["folder"]).name
    return values


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
