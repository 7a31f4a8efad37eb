"""The plan that rows go through one by one: its columns, beside what each must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from m3e.data.clean import CleanOptions, clean, clean_batch
from m3e.data.contamination import NearIndex, row_hash
from m3e.data.engine import start_engine
from m3e.data.filters import RULES, Filters
from m3e.data.keys import hash_of_key
from m3e.data.near import HASHES
from m3e.data.staging import write_staged
from m3e.errors import SettingsError

LISTS = pa.large_list(pa.large_string())


def batch(rows: list[tuple[str, list[str], list[str]]], options: CleanOptions) -> list[dict[str, Any]]:
    columns = (pa.array([row[at] for row in rows], LISTS if at else pa.large_string()) for at in range(3))
    return clean_batch(*columns, options).to_pylist()


def test_the_columns_of_a_row() -> None:
    (found,) = batch([(" 怎么退货？ ", ["到<br/>前台"], ["Ａ店", "b店"])], CleanOptions(signatures=False))
    assert found == {
        "query": "怎么退货？",
        "positives": ["到\n前台"],
        "negatives": ["Ａ店", "b店"],
        "rule": 0,
        "content": hash_of_key("怎么退货\x1e到前台\x1ea店\x1eb店"),
        "unordered": row_hash(["怎么退货", "到前台", "a店", "b店"]),
        "hashes": [hash_of_key(key) for key in ("怎么退货", "到前台", "a店", "b店")],
        "near": False,
        "left": None,
        "right": None,
    }


def test_rows_keep_their_own_texts_where_their_lists_differ_in_length() -> None:
    rows = [("一", [], []), ("二", ["乙", "丙"], []), ("三", ["丁"], ["戊", "己"]), ("四", [], ["庚"])]
    found = batch(rows, CleanOptions(signatures=False))
    assert [(row["query"], row["positives"], row["negatives"]) for row in found] == rows
    assert [len(row["hashes"]) for row in found] == [1, 3, 4, 2]
    table = pa.table(
        {"q": ["零", *(row[0] for row in rows)], "p": pa.array([["跳"], *(row[1] for row in rows)], LISTS)}
    )
    part = table.slice(1)
    empty = pa.array([[]] * 4, LISTS)
    sliced = clean_batch(part["q"].chunk(0).cast(pa.large_string()), part["p"].chunk(0), empty, CleanOptions())
    assert sliced.field("positives").to_pylist() == [row[1] for row in rows]


def test_sides_may_be_swapped_only_where_the_set_is_symmetric() -> None:
    rows = [("乙", ["甲"], []), ("甲", ["乙"], [])]
    for symmetric in (True, False):
        found = batch(rows, CleanOptions(symmetric=symmetric))
        assert (found[0]["content"] == found[1]["content"]) is symmetric
        assert found[0]["unordered"] == found[1]["unordered"]
    assert found[0]["left"] == "乙"


def test_texts_of_ten_characters_are_parted_for_shingles() -> None:
    (found,) = batch([("一二三四五六七八九", ["一二三四五六七八九十"], [])], CleanOptions())
    assert (found["left"], found["right"]) == ("一二三四五六七八九", "一 二 三 四 五 六 七 八 九 十")


def test_code_and_the_switch_leave_texts_as_typed() -> None:
    rows = [(" 問題 ", ["\t臺<br/>"], ["  x  "])]
    (code,) = batch(rows, CleanOptions(code=True, simplified=True))
    assert (code["query"], code["positives"], code["negatives"]) == ("问题", ["\t臺<br/>"], ["  x  "])
    (typed,) = batch(rows, CleanOptions(normalise=False))
    assert (typed["query"], typed["positives"]) == (" 問題 ", ["\t臺<br/>"])


def test_rules_and_near_texts(tmp_path: Path) -> None:
    evaluation = "阳台上的番茄叶子发黄可能是浇水太多"
    NearIndex([evaluation]).save(tmp_path / "index")
    options = CleanOptions(filters=Filters(), near_index=str(tmp_path / "index"))
    rows = [
        ("问题", ["答案"], []),
        ("", ["答"], []),
        ("问题", [f"都说{evaluation}"], []),
        ("问题", ["答"], [evaluation]),
    ]
    found = batch(rows, options)
    assert [row["near"] for row in found] == [False, False, True, True]
    assert [row["rule"] for row in found] == [0, RULES.index("blank") + 1, 0, 0]
    assert batch([], options) == []


def test_the_plan_gives_every_row_once_with_its_number(tmp_path: Path) -> None:
    rows = [
        {"query": f"第{n}个问题是什么", "positives": [f"第{n}个回答在这里呢"], "negatives": []} for n in range(30_000)
    ]
    rows[7]["label"] = 0.5
    assert write_staged(rows, tmp_path / "raw.parquet") == 30_000
    batches = list(clean(tmp_path / "raw.parquet", CleanOptions(filters=Filters())))
    assert max(part.num_rows for part in batches) <= 16384
    table = pa.Table.from_batches(batches).sort_by("row")
    assert table["row"].to_pylist() == list(range(30_000))
    assert table["query"].to_pylist() == [row["query"] for row in rows]
    assert table["label"].to_pylist()[6:9] == [None, 0.5, None]
    lengths = {side: set(table[side].combine_chunks().value_lengths().to_pylist()) for side in ("left", "right")}
    assert lengths == {"left": {HASHES}, "right": {HASHES}}
    left = np.array(table["left"].to_pylist()[:200])
    assert len(np.unique(left, axis=0)) == 200


@pytest.mark.parametrize("name", ["a[1]", "{b}", "c*?", "空 格#%20"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    write_staged([{"query": "问题", "positives": ["答案"], "negatives": []}], tmp_path / name / "raw.parquet")
    (tmp_path / "a1").mkdir()
    write_staged([{"query": "另一个", "positives": ["文件"], "negatives": []}], tmp_path / "a1" / "raw.parquet")
    (found,) = clean(tmp_path / name / "raw.parquet", CleanOptions())
    assert found["query"].to_pylist() == ["问题"]


def test_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    start_engine("local")
    for engine, message in (("spark", "'spark' is not known; choose local, ray"), ("ray", "the engine local runs")):
        with pytest.raises(SettingsError, match=message):
            start_engine(engine)
