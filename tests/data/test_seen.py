"""Asking a filter alone what was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m3e.data.bloom import TextFilter
from m3e.data.keys import hashes_of_keys, text_keys
from m3e.data.seen import Seen, filter_path, texts_seen
from m3e.errors import DataError


@pytest.fixture
def seen() -> TextFilter:
    made = TextFilter(1000)
    made.add_hashes(hashes_of_keys(text_keys(["怎么退货", "ABC", "番茄叶子"])))
    return made


def test_a_file_s_rows_and_texts(tmp_path: Path, seen: TextFilter) -> None:
    rows = [
        {"sentence1": "怎么 退货？", "sentence2": "没见过一"},
        {"sentence1": "怎么退货", "sentence2": "ＡＢＣ"},
        {"sentence1": "没见过二", "sentence2": "没见过三"},
        {"sentence1": "没见过二", "sentence2": ""},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    found = texts_seen(path, seen)
    assert found == Seen(rows=4, rows_seen=2, texts=5, texts_seen=2)
    assert found.share == 0.4
    assert Seen(0, 0, 0, 0).share == 0.0


def test_many_texts(tmp_path: Path) -> None:
    """Of what was trained on all is seen; of others, ninety-eight in a hundred are not."""
    made = TextFilter(10_000)
    made.add_hashes(hashes_of_keys(text_keys([f"学过的第{number}句" for number in range(10_000)])))
    for words, low, high in (("学过的第", 1.0, 1.0), ("没学过的第", 0.0, 0.02)):
        path = tmp_path / "x.csv"
        path.write_text("text\n" + "\n".join(f"{words}{number}句" for number in range(10_000)), "utf-8")
        found = texts_seen(path, made)
        assert (found.rows, found.texts) == (10_000, 10_000)
        assert low <= found.share <= high


def test_where_a_filter_lies(tmp_path: Path, seen: TextFilter) -> None:
    seen.save(tmp_path / "texts.bloom")
    assert filter_path(tmp_path) == filter_path(tmp_path / "texts.bloom") == tmp_path / "texts.bloom"
    (tmp_path / "model").mkdir()
    for place in (tmp_path / "model", tmp_path / "nothing"):
        with pytest.raises(DataError, match=r"has no texts\.bloom"):
            filter_path(place)
