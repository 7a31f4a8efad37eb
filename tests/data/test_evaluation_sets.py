"""Which evaluation files are compared with."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from planned_sets import listed_folder

from m3e.catalogue.cards import DatasetCard, parse_card
from m3e.catalogue.shelf import shipped_cards
from m3e.data.contamination import evaluation_keys, row_hash
from m3e.data.evaluation_sets import evaluation_paths
from m3e.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("M3E_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def card(name: str = "bench/Pairs", use: str = "evaluation", **values) -> DatasetCard:
    given = {
        "name": name,
        "title": name,
        "description": name,
        "use": use,
        "kind": "sts",
        "category": "s2s",
        "languages": ["zh"],
        "domain": "web",
        "licence": {"stated": "MIT", "commercial": "yes", "reason": "r", "source": "s"},
        "sources": [{"path": "pairs.jsonl"}],
        "tasks": ["Pairs"],
    }
    return parse_card(given | values, "test")


def raw_folder(folder: Path) -> Path:
    folder.mkdir()
    rows = [
        {"sentence1": "开门", "sentence2": "关门", "label": 1},
        {"sentence1": "番茄的叶子", "pos": ["番茄叶子黄了", "也会变黄"], "neg": [], "label": 0},
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return folder


def test_evaluation_files_of_the_data_folder(tmp_path: Path) -> None:
    folder = listed_folder(tmp_path / "data")
    paths, notes = evaluation_paths([], [], folder=folder)
    assert [path.name for path in paths] == ["faq.dev.parquet", "held.test.parquet"]
    assert notes == []


def test_files_and_folders_by_name_each_once(tmp_path: Path) -> None:
    folder = listed_folder(tmp_path / "data")
    file = folder / "held.test.parquet"
    (tmp_path / "more").mkdir()
    (tmp_path / "more/notes.txt").write_text("no data")
    (tmp_path / "more/b.csv").write_text("text\n甲\n", "utf-8")
    paths, _ = evaluation_paths([str(file), str(tmp_path / "more")], [], folder=folder)
    assert paths == [folder / "faq.dev.parquet", file, tmp_path / "more/b.csv"]


def test_a_set_of_the_catalogue_is_read_row_by_row_and_kept(tmp_path: Path, cache: Path) -> None:
    raw = raw_folder(tmp_path / "raw")
    (path,), notes = evaluation_paths(["bench/pairs"], [card()], raw=raw)
    assert path.is_relative_to(cache)
    assert notes == []
    keys = [queries for queries, _ in evaluation_keys(path)]
    assert keys == [["开门", "关门"], ["番茄的叶子", "番茄叶子黄了", "也会变黄"]]
    assert row_hash(keys[0]) == row_hash(["关门", "开门"])  # a whole row is still one
    (raw / "pairs.jsonl").unlink()
    assert evaluation_paths([], [card()]) == ([path], [])  # from now on, without a word


def test_a_set_whose_raw_file_is_here_is_compared_with(tmp_path: Path) -> None:
    raw = raw_folder(tmp_path / "raw")
    (path,), notes = evaluation_paths([], [card(), card("training", use="train", kind="pair")], raw=raw)
    assert pq.read_metadata(path).num_rows == 2
    assert notes == []


def test_sets_that_are_not_here_are_named(tmp_path: Path) -> None:
    cards = [card(f"set{number}") for number in range(10)]
    (tmp_path / "set3.test.csv").write_text("text\n甲\n", "utf-8")
    paths, notes = evaluation_paths([str(tmp_path / "set3.test.csv")], cards)
    assert [path.name for path in paths] == ["set3.test.csv"]
    assert len(notes) == 1
    assert "not compared with 9 evaluation sets" in notes[0]
    assert "(set0, set1, set2, set4, set5, set6, set7, set8 and 1 more)" in notes[0]


def test_every_shipped_evaluation_set_with_a_task_is_asked_for() -> None:
    _, notes = evaluation_paths([], shipped_cards())
    count = sum(card.use == "evaluation" and bool(card.tasks) for card in shipped_cards())
    assert count > 30
    assert f"not compared with {count} evaluation sets" in notes[0]


def test_what_cannot_be_compared_with(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("training", "this set is for training"),
        (str(tmp_path / "empty"), "holds no data files"),
        ("nothing.csv", "no data set 'nothing.csv'"),
        ("bench/Pairs", "none of the sources can be read"),
    ):
        with pytest.raises(DataError, match=message):
            evaluation_paths([name], [card(), card("training", use="train", kind="pair")])
    assert list((tmp_path / "cache").rglob("*.parquet")) == []
