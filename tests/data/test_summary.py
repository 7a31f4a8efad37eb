"""Numbers about the catalogue and about prepared folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from planned_sets import planned, row

from m3e.catalogue.shelf import shipped_cards
from m3e.data.filters import Filters
from m3e.data.pipeline import PipelineOptions
from m3e.data.prepare import run_pipeline
from m3e.data.summary import catalogue_summary, folder_summary
from m3e.errors import DataError


def test_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("M3E_DATA", raising=False)
    rows = catalogue_summary()
    assert {key: rows[-1][key] for key in ("use", "category", "sets", "rows")} == {
        "use": "M3E table",
        "category": "all",
        "sets": 29,
        "rows": 21_837_781,
    }
    parts = rows[:-1]
    assert sum(part["sets"] for part in parts) == len(shipped_cards())
    assert sum(part["rows"] for part in parts) == sum(card.rows or 0 for card in shipped_cards())
    for part in rows:
        assert part["sets"] == part["commercial_yes"] + part["commercial_no"] + part["commercial_unknown"]
    assert {part["use"] for part in parts} == {"train", "evaluation"}


def test_a_prepared_folder(tmp_path: Path) -> None:
    plans = [
        planned(
            "pairs",
            [row("一二三", "一二三四五"), row("一", "一二三四五六七"), row("一二三四五", "答"), row("长" * 11, "答案")],
        ),
        planned("ranked", [row("问题呀", "答", "答案在此", negatives=["错"])], "ranked", category="s2s"),
        planned("texts", [row("四个字啊"), row("两字")], "text"),
        planned("nothing", [row("长" * 12, "答")]),
    ]
    options = PipelineOptions(filters=Filters(max_query=10))
    run_pipeline(plans, tmp_path / "out", options)
    rows = {found["data_set"]: found for found in folder_summary(tmp_path / "out")}
    assert rows["pairs"] == {
        "data_set": "pairs",
        "kind": "pair",
        "category": "s2p",
        "rows_in": 4,
        "rows_out": 3,
        "query_median": 3,
        "query_p95": 4,
        "passage_median": 5,
        "passage_p95": 6,
    }
    assert (rows["ranked"]["passage_median"], rows["ranked"]["query_median"]) == (2, 3)  # between 1 and 4
    assert (rows["texts"]["query_median"], rows["texts"]["passage_median"]) == (3, 0)
    assert (rows["nothing"]["rows_out"], rows["nothing"]["query_p95"]) == (0, 0)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no readable manifest\.json"):
        folder_summary(tmp_path)
    run_pipeline([planned("a", [row("问", "答")])], tmp_path / "out", PipelineOptions())
    (tmp_path / "out/a/00000.parquet").unlink()
    with pytest.raises(DataError, match=r"a/00000\.parquet is missing, though the manifest names it"):
        folder_summary(tmp_path / "out")
