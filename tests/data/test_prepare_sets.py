"""From names, presets and policies to a prepared folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from planned_sets import entry_of, listed_folder, texts

from m3e.data.downloads import NotThereError
from m3e.data.filters import Filters
from m3e.data.prepare_sets import chosen_preset, prepare_sets
from m3e.data.preset import Preset
from m3e.errors import DataError, SettingsError


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = listed_folder(tmp_path / "data")
    monkeypatch.setenv("M3E_DATA", str(folder))
    monkeypatch.setenv("M3E_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return folder


def chosen(*settings: str, name: str | None = None, sets=("faq",), policy=None, simplified=None, near=None) -> Preset:
    return chosen_preset(name, sets, policy, simplified, near, settings)


def test_the_command_line_goes_over_the_preset() -> None:
    preset = chosen(name="m3e-hq", sets=())
    assert (preset.sets, preset.policy, preset.simplified, preset.near_duplicates) == (("all",), "any", True, 0.7)
    preset = chosen(
        *(
            "filters.max_query=9",
            "filters.max_run=12",
            "max_rows.org/a.b=3",
            "weights.faq=0.5",
            "seed=7",
            "title=甲 乙",
        ),
        name="m3e-hq",
        sets=["faq", "riddles"],
        policy="commercial",
        simplified=False,
        near=0.0,
    )
    assert (preset.sets, preset.policy, preset.simplified) == (("faq", "riddles"), "commercial", False)
    assert preset.options.near_duplicates is None
    assert preset.options.filters == Filters(
        2, 9, 2, 4096, language_share=0.2, max_run=12, top_character_share=0.4, boilerplate=50
    )
    assert (preset.max_rows, preset.weights, preset.seed, preset.title) == ({"org/a.b": 3}, {"faq": 0.5}, 7, "甲 乙")
    assert chosen().options == Preset().options


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("seed", "--set seed: write key=value"),
        ("=3", "--set =3: write key=value"),
        ("colour=1", "colour: "),
        ("seed=abc", "seed: "),
        ("max_rows.faq=0", "max_rows.faq: "),
        ("near_duplicates=3", "near_duplicates: "),
    ],
)
def test_settings_that_cannot_be(settings: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        chosen(settings)
    assert str(caught.value).startswith(message)


def test_no_set_is_named() -> None:
    with pytest.raises(SettingsError, match=r"name the sets: .*all, m3e, shipped, local"):
        chosen(sets=())


def test_sets_of_a_folder_against_its_own_evaluation_files(data: Path, tmp_path: Path) -> None:
    preset = chosen("max_rows.riddles=1", "weights.faq=2", sets=["local"])
    prepared, notes = prepare_sets(preset, tmp_path / "out", named=["local"])
    assert notes == []
    assert texts(prepared, "faq") == {"怎么退货", "怎么换货", "几点关门"}
    assert entry_of(prepared, "faq")["dropped"] == {"contaminated_exact": 1}
    assert entry_of(prepared, "riddles")["dropped"] == {"exact_duplicate": 1, "sampled_out": 1}
    assert texts(prepared, "lessons") == {"What is the sun?", "What is the moon?", "Who are you?"}
    assert [entry["dataset"] for entry in prepared.manifest["datasets"]] == ["faq", "riddles", "lessons"]
    facts = entry_of(prepared, "faq")
    assert (facts["weight"], facts["licence"], facts["commercial"], facts["category"]) == (2.0, "MIT", "yes", "s2p")
    assert prepared.manifest["evaluation"] == ["faq.dev", "held.test"]
    assert prepared.manifest["by_pair"] == [{"train": "faq", "eval": "faq.dev", "rows": 0, "texts": 1, "passages": 0}]


def test_more_evaluation_files_can_be_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(json.dumps({"text": "怎么换货", "text_pos": "到前台填写换货单。"}), "utf-8")
    prepared, _ = prepare_sets(chosen(), tmp_path / "out", against=[str(tmp_path / "mine.jsonl")])
    assert texts(prepared, "faq") == {"怎么退货", "几点关门"}
    assert prepared.manifest["evaluation"] == ["faq.dev", "held.test", "mine.jsonl"]


def test_commercial(data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    preset = chosen(sets=["local"], policy="commercial")
    prepared, _ = prepare_sets(preset, tmp_path / "out", say=said.append, named=["local"])
    assert [entry["dataset"] for entry in prepared.manifest["datasets"]] == ["faq"]
    assert prepared.manifest["policy"] == "commercial"
    assert "--policy commercial leaves out 1 sets whose commercial use is no: riddles" in said
    assert "--policy commercial leaves out 1 sets whose commercial use is unknown: lessons" in said
    assert "warning: --policy commercial leaves no English set" in said
    assert "warning: --policy commercial leaves no set of category s2s" in said


@pytest.mark.parametrize(
    ("sets", "policy", "message"),
    [
        (["faq", "lessons"], "commercial", "does not allow lessons (unknown: not stated)"),
        (["Riddles"], "commercial", "does not allow riddles (no: research only)"),
        (["faq", "mine.jsonl"], "commercial", "does not allow mine.jsonl: the terms of a file are unknown"),
        (["faq", "held"], "any", "held: sets for evaluation are never trained on"),
        (["faqs"], "any", "there is no data set 'faqs' in the catalogue; like it: faq"),
        (["none.csv"], "any", "a file needs its path"),
    ],
)
def test_sets_that_are_refused(data: Path, tmp_path: Path, sets: list[str], policy: str, message: str) -> None:
    (tmp_path / "mine.jsonl").write_text('{"text": "问", "text_pos": "答"}', "utf-8")
    with pytest.raises(DataError) as caught:
        prepare_sets(chosen(sets=sets, policy=policy), tmp_path / "out", named=sets)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("table", ["max_rows", "weights"])
def test_a_setting_for_a_set_that_is_not_prepared(data: Path, tmp_path: Path, table: str) -> None:
    with pytest.raises(SettingsError, match="'riddles' is not among the sets that are prepared; they are faq"):
        prepare_sets(chosen(f"{table}.riddles=2"), tmp_path / "out")


def test_files_beside_sets_even_of_their_names(data: Path, tmp_path: Path) -> None:
    for place in ("x", "y"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "faq.jsonl").write_text(
            json.dumps({"text": f"{place}的问题", "text_pos": f"{place}的回答"}, ensure_ascii=False), "utf-8"
        )
    preset = chosen(sets=["faq", "x/faq.jsonl", "y/faq.jsonl"])
    prepared, _ = prepare_sets(preset, tmp_path / "out", named=preset.sets)
    assert [entry["dataset"] for entry in prepared.manifest["datasets"]] == ["faq", "faq~2", "faq~3"]
    assert (texts(prepared, "faq~2"), texts(prepared, "faq~3")) == ({"x的问题"}, {"y的问题"})
    assert len(texts(prepared, "faq")) == 3


def test_a_number_of_rows_that_nobody_expected_is_said(data: Path, tmp_path: Path, monkeypatch) -> None:
    from m3e.data import prepare_sets as module

    cards = module.all_cards()
    expecting = {"faq": 100, "riddles": 3}
    changed = [card.model_copy(update={"rows": expecting.get(card.name, card.rows)}) for card in cards]
    monkeypatch.setattr(module, "all_cards", lambda: changed)
    _, notes = prepare_sets(chosen(sets=["faq", "riddles"]), tmp_path / "out")
    assert notes == ["warning: faq has 4 rows where its card expects 100"]


def test_sets_of_a_group_that_are_not_here_are_passed_over_but_named_ones_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("M3E_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("M3E_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("m3e.data.downloads._fetch", _no_web)
    raw = tmp_path / "raw"
    raw.mkdir()
    lines = ["title,question,reply,is_best", "离婚,孩子归谁抚养,要看父母双方的具体条件,1"]
    (raw / "lawzhidao_filter.csv").write_text("\n".join(lines), "utf-8")
    said: list[str] = []
    prepared, _ = prepare_sets(Preset(sets=("m3e",)), tmp_path / "out", raw=raw, say=said.append)
    assert [entry["dataset"] for entry in prepared.manifest["datasets"]] == ["lawzhidao"]
    assert prepared.failed == {}
    assert any(line.startswith("28 sets of the catalogue are not here") and "webqa" in line for line in said)
    named, _ = prepare_sets(Preset(sets=("lawzhidao", "webqa")), tmp_path / "named", raw=raw)
    assert list(named.failed) == ["webqa"]


def _no_web(url: str, target: Path, *, is_page: bool) -> None:
    raise NotThereError("no answer: this test has no web")
