"""Whatever the texts, the format, the encoding or the order of columns: the same records."""

import csv
import io
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3e.data.keys import is_blank
from m3e.data.reading import read_records
from m3e.records import Pair, Triplet, as_dict

# NUL is refused in text files, and halves of surrogate pairs cannot be written at all
WILD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
VISIBLE = st.one_of(
    WILD, st.sampled_from(['"', '""', 'a"b', '"a', 'a"', ",", "x,y", "a\nb", "\r\nc", "'", "NA", "007", "1e5", "null"])
).filter(lambda text: not is_blank(text))
HAN = st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), max_size=12).map(
    lambda text: "借" + text  # in GB18030 this is not UTF-8; 一一 alone would pass for Cyrillic letters
)

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def as_delimited(names, rows, delimiter=",", quoting=csv.QUOTE_MINIMAL):
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter, quoting=quoting).writerows([names, *rows])
    return buffer.getvalue()


def records(rows):
    return [Pair(*row) for row in rows]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@few
@given(rows=st.lists(st.tuples(VISIBLE, VISIBLE), min_size=1, max_size=6))
def test_csv_round_trip(tmp_path, quoting, rows):
    path = tmp_path / "a.csv"
    path.write_bytes(as_delimited(("text", "text_pos"), rows, quoting=quoting).encode())
    assert read_records(path).records == records(rows)


@few
@given(rows=st.lists(st.tuples(VISIBLE, VISIBLE), min_size=1, max_size=6))
def test_tsv_round_trip(tmp_path, rows):
    rows = [tuple(text.replace("\t", " ") + "." for text in row) for row in rows]
    path = tmp_path / "a.tsv"
    path.write_bytes(as_delimited(("text", "text_pos"), rows, delimiter="\t").encode())
    assert read_records(path).records == records(rows)


@few
@given(rows=st.lists(st.tuples(VISIBLE, VISIBLE), min_size=1, max_size=6))
def test_unquoted_tsv_round_trip(tmp_path, rows):
    # no tab, no line end, and a quote that never closes: everything is as typed
    rows = [tuple(" ".join(text.split()) + "." for text in row) for row in rows] + [('"open', "end")]
    path = tmp_path / "a.tsv"
    path.write_bytes("\n".join("\t".join(row) for row in [("text", "text_pos"), *rows]).encode())
    assert read_records(path).records == records(rows)


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("layout", ["lines", "array", "indented", "columns"])
@few
@given(rows=st.lists(st.tuples(VISIBLE, VISIBLE), min_size=1, max_size=6))
def test_json_round_trip(tmp_path, ascii_only, layout, rows):
    dicts = [{"text": text, "text_pos": positive} for text, positive in rows]
    options = {"ensure_ascii": ascii_only}
    text = {
        "lines": lambda: "\n".join(json.dumps(row, **options) for row in dicts),
        "array": lambda: json.dumps(dicts, **options),
        "indented": lambda: json.dumps(dicts, indent=1, **options),
        "columns": lambda: json.dumps({name: [row[name] for row in dicts] for name in ("text", "text_pos")}, **options),
    }[layout]()
    for name in ("a.json", "a.jsonl"):
        (tmp_path / name).write_bytes(text.encode())
        assert read_records(tmp_path / name).records == records(rows)


@few
@given(rows=st.lists(st.tuples(VISIBLE, VISIBLE, st.lists(VISIBLE, min_size=1, max_size=3)), min_size=1, max_size=6))
def test_parquet_round_trip(tmp_path, rows):
    path = tmp_path / "a.parquet"
    columns = zip(("text", "text_pos", "text_neg"), zip(*rows, strict=True), strict=True)
    pq.write_table(pa.table({name: list(values) for name, values in columns}), path)
    assert read_records(path).records == [Triplet(text, pos, tuple(neg)) for text, pos, neg in rows]


@few
@given(rows=st.lists(st.tuples(HAN, HAN), min_size=1, max_size=6))
def test_encodings_give_the_same_records(tmp_path, rows):
    text = as_delimited(("text", "text_pos"), rows)
    found = {}
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "gb18030"):
        path = tmp_path / f"{encoding}.csv"
        path.write_bytes(text.encode(encoding))
        found[encoding] = read_records(path).records
    assert all(value == records(rows) for value in found.values())


@few
@given(rows=st.lists(st.tuples(VISIBLE, VISIBLE, VISIBLE), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_the_order_of_columns_changes_nothing(tmp_path, rows, seed):
    names = ["text", "text_pos", "text_neg", "id", "备注"]
    order = random.Random(seed).sample(range(5), 5)
    full = [(*row, "7", "无") for row in rows]
    shuffled = [[row[index] for index in order] for row in full]
    path = tmp_path / "a.csv"
    path.write_bytes(as_delimited([names[index] for index in order], shuffled).encode())
    assert read_records(path).records == [Triplet(*row) for row in rows]
    dicts = [{names[index]: row[index] for index in order} for row in full]
    assert read_records(dicts).records == [Triplet(*row) for row in rows]


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)


@few
@given(values=st.lists(st.tuples(ANYTHING, ANYTHING, ANYTHING), min_size=1, max_size=8))
def test_whatever_the_cells_no_row_is_lost_in_silence(values):
    rows = [{"text": "问题", "text_pos": "答案", "text_neg": "反例"}]
    rows += [dict(zip(rows[0], cells, strict=True)) for cells in values]
    found = read_records(rows)
    assert found.rows + sum(found.dropped.values()) == len(rows)
    queries = [next(iter(as_dict(record).values())) for record in found.records]
    assert all(isinstance(query, str) and not is_blank(query) for query in queries)
