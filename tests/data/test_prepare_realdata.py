"""Real training files against the real dev and test files: the known overlaps, and nothing left of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from planned_sets import entry_of

from m3e.catalogue.local import read_catalogue
from m3e.data.bloom import TextFilter
from m3e.data.pipeline import PipelineOptions
from m3e.data.prepare import Prepared, run_pipeline
from m3e.data.seen import texts_seen
from m3e.data.sets import plan_of_card, plan_of_path

FOLDER = Path(os.environ.get("M3E_DATA", ""))
SETS = ("tnews", "stsb_zh", "zh_docstring_code", "simclue_pair", "afqmc")
FILES = (
    *("tnews.dev", "fewclue_tnews.test", "stsb_zh.dev", "stsb_zh.test", "zh_docstring_code.dev", "afqmc.dev"),
    *("simclue.test", "afqmc_unlabelled.test"),
)
# whole rows, and texts of at least 6 characters, that both have: counted once, independently of this code
OVERLAPS = {
    ("tnews", "tnews.dev"): (938, 937),
    ("tnews", "fewclue_tnews.test"): (2010, 2003),
    ("stsb_zh", "stsb_zh.dev"): (18, 249),
    ("stsb_zh", "stsb_zh.test"): (17, 254),
    ("zh_docstring_code", "zh_docstring_code.dev"): (25, 201),
    ("afqmc", "afqmc.dev"): (0, 202),
    ("afqmc", "afqmc_unlabelled.test"): (0, 206),
}

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(
        not os.environ.get("M3E_DATA") or not FOLDER.is_dir(), reason="M3E_DATA names no folder of real data"
    ),
]


@pytest.fixture(scope="module")
def evaluation() -> list[Path]:
    paths = [FOLDER / f"{name}.parquet" for name in FILES]
    if missing := [path.name for path in paths if not path.is_file()]:
        pytest.skip(f"{FOLDER} lacks {', '.join(missing)}")
    return paths


@pytest.fixture(scope="module")
def prepared(evaluation: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    cards = {card.name: card for card in read_catalogue(FOLDER)}
    out = tmp_path_factory.mktemp("real") / "out"
    return run_pipeline([plan_of_card(cards[name]) for name in SETS], out, PipelineOptions(), evaluation=evaluation)


@pytest.mark.parametrize("pair", OVERLAPS)
def test_the_known_overlaps(prepared: Prepared, pair: tuple[str, str]) -> None:
    found = {(entry["train"], entry["eval"]): (entry["rows"], entry["texts"]) for entry in prepared.manifest["by_pair"]}
    assert found[pair] == OVERLAPS[pair]


def test_the_manifest_adds_up(prepared: Prepared) -> None:
    assert prepared.failed == {}
    for name in SETS:
        entry = entry_of(prepared, name)
        assert entry["rows_in"] == entry["rows_out"] + sum(entry["dropped"].values())
        assert entry["rows_out"] > 0.5 * entry["rows_in"]


def test_a_second_pass_finds_nothing(prepared: Prepared, evaluation: list[Path], tmp_path: Path) -> None:
    plans = [plan_of_path(prepared.folder / name) for name in SETS]
    options = PipelineOptions(normalise=False, filters=None, duplicates=False, near_duplicates=None)
    again = run_pipeline(plans, tmp_path / "again", options, evaluation=evaluation)
    assert again.failed == {}
    assert [entry["dropped"] for entry in again.manifest["datasets"]] == [{}] * len(SETS)
    assert again.manifest["by_pair"] == []
    assert again.manifest["rows_out"] == prepared.manifest["rows_out"]


def test_the_filter_alone_knows_what_was_trained_on(prepared: Prepared) -> None:
    seen = TextFilter.load(prepared.folder / "texts.bloom")
    own = texts_seen(next((prepared.folder / "tnews").glob("*.parquet")), seen)
    assert own.texts_seen == own.texts > 30_000
    other = texts_seen(FOLDER / "tnews_unlabelled.test.parquet", seen)
    known = 914 / 18_401  # of its texts are in the training file
    assert other.share < known + 0.02
