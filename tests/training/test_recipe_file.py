"""Recipes: what is read, what is refused, and by which file and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m3e.errors import SettingsError
from m3e.training.recipe import ContrastiveStage
from m3e.training.recipe_file import read_recipe, shipped_recipes

MINI = """
title = "mine"
[base]
model = "m3e-tiny"
[data]
folder = "prepared"
[[stages]]
stage = "contrastive"
batch = { size = 32 }
[[stages]]
name = "soft"
stage = "scored"
[[stages]]
stage = "merge"
models = { contrastive = 1, soft = 2 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(MINI, encoding="utf-8")
    return path


def test_a_file_is_read(file: Path) -> None:
    recipe = read_recipe(str(file))
    assert recipe.stage_names == ["contrastive", "soft", "merge"]
    first = recipe.stages[0]
    assert isinstance(first, ContrastiveStage)
    assert first.batch.size == 32
    assert first.schedule.warmup == 0.05


def test_a_byte_order_mark_is_no_key(file: Path) -> None:
    file.write_text("\ufeff" + MINI, encoding="utf-8")
    assert read_recipe(str(file)).title == "mine"


def test_settings_on_top(file: Path) -> None:
    settings = [
        "stages.contrastive.schedule.lr=1e-5",
        "stages.2.batch.size=8",
        "title=other",
        'stages.soft.rows.weights."a.b"=2',
        "seed=7",
    ]
    recipe = read_recipe(str(file), settings)
    first: Any
    second: Any
    first, second, _ = recipe.stages
    assert first.schedule.lr == 1e-5
    assert second.batch.size == 8
    assert second.rows.weights == {"a.b": 2}
    assert (recipe.title, recipe.seed) == ("other", 7)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("stages.contrastive.batch.sise=8", "mine.toml: stages.contrastive (1).batch.sise: no such key"),
        ("stages.soft.loss=hinge", "stages.soft.loss"),
        ("stages.nothing.batch.size=8", "there is no stage 'nothing'; the stages are contrastive, soft, merge"),
        ("stages.contrastive.batch.size=1", "greater than or equal to 2"),
        ("policy=free", "policy: "),
        ("nonsense", "write key=value"),
        ("stages.soft=3", "name a key of the stage"),
        ("stages.soft.name=contrastive", "two stages are called 'contrastive'"),
        ("stages.soft.name=base", "cannot be called 'base'"),
        ("base.model=scratch", "begins with a tokenizer"),
        ("stages.merge.models.nowhere=1", "merges 'nowhere'"),
        ("data.preset=m3e-all", "a prepared folder is taken as it is"),
        ("a b=1", "not a key"),
    ],
)
def test_what_is_wrong_is_named(file: Path, line: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_recipe(str(file), [line])
    assert said in str(caught.value)


def test_a_file_that_is_no_toml(file: Path) -> None:
    file.write_text("title = ", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"mine\.toml"):
        read_recipe(str(file))


def test_no_such_recipe() -> None:
    with pytest.raises(SettingsError, match="there is no recipe 'm3e-huge'; shipped: m3e-base"):
        read_recipe("m3e-huge")


def test_data_must_come_from_somewhere(file: Path) -> None:
    file.write_text(MINI.replace('folder = "prepared"', ""), encoding="utf-8")
    with pytest.raises(SettingsError, match="data: name a prepared folder, a preset"):
        read_recipe(str(file))


def test_the_recipes_that_the_design_names_ship() -> None:
    assert set(shipped_recipes()) == {
        *("m3e-tiny", "m3e-static", "m3e-small", "m3e-small-2023", "m3e-base-2023"),
        *("m3e-base", "m3e-large", "m3e-code", "m3e-hq", "m3e-commercial"),
    }


def test_a_run_of_m3e_static_serves_m3e_tiny() -> None:
    """Its stages are the other's first ones, on the same data, so that they need not be run again."""
    static, tiny = read_recipe("m3e-static"), read_recipe("m3e-tiny")
    assert tiny.stages[: len(static.stages)] == static.stages
    assert (tiny.base, tiny.data, tiny.seed, tiny.precision) == (
        static.base,
        static.data,
        static.seed,
        static.precision,
    )


def test_the_true_m3e_recipe() -> None:
    """study of the predecessor: temperature 0.01, one epoch, 3e-5, cosine with 5 % warmup, 256 rows of 512 tokens."""
    small, base = read_recipe("m3e-small-2023"), read_recipe("m3e-base-2023")
    for recipe, rows, length in ((small, 256, 512), (base, 80, 400)):
        (stage,) = recipe.stages
        assert isinstance(stage, ContrastiveStage)
        assert (stage.temperature, stage.directions) == (0.01, "one")
        assert (stage.batch.size, stage.batch.max_length, recipe.base.max_length) == (rows, length, length)
        schedule = stage.schedule
        assert (schedule.epochs, schedule.lr, schedule.kind, schedule.warmup) == (1, 3e-5, "cosine", 0.05)
        assert schedule.weight_decay == 1e-3
    assert small.base.model == "uer/chinese_roberta_L-4_H-512"
    assert base.base.model == "hfl/chinese-roberta-wwm-ext"
