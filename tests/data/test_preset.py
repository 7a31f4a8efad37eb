"""Presets: those that ship, and what is wrong with those that do not work."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3e.data.filters import Filters
from m3e.data.pipeline import PipelineOptions
from m3e.data.preset import Preset, read_preset, shipped_presets
from m3e.errors import SettingsError


def test_the_presets_that_ship() -> None:
    assert shipped_presets() == ["m3e-all", "m3e-commercial", "m3e-hq"]
    every, commercial, strict = (read_preset(name) for name in shipped_presets())
    assert [preset.policy for preset in (every, commercial, strict)] == ["any", "commercial", "any"]
    assert {preset.sets for preset in (every, commercial, strict)} == {("all",)}
    assert strict.simplified
    assert strict.options.near_duplicates == 0.7
    for preset in (every, commercial):
        assert preset.options.filters == Filters(max_query=2048, max_passage=16384)
        assert not preset.simplified
    loose, tight = every.options.filters, strict.options.filters
    for name in ("min_query", "min_passage", "language_share"):
        assert getattr(tight, name) > getattr(loose, name)
    for name in ("max_query", "max_passage", "max_run", "top_character_share"):
        assert getattr(tight, name) < getattr(loose, name)
    assert tight.boilerplate is not None


def test_the_options_of_a_preset() -> None:
    preset = Preset(filters={"max_query": 9}, near_duplicates=0, seed=7, normalise=False)
    assert preset.options == PipelineOptions(
        normalise=False, filters=Filters(max_query=9), near_duplicates=None, seed=7
    )
    assert Preset().options == PipelineOptions()


def test_a_file_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('sets = ["m3e", "a.csv"]\n[weights]\nbelle_2m = 0.5\n', "utf-8")
    preset = read_preset(str(tmp_path / "mine.toml"))
    assert (preset.sets, preset.weights) == (("m3e", "a.csv"), {"belle_2m": 0.5})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sets = 3", "mine.toml: sets: "),
        ("colour = 1", "mine.toml: colour: no such key"),
        ("near_duplicates = 2", "mine.toml: near_duplicates: "),
        ("[max_rows]\na = 0", "mine.toml: max_rows.a: "),
        ("[weights]\na = -1", "mine.toml: weights.a: "),
        ("[filters]\nmax_query = 'x'", "mine.toml: filters: max_query cannot be 'x'"),
        ("[filters]\nmax_quer = 1", "mine.toml: filters: there is no rule 'max_quer'"),
        ("sets = [", "mine.toml: "),
        (b"\xff\xfe", "mine.toml: "),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, text: str | bytes, message: str) -> None:
    (tmp_path / "mine.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SettingsError) as caught:
        read_preset(str(tmp_path / "mine.toml"))
    assert str(caught.value).startswith(message)


def test_no_such_preset() -> None:
    with pytest.raises(SettingsError, match="no preset 'm3e-best'; shipped: m3e-all, m3e-commercial, m3e-hq; or name"):
        read_preset("m3e-best")
