"""Parquet files of plain text columns: the fast way gives what the careful one gives."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3e.data import plain_columns as module
from m3e.data.plain_columns import plain_kind, stream_plain
from m3e.data.reading import read_records
from m3e.data.staging import staged_row
from m3e.data.streams import Account
from m3e.errors import DataError
from m3e.records import Kind

ODD = [None, "", " \u3000", "\u200b", "？", "é", "👩", "ひ", "\u0301", "中", "a", "0", "𠮷", "\ufeff一"]


@pytest.mark.parametrize("names", [("text", "text_pos"), ("text", "text_pos", "text_neg")])
def test_the_same_rows_drops_and_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    monkeypatch.setattr(module, "_ROWS_A_BATCH", 64)
    rng = random.Random(0)
    rows = [{name: rng.choice([*ODD, f"第{number}句", f"第{number}句"]) for name in names} for number in range(400)]
    path = tmp_path / "a.train.parquet"
    pq.write_table(pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in names])), path)
    kind = plain_kind(path)
    assert kind is (Kind.PAIR if len(names) == 2 else Kind.TRIPLET)
    account, careful = Account(), read_records(path)
    found = [row for batch in stream_plain(path, kind, account) for row in batch.to_pylist()]
    staged = [staged_row(record) for record in careful.records]
    assert [{key: row[key] for key in ("query", "positives", "negatives")} for row in found] == staged
    assert all(row["label"] is None and row["positive_scores"] is None for row in found)
    assert dict(account.dropped) == careful.dropped == {"empty_text": 400 - len(staged)}
    assert account.drops == careful.drops
    assert account.rows == len(staged) > 100


@pytest.mark.parametrize(
    "columns",
    [
        {"text": ["a"], "text_pos": ["b"], "label": ["c"]},
        {"text": ["a"], "text_pos": [1]},
        {"text": ["a"], "text_pos": [["b"]]},
        {"text": ["a"]},
        {"问题": ["a"], "回答": ["b"]},
        {"sentence1": ["a"], "sentence2": ["b"], "label": ["1"]},
    ],
)
def test_other_files_take_a_closer_look(tmp_path: Path, columns: dict[str, list]) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert plain_kind(tmp_path / "a.parquet") is None
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    assert plain_kind(tmp_path / "b.parquet") is None
    assert plain_kind(tmp_path / "none.parquet") is None


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    broken = pa.array([b"\xff\xfe", b"ok"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": broken, "text_pos": ["b", "c"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read"):
        list(stream_plain(tmp_path / "a.parquet", Kind.PAIR, Account()))
    pq.write_table(
        pa.table({"text": pa.array([], pa.string()), "text_pos": pa.array([], pa.string())}), tmp_path / "e.parquet"
    )
    with pytest.raises(DataError, match=r"e\.parquet has no rows"):
        list(stream_plain(tmp_path / "e.parquet", Kind.PAIR, Account()))
