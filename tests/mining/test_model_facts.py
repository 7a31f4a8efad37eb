from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from m3e.data.manifest import commercial_use
from m3e.files import write_json
from m3e.mining.provenance import ModelFacts, facts_of_model


def test_named_models_and_cards(tmp_path: Path) -> None:
    assert facts_of_model("m3e-tiny", "f") == ModelFacts("m3e-tiny", "f", "Apache-2.0", "yes")
    folder = tmp_path / "mine"
    folder.mkdir()
    assert facts_of_model(str(folder), "f") == ModelFacts("mine", "f", "not stated", "unknown")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# mine\n", encoding="utf-8")
    assert facts_of_model(str(folder), "f") == ModelFacts("mine", "f", "mit", "yes")
    write_json(folder / "manifest.json", {"datasets": [{"rows_out": 3, "commercial": "no"}]})
    assert facts_of_model(str(folder), "f") == ModelFacts("mine", "f", "mit", "no")
    shutil.rmtree(folder)


@pytest.mark.parametrize("terms", ["yes", "no", "unknown"])
def test_data_are_no_freer_than_the_models_that_made_them(terms: str) -> None:
    manifest = {"datasets": [{"rows_out": 3, "commercial": "yes"}]}
    assert commercial_use({**manifest, "steps": [{"models": [{"name": "teacher", "commercial": terms}]}]}) == terms
