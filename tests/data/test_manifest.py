"""What a data folder says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from m3e.data.manifest import dataset_card, read_manifest
from m3e.errors import DataError
from m3e.files import write_json


def entry(name: str, rows_out: int, **values: Any) -> dict[str, Any]:
    return {
        "dataset": name,
        "kind": "pair",
        "category": "s2p",
        "languages": ["zh"],
        "licence": "MIT",
        "commercial": "yes",
        "rows_in": rows_out + 3,
        "rows_out": rows_out,
        "dropped": {"blank": 1, "exact_duplicate": 2},
        "shards": [{"file": f"{name.replace('/', '__')}/0000{n}.parquet"} for n in range(2 if rows_out else 0)],
        **values,
    }


MANIFEST = {
    "version": "9.9",
    "policy": "commercial",
    "rows_in": 12_012,
    "rows_out": 12_000,
    "texts": 24_000,
    "evaluation": ["lcqmc.dev", "tnews.test"],
    "by_pair": [{"train": "org/faq", "eval": "lcqmc.dev", "rows": 3, "texts": 5, "passages": 1}],
    "datasets": [
        entry("org/faq", 11_000, licence="research | by\nrequest", languages=["zh", "code"]),
        entry("wiki", 1_000, languages=["en", "zh"]),
        entry("nothing", 0),
    ],
}


def parts(card: str) -> tuple[dict[str, Any], str]:
    _, head, body = card.split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_head_of_a_card_is_the_hub_s() -> None:
    head, _ = parts(dataset_card(MANIFEST, "一些数据"))
    assert head["language"] == ["en", "zh"]
    assert head["size_categories"] == ["10K<n<100K"]
    assert head["configs"] == [
        {
            "config_name": name,
            "data_files": [{"split": "train", "path": [f"{name}/00000.parquet", f"{name}/00001.parquet"]}],
        }
        for name in ("org__faq", "wiki")
    ]


def test_the_body_of_a_card() -> None:
    _, body = parts(dataset_card(MANIFEST, "一些数据"))
    assert body.startswith("# 一些数据\n")
    assert "12,000 rows of 2 data sets" in body
    assert "Policy: commercial." in body
    assert "| org/faq | pair | s2p | research / by request | yes | 11,003 | 11,000 |" in body
    assert "| nothing | exact_duplicate | 2 |" in body
    assert "| org/faq | lcqmc.dev | 3 | 5 | 1 |" in body
    assert "2 evaluation files" in body
    assert "all 24,000 texts" in body


def test_what_was_not_compared_is_said() -> None:
    card = dataset_card({**MANIFEST, "evaluation": [], "by_pair": []}, "t")
    assert "No evaluation texts were given to compare with." in card
    assert "shared rows" not in card


@pytest.mark.parametrize(
    ("rows", "size"),
    [(999, "n<1K"), (1_000, "1K<n<10K"), (999_999, "100K<n<1M"), (1_000_000, "1M<n<10M"), (10_000_000, "10M<n<100M")],
)
def test_sizes(rows: int, size: str) -> None:
    assert parts(dataset_card({**MANIFEST, "rows_out": rows}, "t"))[0]["size_categories"] == [size]


def test_reading(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", MANIFEST)
    assert read_manifest(tmp_path)["rows_out"] == 12_000
    for content, message in (
        ("[1]", "is not a manifest"),
        ("{}", "is not a manifest"),
        ("{", "no readable manifest.json"),
    ):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(DataError, match=message):
            read_manifest(tmp_path)
    with pytest.raises(DataError, match=r"elsewhere has no readable manifest\.json; m3e data prepare writes one"):
        read_manifest(tmp_path / "elsewhere")
