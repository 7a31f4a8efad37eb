"""The terms of what goes into a model: under the policy ``commercial``, what does not say yes is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from m3e.data.manifest import read_manifest
from m3e.errors import SettingsError
from m3e.training.base import teacher_ingredient
from m3e.training.recipe import DistilStage, Recipe, StaticStage
from m3e.training.stages.stage import Ingredient


def check_data(recipe: Recipe, folders: Sequence[Path]) -> None:
    """Refuse prepared folders with a data set that does not say yes.

    Raises:
        SettingsError: names the set, its licence and what to do.
        DataError: a folder has no manifest.
    """
    if recipe.policy != "commercial":
        return
    for folder in folders:
        for entry in read_manifest(folder)["datasets"]:
            if entry["rows_out"] and entry.get("commercial") != "yes":
                licence = entry.get("licence") or "no stated licence"
                raise SettingsError(
                    f'policy is "commercial", and the data set {entry["dataset"]} of {folder} is under {licence} '
                    f"(commercial use: {entry.get('commercial', 'unknown')}); leave it out of data.sets, or prepare "
                    "the data with --policy commercial"
                )


def check_ingredients(recipe: Recipe, ingredients: Sequence[Ingredient]) -> None:
    """Refuse bases and teachers that do not say yes.

    Raises:
        SettingsError: names the base or teacher, its licence and the key.
    """
    if recipe.policy != "commercial":
        return
    for each in ingredients:
        if each.commercial != "yes":
            key = "base" if each.role == "base" else "the stage"
            raise SettingsError(
                f'policy is "commercial", and the {each.role} {each.name} is under '
                f"{each.licence or 'no stated licence'} (commercial use: {each.commercial}); take another one, or "
                f"state its licence and commercial in {key}"
            )


def named_teachers(recipe: Recipe) -> list[Ingredient]:
    """The teachers that the stages will load, before any stage has run, where the policy asks for their terms."""
    if recipe.policy != "commercial":
        return []
    made_here = ("base", "previous", *recipe.stage_names)
    named = [stage for stage in recipe.stages if isinstance(stage, DistilStage | StaticStage)]
    return [
        teacher_ingredient(stage.teacher, stage.teacher, stage.licence, stage.commercial)
        for stage in named
        if stage.teacher not in made_here
    ]
