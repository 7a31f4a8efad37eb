from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3e.errors import DataError
from m3e.inference.texts import Bounds, Texts, open_texts


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def lines(*rows: object) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("rows", "field"),
    [
        ({"title": "甲", "text": "乙"}, "text"),
        ({"id": "a1", "content": "甲", "title": "乙"}, "content"),
        ({"id": "a1", "Question": "甲"}, "Question"),
        ({"编号": "a1", "正文": "甲"}, "正文"),
        ({"n": 3, "flag": True, "备注": "甲"}, "备注"),
        ({"电话": "13800000000", "备注": "甲"}, "备注"),
        ({"text_pos": "甲"}, "text_pos"),
    ],
)
def test_the_field_of_text(tmp_path: Path, rows: dict[str, object], field: str) -> None:
    texts = open_texts(write(tmp_path / "t.jsonl", lines(rows)))
    assert texts.field == field
    assert list(texts) == [rows[field]]


def test_no_field_of_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.jsonl has no field that holds text; it has: id, n; .*--field"):
        open_texts(write(tmp_path / "t.jsonl", lines({"id": "a", "n": 1})))
    with pytest.raises(DataError, match=r"no field 'body'; it has: text"):
        open_texts(write(tmp_path / "t.jsonl", lines({"text": "a"})), "body")
    with pytest.raises(DataError, match=r"no field 'text'; it has: line"):
        open_texts(write(tmp_path / "t.txt", "a"), "text")


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"text": None}, "null"),
        ({"id": 1}, "missing"),
        ({"text": 3}, r"a number \(3\)"),
        ({"text": float("nan")}, r"a number \(nan\)"),
        ({"text": ["甲"]}, r"list \(\['甲'\]\)"),
        ({"text": True}, "a number"),
        ({"text": {"a": 1}}, "dict"),
    ],
)
def test_a_row_without_text_is_named(tmp_path: Path, row: object, what: str) -> None:
    path = write(tmp_path / "t.jsonl", lines({"text": "甲"}) + "\n" + lines(row, {"text": "乙"}))
    with pytest.raises(DataError, match=rf"t\.jsonl, row 2 \(line 3\): text is {what}.*, not text"):
        list(open_texts(path))


def test_half_a_surrogate_pair_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", '{"text": "甲"}\n{"text": "乙"}\n{"text": "\\ud83d"}\n')
    with pytest.raises(DataError, match=r"row 3 \(line 3\): text holds half of a surrogate pair"):
        list(open_texts(path).chunks(Bounds(2)))


def test_cells_of_a_table_are_text_as_typed(tmp_path: Path) -> None:
    table = 'id,text\r\n1,007\r\n2,"甲,乙"\r\n3,NA\r\n4,\r\n5,"一\n二"\r\n'
    assert list(open_texts(write(tmp_path / "t.csv", table))) == ["007", "甲,乙", "NA", "", "一\n二"]
    assert list(open_texts(write(tmp_path / "t.tsv", '编号\t问题\n1\t"双十一"大促\n2\t"五寸屏\n'))) == [
        '"双十一"大促',
        '"五寸屏',
    ]


def test_a_table_in_gb18030_says_so(tmp_path: Path) -> None:
    texts = open_texts(write(tmp_path / "t.csv", "编号,文本\r\n1,𠮷祥饺子\r\n".encode("gb18030")))
    assert list(texts) == ["𠮷祥饺子"]
    assert texts.table.notes == ("t.csv: read as GB18030",)


@pytest.mark.parametrize("ending", ["txt", "txt.gz"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_line_of_plain_text_is_a_text(tmp_path: Path, ending: str, mark: str) -> None:
    data = (mark + "甲\r\n乙\u2028丙\x0c\x85丁\n\n  戊 \r己").encode()
    path = write(tmp_path / f"t.{ending}", gzip.compress(data) if ending.endswith("gz") else data)
    assert list(open_texts(path)) == ["甲", "乙\u2028丙\x0c\x85丁", "", "  戊 ", "己"]


def test_plain_text_in_gb18030_and_none_at_all(tmp_path: Path) -> None:
    texts = open_texts(write(tmp_path / "t.txt", "订单\n发货\n".encode("gb18030")))
    assert list(texts) == ["订单", "发货"]
    assert texts.table.notes == ("t.txt: read as GB18030",)
    with pytest.raises(DataError, match=r"e\.txt has no rows"):
        open_texts(write(tmp_path / "e.txt", ""))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_reads_the_one_column(tmp_path: Path, kind: pa.DataType) -> None:
    column = pa.array(["甲", "乙", "甲"], pa.string()).cast(kind)
    other = pa.array(["x" * 1000 + str(at) for at in range(3)])
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": column, "vector": other}), path, use_dictionary=False)
    # damaged where only a reader of the other column looks
    page = pq.read_metadata(path).row_group(0).column(1).data_page_offset
    data = bytearray(path.read_bytes())
    data[page : page + 20] = b"\xff" * 20
    path.write_bytes(data)
    assert list(open_texts(path, "text")) == ["甲", "乙", "甲"]
    with pytest.raises(DataError, match="cannot be read"):
        list(open_texts(path, "vector"))


def test_parquet_cells_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": ["甲", None], "raw": [b"a", b"b"]}), path)
    with pytest.raises(DataError, match=r"t\.parquet, row 2: text is null"):
        list(open_texts(path))
    with pytest.raises(DataError, match=r"t\.parquet, row 1: raw is bytes"):
        list(open_texts(path, "raw"))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6)), st.integers(1, 4), st.integers(1, 9))
def test_chunks_hold_every_text_within_their_bounds(texts: list[str], most: int, characters: int) -> None:
    chunks = list(_texts(texts).chunks(Bounds(most, characters)))
    assert [text for chunk in chunks for text in chunk.texts] == texts
    for chunk in chunks:
        assert 1 <= len(chunk.texts) <= most
        assert sum(map(len, chunk.texts[:-1])) < characters
    for chunk in chunks[:-1]:
        assert len(chunk.texts) == most or sum(map(len, chunk.texts)) >= characters


def test_a_digest_tells_where_a_text_ends() -> None:
    splits = [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["", "abc"], ["ab", "d"]]
    digests = {next(_texts(texts).chunks(Bounds())).digest for texts in splits}
    assert len(digests) == len(splits)
    assert next(_texts(["ab", "c"]).chunks(Bounds())).digest in digests


def _texts(texts: list[str]) -> Texts:
    from m3e.data.tables import Table

    return Texts(Table("t", ("text",), [{"text": text} for text in texts], is_uniform=True), "text")
