import pytest

from m3e.data.tableqa import Header, read_headers, sql_text

CITIES = Header(("城市", "人口", "面积"))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"agg": [0], "sel": [0], "cond_conn_op": 0, "conds": []}, "SELECT 城市 FROM 表"),
        (
            {"agg": [1], "sel": [1], "cond_conn_op": 0, "conds": [[2, 0, "100"]]},
            "SELECT AVG(人口) FROM 表 WHERE 面积 > 100",
        ),
        (
            {"agg": [0, 5], "sel": [0, 1], "cond_conn_op": 1, "conds": [[1, 1, "-3.5"], [0, 3, "O'市"]]},
            "SELECT 城市, SUM(人口) FROM 表 WHERE 人口 < -3.5 AND 城市 != 'O''市'",
        ),
        (
            {"agg": [4], "sel": [0], "cond_conn_op": 2, "conds": [[0, 2, "上海"], [0, 2, "北京"]]},
            "SELECT COUNT(城市) FROM 表 WHERE 城市 == '上海' OR 城市 == '北京'",
        ),
    ],
)
def test_the_text_of_a_query(query, expected):
    assert sql_text(query, CITIES) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sel": [3]}, "no column 3"),
        ({"sel": [-1]}, "no column -1"),
        ({"agg": [6]}, "no aggregate 6"),
        ({"agg": [0, 0]}, "zip"),
        ({"agg": [], "sel": []}, "selects nothing"),
        ({"conds": [[0, 4, "x"]]}, "no operator 4"),
        ({"conds": [[0, 2, "x"], [1, 2, "y"]]}, "2 conditions and nothing between"),
        ({"cond_conn_op": 3}, "no connector 3"),
        ({"conds": None}, "no TableQA query"),
    ],
)
def test_numbers_that_stand_for_nothing(change, message):
    query = {"agg": [0], "sel": [0], "cond_conn_op": 0, "conds": [], **change}
    with pytest.raises(ValueError, match=message):
        sql_text(query, CITIES)


def test_headers_of_tables():
    rows = [
        {"id": "a", "header": ["甲", "乙"], "title": "表1：价格 ", "rows": [["1", "2"]]},
        {"id": 7, "header": ["丙"]},
    ]
    headers = read_headers(rows)
    assert headers == {"a": Header(("甲", "乙"), "表1：价格"), "7": Header(("丙",), "表")}
    assert (
        sql_text({"agg": [2], "sel": [1], "cond_conn_op": 0, "conds": []}, headers["a"])
        == "SELECT MAX(乙) FROM 表1：价格"
    )
    with pytest.raises(ValueError, match="needs an id and a header"):
        read_headers([{"id": "a"}])
