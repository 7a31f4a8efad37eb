"""The public reading: users' failure cases rebuilt with other texts, and malformed inputs."""

import json

import pytest

from m3e.data.reading import read_records
from m3e.errors import DataError
from m3e.records import Kind, Pair, Ranked, ScoredPair

PAIRS = [
    ("阅览室的座位怎么预约", "在小程序里选座位 提前一天开放"),
    ("借的书弄丢了怎么赔", "按原价赔偿或者买一本同版本的书"),
    ("𠮷林特产馆在几楼", "特产馆在负一楼扶梯旁边"),
    ("自习室晚上几点清场", "自习室晚上十点清场"),
    ("杯子,可以带进去吗", "带盖的杯子可以带进阅览室"),
    ("打印一页多少钱", "黑白一毛 彩色五毛"),
    ("寄存柜忘了取怎么办", "当天未取的物品送到失物招领处"),
    ("外地人能办借书证吗", "凭身份证即可办理 不限户籍"),
    ("儿童馆需要家长陪同吗", "十二岁以下须有家长陪同"),
    ("讲座怎么报名", "关注公众号后在活动栏目报名"),
]
RECORDS = [Pair(*pair) for pair in PAIRS]


def csv_text(end="\r\n"):
    return end.join(["text,text_pos", *(f'"{text}",{positive}' for text, positive in PAIRS)]) + end


def dict_rows():
    return [{"text": text, "text_pos": positive} for text, positive in PAIRS]


def dumps(value, **options):
    return json.dumps(value, ensure_ascii=False, **options)


def write(tmp_path, name, content, encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def test_case_01_a_gb18030_table_of_excel(tmp_path):
    found = read_records(write(tmp_path, "q.csv", csv_text(), "gb18030"))
    assert found.kind is Kind.PAIR
    assert found.rows == 10
    assert found.records == RECORDS
    assert found.notes == ["q.csv: read as GB18030"]
    assert not found.dropped


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_give_the_same_records(tmp_path, encoding, end):
    assert read_records(write(tmp_path, "q.csv", csv_text(end), encoding)).records == RECORDS


def test_case_03_lone_quotes_in_a_tsv(tmp_path):
    pairs = [*PAIRS]
    pairs[3] = ('"夜读"活动几点开始', pairs[3][1])
    pairs[6] = ('"大字版的书在哪里', pairs[6][1])
    text = "\n".join("\t".join(pair) for pair in [("text", "text_pos"), *pairs])
    found = read_records(write(tmp_path, "q.tsv", text))
    assert found.records == [Pair(*pair) for pair in pairs]


def test_case_05_holes(tmp_path):
    labels = ["1.0", "NaN", "0.5", "null", None, "0.25", "1", "0"]
    lines = [
        f'{{"sentence1": "{text}", "sentence2": "{positive}"' + (f', "label": {label}}}' if label else "}")
        for (text, positive), label in zip(PAIRS, labels, strict=False)
    ]
    lines.append(dumps({"sentence1": "有字", "sentence2": "", "label": 1}))
    lines.append(dumps({"sentence1": "\u200b\u3000", "sentence2": "有字", "label": 1}))
    found = read_records(write(tmp_path, "h.jsonl", "\n".join(lines)))
    assert found.kind is Kind.SCORED_PAIR
    assert [record.label for record in found.records] == [1.0, 0.5, 0.25, 1.0, 0.0]
    assert found.dropped == {"missing_label": 3, "empty_text": 2}
    assert found.drops == [
        "h.jsonl, row 2 (line 2): label is missing",
        "h.jsonl, row 4 (line 4): label is missing",
        "h.jsonl, row 5 (line 5): label is missing",
        "h.jsonl, row 9 (line 9): sentence2 is empty",
        "h.jsonl, row 10 (line 10): sentence1 is empty",
    ]


def test_case_05_empty_lists_of_negatives(tmp_path):
    rows = [
        {"query": text, "pos": [positive], "neg": [PAIRS[index - 1][1]] if index % 3 else []}
        for index, (text, positive) in enumerate(PAIRS)
    ]
    rows[4]["pos"].append("也可以带保温壶")
    found = read_records(write(tmp_path, "n.jsonl", "\n".join(map(dumps, rows))))
    assert found.kind is Kind.RANKED
    assert found.rows == 10
    assert found.records[0] == Ranked(PAIRS[0][0], (PAIRS[0][1],))
    assert found.records[4].pos == (PAIRS[4][1], "也可以带保温壶")
    assert not found.dropped


@pytest.mark.parametrize(
    ("labels", "label_range", "note"),
    [
        ([5, 4, 3, 0], (0.0, 5.0), "labels from 0 to 5"),
        ([1.0, 0.8, 0.6, 0], (0.0, 1.0), "labels from 0 to 1"),
        (["5.0", "４", " 3 ", "０"], (0.0, 5.0), "labels from 0 to 5"),
    ],
)
@pytest.mark.parametrize("extension", ["jsonl", "csv"])
def test_case_07_labels(tmp_path, labels, label_range, note, extension):
    rows = [(*pair, label) for pair, label in zip(PAIRS, labels, strict=False)]
    names = ("sentence1", "sentence2", "label")
    if extension == "csv":
        text = "\n".join(",".join(f'"{cell}"' for cell in row) for row in (names, *rows))
    else:
        text = "\n".join(dumps(dict(zip(names, row, strict=True))) for row in rows)
    found = read_records(write(tmp_path, f"s.{extension}", text))
    assert found.kind is Kind.SCORED_PAIR
    assert found.rows == 4
    assert found.label_range == label_range
    assert found.notes == [note]


@pytest.mark.parametrize(
    ("name", "text", "notes"),
    [
        ("a.json", dumps(dict_rows(), indent=2), []),
        ("a.json", dumps({"version": "1.0", "data": dict_rows()}, indent=1), ["a.json: used the list under 'data'"]),
        ("a.jsonl", dumps(dict_rows()), []),
        ("a.json", "\n".join(map(dumps, dict_rows())), []),
    ],
)
def test_case_09_shapes_of_json(tmp_path, name, text, notes):
    found = read_records(write(tmp_path, name, text))
    assert found.records == RECORDS
    assert found.notes == notes


def test_case_09_a_cut_line_and_two_lists(tmp_path):
    cut = "\n".join(map(dumps, dict_rows()))[:-9]
    with pytest.raises(DataError, match=r"cut\.jsonl, line 10\b"):
        read_records(write(tmp_path, "cut.jsonl", cut))
    two = dumps({"train": dict_rows()[:5], "dev": dict_rows()[5:]})
    with pytest.raises(DataError, match=r"two\.json .*'train', 'dev'.*--val"):
        read_records(write(tmp_path, "two.json", two))


def test_case_13_no_rows_and_one(tmp_path):
    with pytest.raises(DataError, match=r"e\.jsonl has no rows"):
        read_records(write(tmp_path, "e.jsonl", ""))
    with pytest.raises(DataError, match=r"e\.csv has no rows"):
        read_records(write(tmp_path, "e.csv", "text,text_pos\r\n"))
    assert read_records(write(tmp_path, "o.jsonl", dumps(dict_rows()[0]))).records == RECORDS[:1]


def test_columns_by_choice(tmp_path):
    path = write(tmp_path, "c.csv", "编号,用户说,客服说\n1,几点开门,九点\n")
    found = read_records(path, columns={"text": "用户说", "text_pos": "客服说"})
    assert found.records == [Pair("几点开门", "九点")]
    assert found.mapping == {"text": "用户说", "text_pos": "客服说"}
    assert found.notes == ["columns: text <- 用户说, text_pos <- 客服说", "columns not used: 编号"]
    scored = read_records(path, columns={"sentence1": "用户说", "sentence2": "客服说", "label": "编号"})
    assert scored.records == [ScoredPair("几点开门", "九点", 1.0)]


def test_nothing_left_names_the_counts(tmp_path):
    path = write(tmp_path, "n.csv", "sentence1,sentence2,label\n甲,,1\n甲,乙,\n甲,,\n")
    with pytest.raises(
        DataError, match=r"n\.csv has no usable rows: all 3 were dropped \(2 empty_text, 1 missing_label\)"
    ):
        read_records(path)


NL = "\n"
MALFORMED = [
    # name, content, what the message says
    ("a.csv", "", ["a.csv", "no rows"]),
    ("a.csv", "\ufeff", ["a.csv", "no rows"]),
    ("a.csv", " \r\n\r\n", ["a.csv", "no rows"]),
    ("a.tsv", "text\ttext_pos", ["a.tsv", "no rows"]),
    ("a.csv", 'text,text_pos\n甲,乙\n"丙,丁\n戊,己\n', ["a.csv, line 3", "quotation mark"]),
    ("a.csv", 'text,text_pos\n甲,"乙\n丙"丁,戊\n', ["a.csv, line 2", "quotation mark"]),
    ("a.csv", "text,text_pos\n甲,乙\n丙,丁,戊\n", ["a.csv, line 3", "3 cells", "header has 2"]),
    ("a.csv", "text,text_pos\n甲\n", ["a.csv, line 2", "1 cells", "header has 2"]),
    ("a.tsv", "text\ttext_pos\n甲\t乙\t丙\n", ["a.tsv, line 2", "3 cells"]),
    ("a.tsv", 'text\ttext_pos\n"甲\n乙\t丙\n', ["a.tsv, line 2", "1 cells"]),
    ("a.csv", "text,text\n甲,乙\n", ["a.csv, line 1", "'text' is there twice"]),
    ("a.csv", "几点开门,九点\n几点关门,六点\n", ["a.csv", "columns found: 几点开门, 九点", "--column"]),
    ("a.csv", "问题,答案,回复\n甲,乙,丙\n", ["a.csv", "'答案' and '回复'", "--column text_pos"]),
    ("a.csv", "text\n甲\n", ["a.csv", "positive", "text + text_pos"]),
    ("a.csv", "sentence1,sentence2,label\n甲,乙,entailment\n", ["a.csv", "labels must be numbers", "entailment"]),
    ("a.csv", "text,text_pos\n,\n　,乙\n", ["a.csv", "2 empty_text", "row 1 (line 2)"]),
    ("a.csv", "text,text_pos\n甲,乙\n".encode("utf-16-le"), ["a.csv", "UTF-16", "UTF-8"]),
    ("a.csv", b"PK\x03\x04\x14\x00\x06\x00", ["a.csv", "Excel", "CSV UTF-8"]),
    ("a.csv", b"text,text_pos\n\xe7\x94\xb2,b\nc,\xe4\xb9\n\xe4\xb8\x99,e\n", ["a.csv, line 3", "UTF-8"]),
    ("a.csv", b"text,text_pos\na,b\nc\x00,d\n", ["a.csv, line 3", "NUL"]),
    ("a.csv", "text,text_pos\n圖書館幾點開門,九點\n".encode("big5"), ["a.csv, line 2", "UTF-8"]),
    ("a.jsonl", "", ["a.jsonl", "no rows"]),
    ("a.jsonl", '{"text": "甲", "text_pos": "乙"}\n{"text": "丙"', ["a.jsonl, line 2", "cut off"]),
    ("a.jsonl", '{"text": "甲", "text_pos": "乙"}\n["丙", "丁"]', ["a.jsonl, line 2", "a list"]),
    ("a.jsonl", '{"text": "甲", "text_pos": "乙"}\n{"text": "丙",, }', ["a.jsonl, line 2", "column 14"]),
    (
        "a.jsonl",
        '{"text": "甲", "text_pos": "乙"}\n{"text": "a", "text_pos": "b", "text_neg": "c"}',
        ["row 2", "triplet"],
    ),
    (
        "a.jsonl",
        '{"text": "甲", "text_pos": "乙"}\n\n{"sentence1": "a", "sentence2": "b"}',
        ["row 2 (line 3)", "sentence1"],
    ),
    ("a.jsonl", '{"text": "\\ud83d", "text_pos": "乙"}', ["a.jsonl", "1 not_text", "row 1"]),
    ("a.jsonl", '{"text": 12, "text_pos": "乙"}', ["a.jsonl", "1 not_text"]),
    ("a.jsonl", '{"query": "甲", "pos": ["乙"], "pos_scores": [1, 2]}', ["a.jsonl, row 1", "pos_scores", "2", "1"]),
    ("a.json", "{}", ["a.json", "columns found: none"]),
    ("a.json", "[]", ["a.json", "no rows"]),
    ("a.json", '[{"text": "甲"', ["a.json, line 1", "cut off"]),
    ("a.json", '{"train": [{"a": 1}], "dev": [{"a": 1}]}', ["a.json", "'train'", "'dev'"]),
    ("a.json", '{"text": ["甲"], "text_pos": []}', ["a.json", "text: 1, text_pos: 0"]),
    ("a.json", "3", ["a.json", "a number"]),
    ("a.json", "not json", ["a.json, line 1"]),
    ("a.parquet", b"PAR1 cut", ["a.parquet", "parquet"]),
    ("a.parquet", b"text,text_pos\n", ["a.parquet", "parquet"]),
    ("a.xlsx", b"PK\x03\x04", ["a.xlsx", "CSV UTF-8", ".jsonl"]),
    ("a.txt", "text,text_pos\n", ["a.txt", ".csv"]),
    ("a.csv.gz", b"text,text_pos\n", ["a.csv.gz"]),
]


@pytest.mark.parametrize(("name", "content", "words"), MALFORMED)
def test_malformed_files_are_refused_in_one_line(tmp_path, name, content, words):
    with pytest.raises(DataError) as caught:
        read_records(write(tmp_path, name, content))
    message = str(caught.value)
    assert [word for word in words if word not in message] == []
    assert NL not in message
