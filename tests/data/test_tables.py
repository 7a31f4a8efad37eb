import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3e.data.tables import LineNumbers, Table, table_of_rows


@given(st.lists(st.integers(1, 3), max_size=40).map(lambda steps: [sum(steps[: end + 1]) for end in range(len(steps))]))
def test_line_numbers_are_the_numbers_that_went_in(numbers):
    lines = LineNumbers(numbers)
    assert list(lines) == numbers
    assert len(lines) == len(numbers)
    assert [lines[index - len(numbers)] for index in range(len(numbers))] == numbers
    assert lines[1:-1] == numbers[1:-1]
    with pytest.raises(IndexError):
        lines[len(numbers)]


def test_rows_on_consecutive_lines_take_no_memory():
    lines = LineNumbers(range(2, 10_002))
    lines.append(10_007)
    assert len(lines._firsts) == 2
    assert lines[9_999:] == [10_001, 10_007]


def test_shapes_and_columns_are_in_order_of_appearance():
    rows = [{"a": 1}, {"b": 2, "a": 3}, {"a": 4}, {5: "c"}]
    table = table_of_rows(rows, "t")
    assert table.columns == ("a", "b", "5")
    assert table.shapes == {("a",): 0, ("b", "a"): 1, ("5",): 3}
    assert Table("t", table.columns, rows).shapes == table.shapes


def test_known_shapes_cost_no_look_at_the_rows():
    def no_look():
        raise AssertionError("the rows were read")
        yield

    assert Table("t", ("a",), no_look(), is_uniform=True).shapes == {("a",): 0}
    assert Table("t", ("a",), no_look(), known_shapes={("a",): 3}).shapes == {("a",): 3}


def test_places():
    table = table_of_rows([{"a": 1}, {"a": 2}], "t.csv", lines=LineNumbers([2, 5]))
    assert [table.place(0), table.place(1)] == ["t.csv, row 1 (line 2)", "t.csv, row 2 (line 5)"]
    assert table_of_rows([{"a": 1}], "t").place(0) == "t, row 1"
