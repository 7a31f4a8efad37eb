import csv
import io
import tracemalloc
from functools import partial
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3e.data.delimited import _QuotedLines, _QuoteError, read_delimited
from m3e.errors import DataError


def read(text, name="q.csv", delimiter=","):
    return read_delimited(partial(io.StringIO, text, newline=""), name, delimiter)


def cells(text, delimiter=","):
    table = read(text, delimiter=delimiter)
    return [tuple(row.values()) for row in table.rows]


def test_cells_stay_as_typed():
    text = "a,b\nNA,007\n1e5,null\nNone, 3 \nTrue,0.10\n"
    assert cells(text) == [("NA", "007"), ("1e5", "null"), ("None", " 3 "), ("True", "0.10")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_leave_no_trace(end, last):
    text = end.join(["a,b", "甲,乙", '"丙,x",丁']) + (end if last else "")
    assert cells(text) == [("甲", "乙"), ("丙,x", "丁")]


def test_quoted_cells_follow_rfc_4180():
    text = 'a,b\r\n"one, two","say ""hi"""\r\n"line 1\r\nline 2",x\r\n"",y\r\n'
    assert cells(text) == [("one, two", 'say "hi"'), ("line 1\r\nline 2", "x"), ("", "y")]


def test_rows_know_their_lines_and_joined_lines_are_noted():
    table = read('a,b\n\n"1\n2\n3",x\ny,z\n\n')
    assert list(table.lines) == [3, 6]
    assert table.notes == ("q.csv: 1 row holds line breaks inside quotes (first: lines 3 to 5)",)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('5"屏手机,大', ('5"屏手机', "大")),
        ('"618"大促,六月', ('"618"大促', "六月")),
        ('他说"好",嗯', ('他说"好"', "嗯")),
        ('六月,"618"大促', ("六月", '"618"大促')),
    ],
)
def test_quotes_that_are_text_stay(line, expected):
    assert cells(f"a,b\n{line}\nx,y\n") == [expected, ("x", "y")]


@pytest.mark.parametrize(
    "text",
    [
        'a,b\n一,二\n"三,四\n五,六\n',
        'a,b\n一,二\n"三,四\n"五,甲",六\n',
        'a,b\n一,二\n"三,四\n七,"五,甲"\n',
        'a,b\n一,二\n"三, 三"又,四\n',
        'a,b\n一,二\n四,"三\n',
    ],
)
def test_a_csv_quote_that_does_not_close_names_the_line_of_its_opening(text):
    with pytest.raises(DataError, match=r"q\.csv, line 3: a quotation mark opens"):
        cells(text)


def test_in_tsv_a_lone_quote_is_text():
    text = 'a\tb\n一\t二\n"三月"新品\t四\n"五寸屏\t六\n七\t八\n'
    table = read(text, "q.tsv", "\t")
    assert [tuple(row.values()) for row in table.rows] == [
        ("一", "二"),
        ('"三月"新品', "四"),
        ('"五寸屏', "六"),
        ("七", "八"),
    ]
    assert table.notes == ("q.tsv: quotation marks are kept as typed",)


def test_in_tsv_two_lone_quotes_do_not_join_the_rows_between_them():
    text = 'a\tb\n一\t"二\n三\t四\n五\t六"\n'
    assert cells(text, "\t") == [("一", '"二'), ("三", "四"), ("五", '六"')]


def test_in_tsv_quotes_that_swallow_a_tab_are_text():
    assert cells('a\tb\n"一\t二"\n三\t四\n', "\t") == [('"一', '二"'), ("三", "四")]


def test_in_tsv_sound_quoting_is_honoured():
    text = 'a\tb\n"一\n行"\t"说""好"""\n"x\ty"\t三\n'
    assert cells(text, "\t") == [("一\n行", '说"好"'), ("x\ty", "三")]


@pytest.mark.parametrize(
    ("line", "found"), [("a, b,c", 3), ("only one", 1), ("a,b,", 3), ('"a","b","c"', 3), ('"a,b"', 1)]
)
def test_rows_of_another_width_are_named(line, found):
    with pytest.raises(DataError, match=rf"q\.csv, line 3: {found} cells where the header has 2"):
        cells(f"a,b\n1,2\n{line}\n3,4\n")


@pytest.mark.parametrize(("other", "word"), [(";", "semicolons"), ("\t", "tabs")])
def test_another_delimiter_in_the_header_is_taken_and_noted(other, word):
    table = read(f"a{other}b\n一,二{other}三\n")
    assert list(table.rows) == [{"a": "一,二", "b": "三"}]
    assert table.notes == (f"q.csv: cells are parted by {word}",)


def test_column_names_are_stripped_and_unnamed_columns_left_out():
    table = read(" text , text_pos ,\n一,二,\n")
    assert table.columns == ("text", "text_pos")
    assert list(table.rows) == [{"text": "一", "text_pos": "二"}]


def test_a_column_twice_is_refused():
    with pytest.raises(DataError, match=r"q\.csv, line 1: the column 'a' is there twice"):
        cells("a,b,a\n1,2,3\n")


@pytest.mark.parametrize("text", ["", "\n \n\n", "a,b", "a,b\r\n\r\n"])
def test_no_rows(text):
    with pytest.raises(DataError, match=r"q\.csv has no rows"):
        cells(text)


def test_cells_longer_than_csv_allows():
    long = "长" * 200_000
    assert cells(f'a,b\n"{long}\n",x\n') == [(f"{long}\n", "x")]


def test_separators_of_unicode_are_no_line_ends():
    odd = "一\u2028二\x85三\x0b四\x1c五"
    assert cells(f"a,b\n{odd},x\n") == [(odd, "x")]


WILD_CELLS = st.lists(
    st.lists(st.text(st.sampled_from('甲a" ,;\t\n\r\u2028\x85\ufeff\x0b'), max_size=6), min_size=2, max_size=2).map(
        tuple
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("delimiter", [",", "\t"])
@given(rows=WILD_CELLS, end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_what_the_csv_module_writes_is_read_each_time_the_same(rows, delimiter, end):
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator=end).writerows([("a", "b"), *rows])
    table = read(buffer.getvalue(), delimiter=delimiter)
    if table.notes == ("q.csv: quotation marks are kept as typed",):
        return  # a TSV where every line is a row by itself: tests above
    first, second = ([tuple(row.values()) for row in table.rows] for _ in range(2))
    assert first == second == rows
    breaks = [sum(len(io.StringIO(cell + ".", newline="").readlines()) - 1 for cell in cells) for cells in rows]
    assert list(table.lines) == [2 + index + sum(breaks[:index]) for index in range(len(rows))]


@given(text=st.text(st.sampled_from('甲a",\n'), max_size=30), delimiter=st.sampled_from([",", "\t"]))
def test_single_lines_are_parsed_as_the_whole_parser_does(text, delimiter):
    """The csv module serves lines that are rows by themselves: it must not see them otherwise than ours."""

    def records(reader):
        try:
            return list(reader)
        except _QuoteError as error:
            return error.line, error.reason

    lines = io.StringIO(text.replace(",", delimiter), newline="").readlines()
    found = records(_QuotedLines(lines, delimiter, True).records())
    with mock.patch("m3e.data.delimited.csv.reader", side_effect=csv.Error):
        assert records(_QuotedLines(lines, delimiter, True).records()) == found


def test_a_quote_that_never_closes_holds_no_text_in_memory():
    def lines():
        yield 'a,"b\n'
        for _ in range(50):
            yield "x" * 1_000_000 + "\n"

    tracemalloc.start()
    with pytest.raises(_QuoteError, match="never closes"):
        list(_QuotedLines(lines(), ",", with_text=False).records())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
