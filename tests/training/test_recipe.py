"""Recipes' tables: what does not go together is refused."""

from __future__ import annotations

import pytest

from m3e.errors import SettingsError
from m3e.training.recipe import DistilStage
from m3e.training.recipe_file import parse_recipe


def test_a_tokenizer_stage_needs_new_weights() -> None:
    values = {
        "title": "x",
        "base": {"model": "m3e-tiny"},
        "data": {"folder": "d"},
        "stages": [{"stage": "tokenizer"}],
    }
    with pytest.raises(SettingsError, match=r'set base\.model to "scratch"'):
        parse_recipe(values, "x.toml")


def test_matryoshka_weights_are_as_many_as_dims() -> None:
    values = {
        "title": "x",
        "base": {"model": "m3e-tiny"},
        "data": {"folder": "d"},
        "stages": [{"stage": "distil", "teacher": "base", "matryoshka": {"dims": [64, 128], "weights": [1.0]}}],
    }
    with pytest.raises(SettingsError, match="2 dims and 1 weights"):
        parse_recipe(values, "x.toml")
    values["stages"] = [{"stage": "distil", "teacher": "base", "matryoshka": {"dims": [64, 128]}}]
    (made,) = parse_recipe(values, "x.toml").stages
    assert isinstance(made, DistilStage)
