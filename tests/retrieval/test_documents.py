"""Documents from users' files: ids, texts, metadata, and what is said about the rest."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3e.errors import DataError
from m3e.retrieval.documents import Document, open_documents


@pytest.fixture
def write(tmp_path: Path):
    def lines(rows: list[Any], name: str = "d.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return path

    return lines


def test_ids_stay_strings_and_the_rest_is_metadata(write) -> None:
    rows = [
        {"id": "007", "text": "一", "城市": "北京", "year": 2020, "x": None, "y": {"a": [1, 2.5]}},
        {"id": 7, "text": "二"},
        {"id": 7.5, "text": "三", "draft": False},
    ]
    found = list(open_documents(write(rows)))
    assert found == [
        Document("007", "一", {"城市": "北京", "year": 2020, "x": None, "y": {"a": [1, 2.5]}}),
        Document("7", "二", {}),
        Document("7.5", "三", {"draft": False}),
    ]


def test_a_csv_keeps_its_cells_as_typed(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes("﻿_id,正文,code,n\n007,第一,NA,1e5\n008,第二,007,\n".encode())
    documents = open_documents(path, field="正文")
    assert documents.id_field == "_id"
    assert list(documents) == [
        Document("007", "第一", {"code": "NA", "n": "1e5"}),
        Document("008", "第二", {"code": "007", "n": ""}),
    ]


def test_the_last_of_an_id_counts_and_blank_texts_take_theirs_out(write) -> None:
    rows = [
        {"id": 1, "text": "old"},
        {"id": "2", "text": "  "},
        {"id": "1", "text": "new"},
        {"id": "3", "text": "x"},
        {"id": "3", "text": "\u200b\u3000"},
        {"id": "4", "text": None},
        {"text": ""},
        {"text": "no id"},
    ]
    documents = open_documents(write(rows))
    assert (documents.rows, documents.duplicate_ids, documents.blank) == (8, 2, 4)
    found = list(documents)
    assert [(item.id, item.text) for item in found[:4]] == [("2", None), ("1", "new"), ("3", None), ("4", None)]
    assert (len(found[4].id), found[4].text) == (32, "no id")
    assert list(documents) == found, "they are read as often as wanted"


def test_without_ids_they_are_hashes_of_text_and_metadata(write) -> None:
    rows = [{"text": "a", "n": 1}, {"text": "a", "n": 2}, {"text": "a", "n": 1}, {"text": "b", "n": 1}]
    documents = open_documents(write(rows))
    ids = [item.id for item in documents]
    assert len(set(ids)) == len(ids) == 3
    assert documents.duplicate_ids == 1
    assert "hash" in documents.notes[0]
    assert set(ids) == {item.id for item in open_documents(write(rows[::-1], "other.jsonl"))}


def test_a_folder_is_read_in_the_order_of_its_names(write, tmp_path: Path) -> None:
    write([{"id": "1", "text": "b"}], "folder/b.jsonl")
    write([{"id": "1", "text": "a"}, {"id": "2", "text": "c"}], "folder/a.jsonl")
    (tmp_path / "folder" / "notes.pdf").write_bytes(b"%PDF")
    documents = open_documents(tmp_path / "folder")
    assert [(item.id, item.text) for item in documents] == [("2", "c"), ("1", "b")]
    before = documents.fingerprint
    write([{"id": "1", "text": "B"}], "folder/b.jsonl")
    assert open_documents(tmp_path / "folder").fingerprint != before


def test_a_text_file_holds_a_text_a_line(tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_bytes("第一行\r\n\r\n第三行\n".encode("gb18030"))
    documents = open_documents(tmp_path / "d.txt")
    assert [item.text for item in documents] == ["第一行", "第三行"]
    assert documents.blank == 1


def test_parquet_types_become_those_of_json(tmp_path: Path) -> None:
    columns = {
        "id": [1, 2],
        "text": ["a", "b"],
        "day": [datetime.date(2024, 1, 2), None],
        "at": [datetime.datetime(2024, 1, 2, 3, 4, 5), None],
        "price": [decimal.Decimal("1.50"), None],
        "weight": [float("nan"), 0.5],
        "picture": [b"\x89PNG", None],
        "tags": [["x", "y"], []],
    }
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    first, second = open_documents(tmp_path / "d.parquet")
    assert first == Document(
        "1",
        "a",
        {
            "day": "2024-01-02",
            "at": "2024-01-02T03:04:05",
            "price": "1.50",
            "weight": None,
            "tags": ["x", "y"],
        },
    )
    assert second.metadata["weight"] == 0.5


@pytest.mark.parametrize(
    ("rows", "options", "named"),
    [
        ([{"id": 1, "text": 5}], {}, ["d.jsonl", "row 1", "text is int"]),
        ([{"id": 1, "text": "a"}, {"id": [2], "text": "b"}], {}, ["row 2", "an id is a string or a number"]),
        ([{"id": 1, "text": "a"}], {"field": "body"}, ["no column 'body'", "id, text"]),
        ([{"id": 1, "text": "a"}], {"id_field": "key"}, ["no column 'key'", "id, text"]),
        ([{"id": 1, "n": 5}], {}, ["no column 'of text'", "--field"]),
        ([{"id": 1, "text": " "}, {"text": None}], {}, ["blank in all 2 rows"]),
        ([{"id": 1, "text": "a"}, {"id": 2, "text": "b\ud800"}], {}, ["row 2", "half a character"]),
        ([{"id": 1, "text": "a", "note": {"x": "\udfff"}}], {}, ["row 1", "metadata"]),
    ],
)
def test_what_cannot_be_indexed_is_named(write, rows: list[Any], options: dict[str, str], named: list[str]) -> None:
    with pytest.raises(DataError) as refused:
        open_documents(write(rows), **options)
    assert all(part in str(refused.value) for part in named), str(refused.value)


def test_no_file_and_no_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        open_documents(tmp_path / "absent.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file"):
        open_documents(tmp_path / "empty")
