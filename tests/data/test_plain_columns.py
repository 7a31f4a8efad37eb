"""Plain parquet files: staged as columns, they give what reading their rows gives."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3e.data import plain_columns as module
from m3e.data.plain_columns import plain_kind, stream_plain
from m3e.data.reading import read_records
from m3e.data.staging import STAGED, staged_row, write_staged
from m3e.data.streams import Account
from m3e.errors import DataError
from m3e.records import Kind

VISIBLE = ["怎么退货", "a", "7", "……", "🙂", "\U00020001", "ｶ", "é", "  两端  ", "\u200b字", "Ω\n"]
BLANK = [None, "", " ", "\u3000\t", "\u200b", "\x00", "\n"]


def write(path: Path, columns: dict[str, Any], kind: pa.DataType | None = None) -> Path:
    kind = kind or pa.string()
    pq.write_table(pa.table({name: pa.array(values, kind) for name, values in columns.items()}), path)
    return path


def staged(path: Path, account: Account) -> list[dict[str, Any]]:
    kind = plain_kind(path)
    assert kind is not None
    return [row for batch in stream_plain(path, kind, account) for row in batch.to_pylist()]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("fields", [("text", "text_pos"), ("text_neg", "text_pos", "text")])
def test_it_gives_what_reading_the_rows_gives(fields: tuple[str, ...], kind: pa.DataType, tmp_path: Path) -> None:
    draw = random.Random(len(fields))
    values = {name: [draw.choice(VISIBLE * 3 + BLANK) for _ in range(20_000)] for name in fields}
    path = write(tmp_path / "rows.parquet", values, kind)
    account = Account()
    rows = staged(path, account)
    expected = read_records(path)
    blank = {"label": None, "positive_scores": None, "negative_scores": None}
    assert rows == [{**staged_row(record), **blank} for record in expected.records]
    assert plain_kind(path) == expected.kind
    assert account.rows == len(rows) > 5000
    assert dict(account.dropped) == expected.dropped
    assert account.drops == expected.drops
    assert account.notes == expected.notes == []


def test_the_rows_are_numbered_on_over_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m3e.data.staging._BYTES_A_FILE", 1 << 18)
    texts = [f"第{number}条" for number in range(30_000)]
    path = write(tmp_path / "rows.parquet", {"text": texts, "text_pos": texts})
    account = Account()
    assert write_staged(stream_plain(path, Kind.PAIR, account), tmp_path / "raw") == 30_000
    files = sorted((tmp_path / "raw").iterdir())
    assert len(files) > 2
    table = pa.concat_tables(pq.read_table(file, schema=STAGED) for file in files)
    assert table["row"].to_pylist() == list(range(30_000))
    assert table["query"].to_pylist() == texts


@pytest.mark.parametrize(
    "columns",
    [
        {"text": ["甲"]},
        {"text": ["甲"], "text_pos": ["乙"], "id": ["1"]},
        {"question": ["甲"], "answer": ["乙"]},
        {"sentence1": ["甲"], "sentence2": ["乙"]},
    ],
)
def test_other_columns_take_a_closer_look(columns: dict[str, list[str]], tmp_path: Path) -> None:
    assert plain_kind(write(tmp_path / "rows.parquet", columns)) is None


def test_lists_other_formats_and_damaged_files_do_too(tmp_path: Path) -> None:
    lists = write(tmp_path / "lists.parquet", {"text": [["甲"]], "text_pos": [["乙"]]}, pa.list_(pa.string()))
    assert plain_kind(lists) is None
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(b"PAR1 nothing PAR1")
    assert plain_kind(damaged) is None
    renamed = write(tmp_path / "rows.parquet", {"text": ["甲"], "text_pos": ["乙"]}).rename(tmp_path / "rows.bin")
    assert plain_kind(renamed) is None


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    broken = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": broken, "text_pos": pa.array(["乙"])}), path)
    with pytest.raises(DataError, match=r"rows\.parquet: cannot be read: .*UTF8"):
        staged(path, Account())


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", {"text": [], "text_pos": []})
    with pytest.raises(DataError, match=r"rows\.parquet has no rows"):
        staged(path, Account())


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
