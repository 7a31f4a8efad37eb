"""The pages on training list every key of a recipe with its default, and show recipes that can be read."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from m3e.training import recipe, recipe_parts
from m3e.training.recipe_file import parse_recipe, shipped_recipes

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [("training.md", "required"), ("训练.md", "必填")]
SHARED = (
    recipe_parts.Rows,
    recipe_parts.Batch,
    recipe_parts.Schedule,
    recipe_parts.Lora,
    recipe_parts.Matryoshka,
    recipe_parts.Watch,
)
"""Tables that several stages have, and that are listed once."""

STAGES = get_args(get_args(recipe.AnyStage)[0])


def table_of(annotation: Any) -> type[recipe_parts.Part] | None:
    """The table that a key holds, perhaps one a name."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, recipe_parts.Part)), None)


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "–" if field.default in (None, "") else f"`{json.dumps(field.default)}`"


def keys(part: type[recipe_parts.Part], prefix: str = "", without: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Every key under a table, and its default."""
    for name, field in part.model_fields.items():
        if name in without:
            continue
        inner = table_of(field.annotation)
        if inner is None:
            yield f"{prefix}{name}", default_of(field)
        elif inner is recipe_parts.Texts:  # the same keys as a batch of rows
            assert set(dict(keys(recipe_parts.Texts)).items()) <= set(dict(keys(recipe_parts.Batch)).items())
        elif inner in SHARED:
            yield from keys(inner, f"{name}.")
        else:
            yield from keys(inner, f"{prefix}{name}." + ("SET." if get_origin(field.annotation) is dict else ""))


def all_keys() -> dict[str, str]:
    found = dict(keys(recipe.Recipe, without=("stages",)))
    found |= dict(keys(recipe.TrainedStage))
    for stage in STAGES:
        (kind,) = get_args(stage.model_fields["stage"].annotation)
        found |= dict(keys(stage, f"{kind}.", without=("stage", "name")))
    return found


@pytest.mark.parametrize(("page", "required"), PAGES)
def test_every_key_is_listed_with_its_default(page: str, required: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-zA-Z_.]+)` \| (–|`[^|]+`|" + required + r") \|", text, re.MULTILINE)
    rows = {key: "required" if default == required else default for key, default in listed}
    assert len(rows) == len(listed), "a key is listed twice"
    assert rows == all_keys()


@pytest.mark.parametrize("page", [page for page, _ in PAGES])
def test_recipes_and_stages_are_named(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in shipped_recipes())
    for stage in STAGES:
        (kind,) = get_args(stage.model_fields["stage"].annotation)
        assert f"\n| `{kind}` |" in text
    for block in re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        assert parse_recipe(tomllib.loads(block), page).stage_names == ["contrastive", "merge"]
