import io
import json
import math
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3e.data.json_rows import read_json, table_of_value
from m3e.errors import DataError

ROWS = [{"text": "借阅证丢了", "text_pos": "到服务台挂失"}, {"text": "能续借吗", "text_pos": "可以续借一次"}]


def read_text(text, name):
    return read_json(partial(io.StringIO, text, newline=""), name)


def dumps(value, **options):
    return json.dumps(value, ensure_ascii=False, **options)


SAME_ROWS = {
    "lines": "\n".join(map(dumps, ROWS)),
    "lines with CRLF and blank lines": "\r\n\r\n".join(map(dumps, ROWS)) + "\r\n",
    "lines with CR": "\r".join(map(dumps, ROWS)),
    "array on a line": dumps(ROWS),
    "indented array": dumps(ROWS, indent=2),
    "indented objects in a row": "\n".join(dumps(row, indent=1) for row in ROWS),
    "objects on one line": " ".join(map(dumps, ROWS)),
    "array with a row a line": "[\n" + ",\n".join(map(dumps, ROWS)) + "\n]\n",
    "columns": dumps({key: [row[key] for row in ROWS] for key in ROWS[0]}),
    "columns, indented": dumps({key: [row[key] for row in ROWS] for key in ROWS[0]}, indent=1),
    "escaped": "\n".join(map(json.dumps, ROWS)),
}


@pytest.mark.parametrize("text", SAME_ROWS.values(), ids=SAME_ROWS)
def test_every_shape_gives_the_same_rows(text):
    assert list(read_text(text, "a.json").rows) == ROWS


@pytest.mark.parametrize(("value", "key"), [({"version": 1, "data": ROWS}, "data"), ({"a": {"b": ROWS}}, "a.b")])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_wrapped_list_is_found_and_noted(value, key, indent):
    table = read_text(dumps(value, indent=indent), "a.json")
    assert list(table.rows) == ROWS
    assert table.notes == (f"a.json: used the list under {key!r}",)


def test_one_row_with_lists_is_a_row():
    row = {"query": "甲", "pos": ["乙"], "neg": []}
    assert list(read_text(dumps(row), "a.jsonl").rows) == [row]


def test_lines_are_counted_with_blank_ones():
    table = read_text("\n" + dumps(ROWS[0]) + "\n\n" + dumps(ROWS[1]), "a.jsonl")
    assert list(table.lines) == [2, 4]
    assert table.place(1) == "a.jsonl, row 2 (line 4)"


def test_rows_may_differ_in_columns():
    table = read_text('{"a": 1}\n{"b": 2, "a": 3}\n{"a": 4}', "a.jsonl")
    assert table.columns == ("a", "b")
    assert table.shapes == {("a",): 0, ("b", "a"): 1}


def test_nan_is_read():
    (row,) = read_text('{"label": NaN}', "a.jsonl").rows
    assert math.isnan(row["label"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a.jsonl has no rows"),
        (" \n\t\n", "a.jsonl has no rows"),
        ("[]", "a.jsonl has no rows"),
        ('{"data": []}', "a.jsonl has no rows"),
        ('{"a": [], "b": []}', "a.jsonl has no rows"),
        ('{"a": 1}\n{"a": 2}\n{"a": "cu', "line 3: the JSON is cut off"),
        ('{"a": 1}\n{"a": 2}\n{"a":', "line 3: the JSON is cut off"),
        ('{"a": 1}\n{"a": "cu\n{"a": 3}', "line 2: the JSON is cut off"),
        ('{"a": 1, "b":\n{"a": 2}\n{"a": 3}', "line 1: the JSON is cut off"),
        ('{"a": 1}\n{"a": 2},\n{"a": 3}', "line 2: the JSON is broken at column 9: Extra data"),
        ("{'a': 1}\n{'a': 2}", "line 1: the JSON is broken at column 2"),
        ('{"a": 1}\n[1, 2]\n', "line 2: a list where an object"),
        ('{"a": 1}\n"text"\n', "line 2: a string where an object"),
        ('{"a": 1}\n7\n', "line 2: a number where an object"),
        ('{"a": 1}\nnull\n', "line 2: null where an object"),
        ('["a", "b"]\n["c", "d"]', "line 1: a list where an object"),
        ('[{"a": 1}, "b"]', "row 2: a string where an object"),
        ('[\n{"a": 1},\n{"a": 2}\n{"a": 3}\n]', "line 4: the JSON is broken"),
        ('[\n{"a": 1},\n{"a": ', "line 3: the JSON is cut off"),
        ('{"train": [{"a": 1}], "dev": [{"a": 2}]}', "'train', 'dev'"),
        ('{"a": ["x"], "b": ["y", "z"]}', r"columns differ in length \(a: 1, b: 2\)"),
        ('"just text"', "a string, not rows"),
        ("12", "a number, not rows"),
        ("hello\nworld", "line 1: the JSON is broken"),
        ('{"a": ' + "[" * 100_000, "line 1: the JSON is nested too deeply"),
        ('{"a": 1}\n{"a": ' + "9" * 5000 + "}", "line 2: the JSON cannot be read"),
    ],
)
def test_broken_json_is_named_with_its_line(text, words):
    with pytest.raises(DataError, match=words) as caught:
        read_text(text, "a.jsonl")
    assert "a.jsonl" in str(caught.value)


def test_a_value_that_holds_no_rows_is_refused():
    with pytest.raises(DataError, match="data holds bytes, not rows"):
        table_of_value(b"abc", "data")


CELLS = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.text(st.sampled_from('甲𠮷a"\\,\n\r\u2028\x85\ufeff\x1c'), max_size=6),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
    max_leaves=4,
)


@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["a", "b", "\u2028"]), CELLS, max_size=3), min_size=2, max_size=8),
    blanks=st.lists(st.integers(0, 2), min_size=8, max_size=8),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    margin=st.sampled_from(["", " ", "\t"]),
)
def test_lines_are_read_each_time_as_json_reads_each(rows, blanks, end, margin):
    texts = [margin + dumps(row) + margin for row in rows]
    text = "".join(end * blank + line + end for line, blank in zip(texts, blanks, strict=False))
    table = read_text(text, "a.jsonl")
    first, second = list(table.rows), list(table.rows)
    assert first == second == [json.loads(line) for line in texts]
    assert list(table.lines) == [1 + index + sum(blanks[: index + 1]) for index in range(len(rows))]
    assert table.shapes == {shape: [*map(tuple, rows)].index(shape) for shape in map(tuple, rows)}


@pytest.mark.parametrize("bad", ["\u2028", "\x85", "\u3000"])
def test_unicode_spaces_around_an_object_are_no_json(bad):
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: the JSON is broken at column 1"):
        read_text(f'{{"a": 1}}\n{bad}{{"a": 2}}\n{{"a": 3}}', "a.jsonl")
    assert len(list(read_text(f'{{"a": 1}}\n{bad}\n{{"a": 2}}', "a.jsonl").rows)) == 2
