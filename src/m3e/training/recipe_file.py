"""Recipes read: those that ship by name, TOML files, and single keys set on top of them."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from m3e.errors import SettingsError
from m3e.faults import Place, faults
from m3e.shipped_toml import key_and_value, names_in, read_toml
from m3e.training.recipe import Recipe

RECIPES = Path(__file__).parent / "recipes"


def shipped_recipes() -> list[str]:
    """Names of the recipes that ship with m3e."""
    return names_in(RECIPES)


def read_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by name, or a TOML file.

    Args:
        settings: ``key=value`` lines on top of it; ``stages.NAME.schedule.lr=1e-5`` names a stage by its name or
            number.

    Raises:
        SettingsError: there is none, or it is not valid; the message names the file and the key.
    """
    values, source = read_toml(name, RECIPES, "recipe")
    for line in settings:
        _assign(values, line)
    return parse_recipe(values, source)


def parse_recipe(values: dict[str, Any], source: str) -> Recipe:
    """A recipe from its tables.

    Raises:
        SettingsError: a key is unknown or a value wrong; names ``source`` and the key.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{source}: {faults(error, place=lambda path: _place(path, values))}") from error


def _place(path: Place, values: dict[str, Any]) -> Place:
    """A stage's key by the stage's name: ``stages.contrastive.batch.sise``."""
    if len(path) < 3 or path[0] != "stages" or not isinstance(path[1], int):
        return path
    stage = values["stages"][path[1]]
    name = stage.get("name") or f"{stage.get('stage', '?')} ({path[1] + 1})"
    return ["stages", name, *path[3:]]  # pydantic names the stage's kind between its number and its key


def _assign(values: dict[str, Any], line: str) -> None:
    """Set ``key=value`` in a recipe's tables.

    Raises:
        SettingsError: the line has no ``=``, or names a stage that is not there.
    """
    key, value = key_and_value(line)
    target: Any = values
    *tables, last = _split_key(key)
    for table in tables:
        if isinstance(target, list):
            target = _stage(target, table, line)
            continue
        target = target.setdefault(table, {})
        if not isinstance(target, dict | list):
            raise SettingsError(f"--set {line}: {table} is no table")
    if isinstance(target, list):
        raise SettingsError(f"--set {line}: name a key of the stage, as stages.{last}.KEY=VALUE")
    target[last] = value


def _split_key(key: str) -> list[str]:
    """The parts of a dotted key; names with dots go in quotes."""
    parts: list[str] = []
    try:
        table = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"--set {key}: not a key ({error})") from error
    value: Any = table
    while isinstance(value, dict):
        (name,) = value
        parts.append(name)
        value = value[name]
    return parts


def _stage(stages: list[Any], name: str, line: str) -> Any:
    names = [stage.get("name") or stage.get("stage") for stage in stages]
    if name in names:
        return stages[names.index(name)]
    if name.isdigit() and 1 <= int(name) <= len(stages):
        return stages[int(name) - 1]
    raise SettingsError(f"--set {line}: there is no stage {name!r}; the stages are {', '.join(map(str, names))}")
