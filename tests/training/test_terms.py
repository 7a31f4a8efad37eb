"""What goes into a model under the policy ``commercial``: what does not say yes is refused before any training."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3e.errors import SettingsError
from tests.training.recipes import recipe, run, stage, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "prepared")


def test_commercial_fails_closed(mini_folder: Path, data: Path, tmp_path: Path) -> None:
    unknown = write_data(tmp_path / "unknown", commercial="unknown")
    made = recipe(mini_folder, unknown, stage("contrastive"), policy="commercial")
    with pytest.raises(SettingsError, match=r'policy is "commercial", and the data set faq .*commercial use: unknown'):
        run(made, tmp_path / "out")
    base = {"model": str(mini_folder), "licence": "cc-by-nc-4.0"}
    with pytest.raises(SettingsError, match=r"the base .*cc-by-nc-4\.0 \(commercial use: no\)"):
        run(recipe(mini_folder, data, stage("contrastive"), policy="commercial", base=base), tmp_path / "two")
    teacher = stage("distil", teacher=str(mini_folder))
    with pytest.raises(SettingsError, match=r"the teacher .* is under no stated licence"):
        run(recipe(mini_folder, data, teacher, policy="commercial"), tmp_path / "three")
    other = stage("contrastive", rows={"folder": str(unknown)})
    with pytest.raises(SettingsError, match=r"the data set faq of .*unknown is under .*commercial use: unknown"):
        run(recipe(mini_folder, data, other, policy="commercial"), tmp_path / "stages")
    free = run(recipe(mini_folder, unknown, stage("contrastive")), tmp_path / "four")
    assert (free.licence, free.commercial) == ("other", "unknown")
