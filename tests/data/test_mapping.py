import sys

import pytest

from m3e.catalogue.cards import RowMapping
from m3e.data import normalise
from m3e.data.conversions import join_words
from m3e.data.mapping import layout_of, map_table, named_columns
from m3e.data.nested import nested_rows, read_nested
from m3e.data.tableqa import Header
from m3e.data.tables import table_of_rows
from m3e.errors import DataError, MissingExtraError
from m3e.records import Kind


def mapped(rows, *, headers=None, class_names=None, **mapping):
    table = map_table(
        table_of_rows(rows, "rows.jsonl"),
        RowMapping.model_validate(mapping),
        headers=headers,
        class_names=class_names,
    )
    assert list(table.rows) == list(table.rows)
    return list(table.rows)


def texts(rows, template, **mapping):
    return [row["text"] for row in mapped(rows, fields=[{"text": template, "text_pos": "b"}], **mapping)]


def test_a_column_stays_as_typed_and_a_format_string_is_stripped():
    rows = [{"a": " 甲 ", "b": "乙"}]
    assert texts(rows, "a") == [" 甲 "]
    assert texts(rows, "{a}") == ["甲"]
    assert texts(rows, "问：{a}，答：{b}") == ["问： 甲 ，答：乙"]


def test_what_is_missing_in_a_format_string_is_empty():
    rows = [{"a": "写诗", "i": ""}, {"a": "翻译", "i": None}, {"a": "总结"}, {"a": "数", "i": 3}, {"i": float("nan")}]
    assert texts(rows, "{a} {i}") == ["写诗", "翻译", "总结", "数 3", ""]


def test_braces_in_the_data_are_text():
    rows = [{"a": "{i} {0} {{x}}", "i": "{a!r}"}]
    assert texts(rows, "{a}{i}") == ["{i} {0} {{x}}{a!r}"]
    assert texts(rows, "{{{a}}}") == ["{{i} {0} {{x}}}"]


def test_items_of_lists_and_objects_in_a_format_string():
    rows = [{"q": ["Represent:", "x"], "d": {"k": ["y"]}}, {"q": ["Only:"], "d": {}}, {"q": "text"}]
    assert texts(rows, "{q[0]} {q[1]}") == ["Represent: x", "Only:", ""]
    assert texts(rows, "{d[k][0]}") == ["y", "", ""]


def test_a_list_in_a_format_string_drops_the_row_and_names_it():
    table = map_table(
        table_of_rows([{"a": "甲"}, {"a": ["乙"]}, {"a": "丙"}], "rows.jsonl"),
        RowMapping.model_validate({"fields": [{"text": "{a}", "text_pos": "a"}]}),
    )
    assert [row["text"] for row in table.rows] == ["甲", "丙"]
    assert table.rows.dropped == {"not_text": 1}
    assert table.rows.drops == ["rows.jsonl, row 2: a is not text, but a list"]
    assert table.place(1) == "rows.jsonl, row 3"


def test_where_compares_as_text():
    rows = [{"a": str(i), "b": "", "l": label} for i, label in enumerate([1, "1", 1.0, 0, "01", True, None, 2])]
    assert texts(rows, "a", where={"l": [1]}) == ["0", "1", "2"]
    assert texts(rows, "a", where={"l": ["1", "2"]}) == ["0", "1", "2", "7"]
    assert texts(rows, "a", where={"l": ["true"]}) == ["5"]
    assert texts(rows, "a", where={"l": [1], "a": ["2", "5"]}) == ["2"]


def test_where_knows_the_names_of_classes():
    names = {"l": ("neutral", "entailment", "contradiction")}
    rows = [{"a": "n", "b": "", "l": 0}, {"a": "e", "b": "", "l": 1}, {"a": "E", "b": "", "l": "entailment"}]
    for wanted in (1, "1", "entailment"):
        assert texts(rows, "a", where={"l": [wanted]}, class_names=names) == ["e", "E"]
    digits = {"l": ("1", "0")}
    assert texts(rows, "a", where={"l": ["1"]}, class_names=digits) == ["n"]


def test_several_fields_give_several_records():
    fields = [{"text": "t", "text_pos": "s"}, {"text": "t", "text_pos": "x"}]
    assert mapped([{"t": "题", "s": "要", "x": "文"}], fields=fields) == [
        {"text": "题", "text_pos": "要"},
        {"text": "题", "text_pos": "文"},
    ]


def test_a_list_is_exploded():
    rows = [{"q": "一", "l": ["a", "b"]}, {"q": "二", "l": []}, {"q": "三", "l": "c"}, {"q": "四"}]
    found = mapped(rows, fields=[{"text": "q", "text_pos": "l", "explode": "l"}])
    assert [tuple(row.values()) for row in found] == [("一", "a"), ("一", "b"), ("二", None), ("三", "c"), ("四", None)]


def test_places_are_those_of_raw_rows():
    rows = [{"q": "一", "l": ["a", "b"], "k": 1}, {"q": "二", "l": ["c"], "k": 0}, {"q": "三", "l": ["d"], "k": 1}]
    mapping = {"where": {"k": [1]}, "fields": [{"text": "q", "text_pos": "l", "explode": "l"}]}
    table = map_table(table_of_rows(rows, "f", lines=[1, 5, 9]), RowMapping.model_validate(mapping))
    assert len(list(table.rows)) == 3
    assert [table.place(index) for index in range(3)] == ["f, row 1 (line 1)", "f, row 1 (line 1)", "f, row 3 (line 9)"]
    assert (table.rows.kept, dict(table.rows.dropped)) == (2, {"where": 1})


def test_without_fields_rows_keep_their_columns():
    assert mapped([{"a": "漢", "k": "1"}, {"a": "字", "k": "2"}], where={"k": [2]}, convert={"a": "simplified"}) == [
        {"a": "字", "k": "2"}
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("他 出生 于 1949 年 。", "他出生于1949年。"),
        ("Windows 10 系统 的 iPhone 7 版", "Windows 10系统的iPhone 7版"),
        (["New", "York", "，", "纽约"], "New York，纽约"),
        ("Ａ Ｂ é a", "ＡＢéa"),
        ("  一   个 ", "一个"),
        ("", ""),
        ([], ""),
    ],
)
def test_words_are_joined(words, text):
    assert join_words(words) == text
    assert mapped([{"w": words}], convert={"w": "words"}) == [{"w": text}]


def test_conversions_leave_alone_what_they_do_not_know():
    rows = [
        {"w": None, "s": 3, "t": None},
        {"w": [1], "s": ["氣", 2], "t": [1, "a", True]},
        {"w": "a", "s": "a", "t": 1.5},
    ]
    assert mapped(rows, convert={"w": "words", "s": "simplified", "t": "text"}) == [
        {"w": None, "s": 3, "t": None},
        {"w": [1], "s": ["气", 2], "t": ["1", "a", "True"]},
        {"w": "a", "s": "a", "t": "1.5"},
    ]


def test_an_exploded_column_is_converted_item_by_item():
    fields = [{"text": "q", "text_pos": "l", "explode": "l"}]
    found = mapped([{"q": "問", "l": ["你 好", "再 见"]}], fields=fields, convert={"l": "words", "q": "simplified"})
    assert [tuple(row.values()) for row in found] == [("问", "你好"), ("问", "再见")]


def test_a_missing_opencc_is_named_before_rows_are_read(monkeypatch):
    normalise._simplifier.cache_clear()
    monkeypatch.setitem(sys.modules, "opencc", None)
    with pytest.raises(MissingExtraError, match=r"opencc.*m3e\[data\]"):
        map_table(table_of_rows([{"a": "x"}], "f"), RowMapping(convert={"a": "simplified"}))


def test_sql_of_a_row_and_rows_whose_sql_is_broken():
    sql = {"agg": [0], "sel": [0], "cond_conn_op": 0, "conds": []}
    rows = [
        {"q": "一", "table_id": "t", "sql": sql},
        {"q": "二", "table_id": "u", "sql": sql},
        {"q": "三", "table_id": "t", "sql": {**sql, "sel": [9]}},
        {"q": "四", "table_id": "t", "sql": None},
    ]
    mapping = RowMapping(convert={"sql": "tableqa_sql"})
    table = map_table(table_of_rows(rows, "f"), mapping, headers={"t": Header(("价",))})
    assert [(row["q"], row["sql"]) for row in table.rows] == [("一", "SELECT 价 FROM 表"), ("四", None)]
    assert table.rows.drops == ["f, row 2: there is no table 'u' among 1", "f, row 3: there is no column 9 among 1"]
    assert named_columns(mapping) == ("sql", "table_id")


def test_the_columns_that_a_mapping_names():
    mapping = RowMapping.model_validate(
        {
            "where": {"w": [1]},
            "convert": {"c": "text"},
            "fields": [{"text": "{a} {b[0]}", "text_pos": "p", "explode": "e"}, {"text": "a", "text_pos": "x[0]"}],
        }
    )
    assert named_columns(mapping) == ("w", "c", "e", "a", "b", "p", "x[0]")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"text": "a", "text_pos": "b"}, Kind.PAIR),
        ({"text": "a", "text_pos": "b", "text_neg": "c"}, Kind.TRIPLET),
        ({"sentence1": "a", "sentence2": "b", "label": "l"}, Kind.SCORED_PAIR),
        ({"query": "a", "pos": "b"}, Kind.RANKED),
    ],
)
def test_fields_say_which_kind_of_record(fields, kind):
    layout = layout_of(RowMapping.model_validate({"fields": [fields]}), "set")
    assert layout is not None
    assert layout.kind is kind
    assert sorted(columns for columns in layout.parts.values()) == sorted((name,) for name in fields)


def test_fields_of_no_kind_or_of_two_are_refused():
    assert layout_of(RowMapping(), "set") is None
    pair = {"text": "a", "text_pos": "b"}
    for fields in ([{"text": "a"}], [pair, {**pair, "text_neg": "c"}]):
        with pytest.raises(DataError, match=r"set: mapping\.fields gives text.*not one kind"):
            layout_of(RowMapping.model_validate({"fields": fields}), "set")


def test_rows_deep_in_a_document_have_the_values_around_them():
    document = {
        "version": 1,
        "data": [
            {
                "title": "甲",
                "paragraphs": [{"context": "文", "id": "p", "qas": [{"id": "q", "question": "问", "answers": [1]}]}],
            },
            {"title": "乙", "paragraphs": []},
            {"title": "丙"},
        ],
    }
    expected = {"version": 1, "title": "甲", "context": "文", "id": "q", "question": "问", "answers": [1]}
    assert list(nested_rows([document], "data[].paragraphs[].qas[]")) == [expected]
    assert [row["title"] for row in nested_rows([document], "data[]")] == ["甲", "乙", "丙"]
    assert list(nested_rows([{"a": {"b": {"c": 1}}, "k": 2}], "a.b")) == [{"k": 2, "c": 1}]


def test_nested_rows_of_documents_in_lines_and_of_broken_ones(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(
        '{"t": "甲", "qas": [{"q": "一"}, {"q": "二"}]}\n{"t": "乙", "qas": [{"q": "三"}]}\n', encoding="utf-8"
    )
    assert [(row["t"], row["q"]) for row in read_nested(path, "n", "qas[]").rows] == [
        ("甲", "一"),
        ("甲", "二"),
        ("乙", "三"),
    ]
    path.write_text('[{"t": "甲", "qas": [{"q": "一"}]}]', encoding="gb18030")
    assert [(row["t"], row["q"]) for row in read_nested(path, "n", "qas[]").rows] == [("甲", "一")]
    with pytest.raises(DataError, match=r"n: no rows lie at other\[\]; at the top are: t, qas"):
        read_nested(path, "n", "other[]")
    path.write_text('{"data": [\n{"q": ')
    with pytest.raises(DataError, match="n, line 2: the JSON is broken or cut off"):
        read_nested(path, "n", "data[]")


def test_names_of_classes_become_numbers_and_other_rows_lack_a_label() -> None:
    fields = {"sentence1": "a", "sentence2": "b", "label": "c"}
    mapping = RowMapping.model_validate({"labels": {"entailment": 2, "0": 1.5}, "fields": [fields]})
    rows = [{"a": "一", "b": "二", "c": value} for value in ("entailment", 0, "neutral")]
    mapped = list(map_table(table_of_rows(rows, "nli"), mapping).rows)
    assert [row["label"] for row in mapped] == [2.0, 1.5, None]
