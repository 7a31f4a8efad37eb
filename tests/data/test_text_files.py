import gzip
import os
import threading
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3e.data.reading import read_records
from m3e.data.text_files import is_readable_name, read_table
from m3e.errors import DataError
from m3e.records import Pair, Ranked, Triplet

CSV = "text,text_pos\n借书证,服务台\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("A.CSV", CSV),
        ("a.b.csv", CSV),
        ("a.tsv", CSV.replace(",", "\t")),
        ("a.jsonl", '{"text": "借书证", "text_pos": "服务台"}'),
        ("a.ndjson", '{"text": "借书证", "text_pos": "服务台"}'),
        ("a.json", '[{"text": "借书证", "text_pos": "服务台"}]'),
        ("文件.csv", CSV),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_text_formats(tmp_path, name, content, compressed):
    path = tmp_path / (name + ".gz" if compressed else name)
    data = content.encode()
    path.write_bytes(gzip.compress(data) if compressed else data)
    found = read_records(str(path))
    assert found.records == [Pair("借书证", "服务台")]
    assert found.source == path.name


def test_readable_names():
    assert all(is_readable_name(Path(name)) for name in ("a.csv", "a.JSON.GZ", "a.parquet"))
    assert not any(is_readable_name(Path(name)) for name in ("a.txt", "a", "a.parquet.gz", ".csv", "a.gz"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.xlsx", "save the sheet as CSV UTF-8"),
        ("a.xls", "save the sheet as CSV UTF-8"),
        ("a.txt", r"extension \.txt is not known; accepted: \.jsonl"),
        ("a.docx", r"extension \.docx is not known"),
        ("a.parquet.gz", "not known"),
        ("a", "needs an extension"),
    ],
)
def test_other_formats_are_refused(tmp_path, name, words):
    (tmp_path / name).write_text(CSV)
    with pytest.raises(DataError, match=f"{name}: .*{words}"):
        read_records(tmp_path / name)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.parquet"])
def test_files_of_no_bytes(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=f"{name} has no rows"):
        read_records(tmp_path / name)


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.csv.gz", "a.parquet"])
def test_files_that_are_not_there(tmp_path, name):
    with pytest.raises(DataError, match=name):
        read_table(tmp_path / name)


@pytest.mark.parametrize("damage", [lambda data: data[:20], lambda data: b"no gzip at all", lambda data: data + b"x"])
def test_damaged_gzip_is_named(tmp_path, damage):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(damage(gzip.compress(CSV.encode() * 50)))
    with pytest.raises(DataError, match=r"a\.csv\.gz cannot be read"):
        read_records(path)


@pytest.mark.parametrize("damage", [lambda data: data[:-30], lambda data: b"text,text_pos\n", lambda data: data[:4]])
def test_damaged_parquet_is_named(tmp_path, damage):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["甲"], "text_pos": ["乙"]}), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as parquet"):
        read_records(path)


def write(path, columns):
    pq.write_table(pa.table(columns), path)
    return read_records(path)


def test_parquet_types(tmp_path):
    path = tmp_path / "a.parquet"
    texts, positives = ["甲", "乙", "甲"], ["丙", "丁", "戊"]
    for column in (
        pa.array(texts, pa.string()),
        pa.array(texts, pa.large_string()),
        pa.array(texts).dictionary_encode(),
    ):
        found = write(path, {"text": column, "text_pos": pa.array(positives)})
        assert found.records == [Pair(*texts) for texts in zip(texts, positives, strict=True)]


def test_parquet_lists(tmp_path):
    negatives = pa.array([["丙", None], []], pa.list_(pa.string()))
    found = write(tmp_path / "a.parquet", {"query": ["甲", "乙"], "pos": [["一"], ["二"]], "neg": negatives})
    assert found.records == [Ranked("甲", ("一",), ("丙",)), Ranked("乙", ("二",))]
    found = write(tmp_path / "b.parquet", {"text": ["甲"], "text_pos": ["乙"], "text_neg": [["丙", "丁"]]})
    assert found.records == [Triplet("甲", "乙", ("丙", "丁"))]


def test_parquet_numbers_are_no_text(tmp_path):
    with pytest.raises(DataError, match=r"a\.parquet has no usable rows: all 2 were dropped \(2 not_text\)"):
        write(tmp_path / "a.parquet", {"text": [1, 2], "text_pos": ["甲", "乙"]})


def test_parquet_without_rows_or_with_a_column_twice(tmp_path):
    with pytest.raises(DataError, match="has no rows"):
        write(tmp_path / "a.parquet", {"text": pa.array([], pa.string()), "text_pos": pa.array([], pa.string())})
    twice = pa.Table.from_arrays([pa.array(["甲"]), pa.array(["乙"])], names=["text", "text"])
    pq.write_table(twice, tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: two columns have the same name"):
        read_records(tmp_path / "b.parquet")


def test_a_parquet_folder_named_like_a_partition_gains_no_column(tmp_path):
    folder = tmp_path / "lang=zh"
    folder.mkdir()
    pq.write_table(pa.table({"text": ["甲"], "text_pos": ["乙"]}), folder / "a.parquet")
    assert read_table(folder / "a.parquet").columns == ("text", "text_pos")


def test_bytes_in_parquet_that_are_no_utf8_are_named(tmp_path):
    broken = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    with pytest.raises(DataError, match=r"a\.parquet.*cannot be read"):
        write(tmp_path / "a.parquet", {"text": broken, "text_pos": ["乙"]})


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(DataError, match=r"a\.csv"):
        read_table(tmp_path / "a.csv")


def write_rows(path, count):
    """A file of ``count`` rows in the format of its name."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": [f"甲{index}" for index in range(count)], "text_pos": ["乙"] * count}), path)
        return
    if ".jsonl" in path.name:
        text = "".join(f'{{"text": "甲{index}", "text_pos": "乙"}}\n' for index in range(count))
    else:
        text = "text,text_pos\n" + "".join(f"甲{index},乙\n" for index in range(count))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.csv.gz", "a.parquet"])
def test_rows_are_read_from_the_file_each_time(tmp_path, name):
    write_rows(tmp_path / name, 3000)
    table = read_table(tmp_path / name)
    one, other = iter(table.rows), iter(table.rows)
    assert [next(one)["text"], next(one)["text"], next(other)["text"]] == ["甲0", "甲1", "甲0"]
    assert [row["text"] for row in table.rows] == [f"甲{index}" for index in range(3000)]
    assert next(one) == {"text": "甲2", "text_pos": "乙"}


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.csv.gz", "a.parquet"])
def test_a_file_that_changes_between_two_readings_is_refused(tmp_path, name):
    path = tmp_path / name
    write_rows(path, 5000)
    table = read_table(path)
    assert len(list(table.rows)) == 5000
    write_rows(path, 4999)
    with pytest.raises(DataError, match=rf"^{name} changed while it was read"):
        next(iter(table.rows))
    path.unlink()
    with pytest.raises(DataError, match=rf"^{name}:? cannot be read"):
        next(iter(table.rows))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
@pytest.mark.parametrize("change", [lambda data: data[: len(data) // 2 + 1], lambda data: data + data[-20:]])
def test_a_file_that_changes_during_a_reading_is_refused(tmp_path, name, change):
    path = tmp_path / name
    write_rows(path, 5000)
    rows = iter(read_table(path).rows)
    next(rows)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=rf"^{name} changed while it was read"):
        list(rows)


def test_the_same_size_at_another_time_is_a_change(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(CSV)
    table = read_table(path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match="changed"):
        list(table.rows)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_read_once_and_held(tmp_path):
    path = tmp_path / "a.csv"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(CSV,), daemon=True)
    writer.start()
    table = read_table(path)
    writer.join(10)
    assert list(table.rows) == list(table.rows) == [{"text": "借书证", "text_pos": "服务台"}]


def test_a_damaged_page_of_parquet_is_named_when_it_is_met(tmp_path):
    path = tmp_path / "a.parquet"
    texts = [f"甲{index}" for index in range(20_000)]
    columns = pa.table({"text": texts, "text_pos": texts})
    pq.write_table(columns, path, row_group_size=10_000, compression="gzip", use_dictionary=False)
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start + 100 : start + 1000] = bytes(900)
    path.write_bytes(data)
    rows = iter(read_table(path).rows)
    assert [next(rows)["text"] for _ in range(9000)] == texts[:9000]
    with pytest.raises(DataError, match=r"^a\.parquet: cannot be read: "):
        list(rows)


def test_parquet_of_several_row_groups_and_types_is_read_whole(tmp_path):
    count = 5000
    texts = [None if index % 7 == 0 else f"甲{index % 90}" + "长" * 2000 for index in range(count)]
    columns = {
        "text": texts,
        "a.b": texts,
        "category": pa.array(texts).dictionary_encode(),
        "bytes": [None if text is None else text.encode() for text in texts],
        "number": [Decimal(index) for index in range(count)],
        "list": [[text] for text in texts],
        "struct": [{"text": text} for text in texts],
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=1999, store_decimal_as_integer=False)
    rows = list(read_table(tmp_path / "a.parquet").rows)
    assert rows == pa.table(columns).to_pylist()


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_notes_of_encodings_stand_before_others(tmp_path, name):
    path = tmp_path / name
    text = 'text,text_pos\n"借\n书证",服务台\n' if name == "a.csv" else '{"text": "借书证"}\n{"text": "服务台"}'
    path.write_bytes(text.encode("gb18030"))
    table = read_table(path)
    assert table.notes[0] == f"{name}: read as GB18030"
    assert len(table.notes) == (2 if name == "a.csv" else 1)
    assert table.shapes == {table.columns: 0}
