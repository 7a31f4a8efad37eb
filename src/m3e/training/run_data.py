"""The prepared data of a recipe: a folder that it names, or one that its run prepares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from m3e.data.manifest import read_manifest
from m3e.data.prepare_sets import prepare_sets
from m3e.data.preset import Preset, read_preset
from m3e.errors import DataError, SettingsError
from m3e.files import hash_settings
from m3e.training.gather import from_first_process
from m3e.training.recipe import Recipe
from m3e.training.run_report import RunOptions, Say

DATA = "data"


def prepared_data(recipe: Recipe, options: RunOptions, say: Say, on_set: Callable[[int, int, str], None]) -> Path:
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


def data_folders(recipe: Recipe, data: Path) -> list[Path]:
    """The prepared folders whose texts the model sees: the recipe's, and those that single stages name."""
    others = [getattr(getattr(stage, "rows", None), "folder", None) for stage in recipe.stages]
    return [*dict.fromkeys([data, *(folder for folder in others if folder is not None)])]


def content_of(folder: Path) -> str:
    """What a prepared folder holds, as a hash."""
    manifest = read_manifest(folder)
    return str(manifest.get("content_hash") or hash_settings(manifest["datasets"]))
