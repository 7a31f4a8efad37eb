"""However large a file, reading it takes about the same memory: measured in a process of its own."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import m3e
from m3e.data.text_files import read_table

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="the peak of a process's memory is read from /proc"
)

MEASURE = """
import sys
from pathlib import Path
from m3e.data.streams import Account, stream_tables
from m3e.data.text_files import read_table

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

def count(path):
    return sum(1 for _ in stream_tables([lambda: read_table(Path(path))], {}, Account()))

count(sys.argv[1])
before = peak()
print(count(sys.argv[2]), peak() - before)
"""

CHINESE = "".join(chr(0x4E00 + step * 7919 % 20000) for step in range(4000))


def texts(index):
    start = index * 37 % 3500
    return f"{index} {CHINESE[start : start + 20]}", f'{CHINESE[start : start + 120]}, "{index}"'


def write(path, rows):
    """Rows of about 450 bytes in the format of the file's name."""
    if path.suffix == ".parquet":
        columns = zip(*map(texts, range(rows)), strict=True)
        pq.write_table(pa.table(dict(zip(("text", "text_pos"), map(list, columns), strict=True))), path)
        return
    with gzip.open(path, "wb", 1) if path.suffix == ".gz" else path.open("wb") as stream:
        if ".jsonl" in path.name:
            lines = (
                json.dumps(dict(zip(("text", "text_pos"), texts(index), strict=True)), ensure_ascii=False)
                for index in range(rows)
            )
        else:
            delimiter = "\t" if ".tsv" in path.name else ","
            cells = (('"' + cell.replace('"', '""') + '"' for cell in texts(index)) for index in range(rows))
            lines = map(delimiter.join, [("text", "text_pos"), *cells])
        stream.writelines(f"{line}\n".encode() for line in lines)


def rows_and_growth(small, large):
    """How many records ``large`` gives, and by how many MiB the peak rises above what ``small`` takes."""
    environment = {**os.environ, "PYTHONPATH": str(Path(m3e.__file__).parents[1])}
    command = [sys.executable, "-c", MEASURE, str(small), str(large)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows, growth = done.stdout.split()
    return int(rows), float(growth)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.csv.gz", "a.parquet"])
@pytest.mark.parametrize(
    ("rows", "limit"), [(45_000, 25), pytest.param(330_000, 80, marks=pytest.mark.slow)], ids=["20 MB", "150 MB"]
)
def test_a_large_file_is_streamed(tmp_path, name, rows, limit):
    small, large = tmp_path / f"small_{name}", tmp_path / name
    write(small, 8000)
    write(large, rows)
    found, growth = rows_and_growth(small, large)
    assert found == rows
    assert growth < limit


LONG = CHINESE * 875  # 10.5 MB in UTF-8


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_one_row_of_ten_megabytes_in_quotes_is_read_as_typed(tmp_path, delimiter):
    path = tmp_path / ("a.csv" if delimiter == "," else "a.tsv")
    path.write_text(f'text{delimiter}text_pos\n甲{delimiter}"{LONG}\n{delimiter * 2}"\n乙{delimiter}丙\n')
    table = read_table(path)
    assert [row["text_pos"] for row in table.rows] == [f"{LONG}\n{delimiter * 2}", "丙"]
    assert list(table.lines) == [2, 4]


def test_one_row_of_ten_megabytes_in_json_lines_is_read_as_typed(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("甲", LONG, "乙")))
    table = read_table(path)
    assert [row["text"] for row in table.rows] == ["甲", LONG, "乙"]
    assert list(table.lines) == [1, 2, 3]


@pytest.mark.parametrize(
    ("cells", "options"),
    [
        ([LONG[:1_000_000]] * 60, {}),
        ([LONG[:1_000_000]] * 60 + ["甲"] * 20_000, {}),
        # without the option Arrow makes one page of all these
        ([LONG[: 1_000_000 - index] for index in range(60)], {"write_batch_size": 1}),
    ],
    ids=["one value", "one value and small ones", "different values"],
)
def test_large_cells_of_parquet_are_not_multiplied(tmp_path, cells, options):
    small, large = tmp_path / "small.parquet", tmp_path / "a.parquet"
    write(small, 8000)
    pq.write_table(pa.table({"text": cells, "text_pos": ["乙"] * len(cells)}), large, **options)
    found, growth = rows_and_growth(small, large)
    assert found == len(cells)
    assert growth < 75  # sixty such texts are 180 MB, and 120 MB more as Python strings
