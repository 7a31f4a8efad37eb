"""The stage that averages models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from m3e import load
from m3e.data.bloom import TextFilter
from m3e.errors import ModelError
from m3e.files import read_json, write_json
from m3e.training.recipe import MergeStage
from m3e.training.stages.merge import run
from m3e.training.stages.stage import StageWork
from tests.conftest import write_mini


@pytest.fixture
def work(tmp_path: Path) -> StageWork:
    folders = {name: write_mini(tmp_path / name, seed=seed) for seed, name in enumerate(("base", "first", "last"))}
    model = load(folders["last"])
    model.prompts = {"query": "新"}
    model.save_pretrained(str(folders["last"]))
    return StageWork(
        "merge", tmp_path / "stage", folders["last"], folders["base"], tmp_path, {"contrastive": folders["first"]}
    )


def test_it_averages_base_earlier_stage_previous_and_a_folder(work: StageWork, tmp_path: Path) -> None:
    other = write_mini(tmp_path / "other", seed=9)
    (other / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    write_json(other / "manifest.json", {"datasets": [{"dataset": "x", "rows_out": 1, "kind": "pair", "shards": []}]})
    TextFilter(5).save(other / "texts.bloom")
    models = {"base": 1.0, "contrastive": 2.0, "previous": 4.0, str(other): 1.0}
    report = run(MergeStage(stage="merge", models=models), work)
    assert report.facts["shares"] == {"previous": 0.5, "base": 0.125, "contrastive": 0.25, str(other): 0.125}
    merged = load(work.target)
    assert merged.prompts["query"] == "新"  # the previous model's, wherever it is named
    places = {"base": "base", "contrastive": "first", "previous": "last", str(other): "other"}
    states = {name: load(tmp_path / place).state_dict() for name, place in places.items()}
    for name, value in merged.state_dict().items():
        expected = sum(weight / 8 * states[model][name].double() for model, weight in models.items())
        assert torch.allclose(value.double(), expected, atol=1e-6), name
    assert [(part.role, part.licence, part.commercial) for part in report.ingredients] == [
        ("base", "cc-by-nc-4.0", "no")
    ]
    assert read_json(work.target / "manifest.json")["datasets"][0]["dataset"] == "x"
    assert (work.target / "texts.bloom").is_file()


def test_another_shape_names_stage_models_and_weight(work: StageWork, tmp_path: Path) -> None:
    wide = write_mini(tmp_path / "wide", hidden=48)
    with pytest.raises(ModelError, match=r"stage merge: previous and .*wide.*word_embeddings"):
        run(MergeStage(stage="merge", models={"previous": 1.0, str(wide): 1.0}), work)
    assert not work.target.exists()
