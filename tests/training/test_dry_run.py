"""A recipe's plan: every shipped one, and figures that follow from rows, lengths and sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3e.errors import DataError
from m3e.training.dry_run import SHAPES, plan_recipe
from m3e.training.memory import activation_bytes
from m3e.training.recipe_file import read_recipe, shipped_recipes
from tests.training.recipes import recipe, stage, write_data


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_has_a_plan(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("M3E_DATA", raising=False)
    made = read_recipe(name)
    plans, lines = plan_recipe(made, "cpu")
    assert [plan.name for plan in plans] == made.stage_names
    assert any(line.startswith("base: ") for line in lines)
    trained = [plan for plan in plans if plan.steps]
    assert trained, lines
    for plan in trained:
        assert plan.rows
        assert plan.tokens
        assert plan.memory
        assert plan.seconds


def test_rows_and_steps_of_a_prepared_folder(mini_folder: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    made = recipe(
        mini_folder,
        data,
        stage("contrastive", schedule={"epochs": 2}, batch={"size": 8, "max_length": 10, "caps": {"faq": 16}}),
        stage("scored"),
        stage("merge", models={"previous": 1, "base": 1}),
    )
    contrastive, scored, merge = plan_recipe(made, "cpu")[0]
    assert contrastive.steps == 2 * (16 // 8 + 40 // 8 + 40 // 8)
    assert contrastive.rows == 8 * contrastive.steps
    assert contrastive.tokens == contrastive.rows * 2 * 10
    assert (scored.steps, scored.rows) == (4, 32)
    assert merge.steps is None


def test_sets_that_hold_take_their_steps(mini_folder: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    made = recipe(
        mini_folder, data, stage("contrastive", rows={"sets": ["faq"]}, hold={"sets": ["scored"]}, schedule={})
    )
    (plan,) = plan_recipe(made, "cpu")[0]
    assert plan.steps == 64 // 8 + 40 // 8


def test_vectors_that_are_made_beforehand_take_time(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    plain, guided, taught = stage("contrastive"), stage("contrastive", name="guided", preserve=1.0), stage("distil")
    made = recipe("e5-small-cut", data, plain, guided, {**taught, "teacher": "e5-small"})
    first, second, third = plan_recipe(made, "cpu")[0]
    assert all(plan.seconds and plan.tokens for plan in (first, second, third))
    a_token = [(plan.seconds or 0) / (plan.tokens or 1) for plan in (first, second, third)]
    assert a_token[1] == pytest.approx(a_token[0] * 8 / 6)
    assert a_token[2] == pytest.approx(a_token[1])


def test_less_trains_with_adapters(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    made = recipe("e5-small-cut", data, stage("contrastive"), stage("contrastive", name="low", lora={"rank": 8}))
    full, low = plan_recipe(made, "cpu")[0]
    assert full.memory is not None
    assert low.memory is not None
    shape = SHAPES["e5-small-cut"]
    trained = 18 * 8 * 384 * 12
    assert full.memory - low.memory == 12 * (shape.parameters - trained)
    assert full.memory > 16 * shape.parameters + activation_bytes(shape, 8, 512, 2)


def test_a_folder_that_is_no_data(mini_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="m3e data prepare"):
        plan_recipe(recipe(mini_folder, tmp_path, stage("contrastive")), "cpu")
