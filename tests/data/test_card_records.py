import functools
import gzip
import hashlib
import http.server
import io
import json
import socket
import tarfile
import threading
import zipfile

import datasets
import pytest

from m3e.catalogue.cards import parse_card
from m3e.data import hub
from m3e.data.card_records import open_card, open_rows
from m3e.data.streams import Account
from m3e.errors import DataError
from m3e.records import Kind, Pair, Ranked, ScoredPair, Triplet

QUESTION_ANSWER = {"fields": [{"text": "question", "text_pos": "answer"}]}


def card_of(*sources, name="测试集", **values):
    sources = [{"path": source} if isinstance(source, str) else source for source in sources]
    facts = {
        "name": name,
        "title": name,
        "description": "a set",
        "kind": "pair",
        "category": "s2p",
        "languages": ["zh"],
        "domain": "百科",
        "licence": {"stated": "MIT", "commercial": "yes", "reason": "MIT", "source": "here"},
        "sources": sources,
    }
    return parse_card({**facts, **values}, "test.toml")


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


@pytest.fixture
def read(tmp_path, raw):
    """The records of a card, and what reading them came to; nothing may stay of what archives held."""

    def read_card(card, raw=raw):
        account = Account()
        cache = tmp_path / "cache"
        try:
            found = list(open_card(card, raw=raw, cache=cache, account=account))
        finally:
            assert not list(cache.glob("scratch-*"))
        assert {kind for kind, _ in found} <= set(Kind)
        assert account.rows == len(found)
        return [record for _, record in found], account

    return read_card


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def zip_of(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)


def tar_of(path, members):
    with tarfile.open(path, "w:gz") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


# the layouts of the sets that are read from their raw files


def test_lawzhidao(read, raw):
    text = "title,question,reply,is_best\n买房合同,,可以起诉,1\n离婚,怎么分财产？,不知道,0\n"
    text += '借钱,不还怎么办,"先协商,再起诉",1\n'
    (raw / "lawzhidao_filter.csv").write_text("\ufeff" + text, encoding="utf-8")
    mapping = {"where": {"is_best": [1]}, "fields": [{"text": "{title} {question}", "text_pos": "reply"}]}
    records, account = read(card_of("lawzhidao_filter.csv", mapping=mapping))
    assert records == [Pair("买房合同", "可以起诉"), Pair("借钱 不还怎么办", "先协商,再起诉")]
    assert account.dropped == {"where": 1}
    assert account.mapping == {}
    assert "columns: text <- {title} {question}, text_pos <- reply" in account.notes


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_cinlid_tsv_without_a_header(read, raw, ending, encoding):
    rows = ["画蛇添足\t多此一举\tentailment", "守株待兔\t勤劳致富\tcontradiction", '胸有成竹\t"十拿九稳"\tentailment']
    (raw / "cinlid.txt").write_bytes((ending.join(rows) + ending).encode(encoding))
    source = {"path": "cinlid.txt", "format": "tsv", "columns": ["sentence1", "sentence2", "label"]}
    mapping = {"where": {"label": ["entailment"]}, "fields": [{"text": "sentence1", "text_pos": "sentence2"}]}
    records, account = read(card_of(source, mapping=mapping))
    assert records == [Pair("画蛇添足", "多此一举"), Pair("胸有成竹", "十拿九稳")]
    assert account.dropped == {"where": 1}


def test_cinlid_tsv_with_a_header(read, raw):
    (raw / "cinlid.tsv").write_text("0\tsentence1\tsentence2\tlabel\n1\t画蛇添足\t多此一举\t1\n", encoding="utf-8")
    mapping = {"where": {"label": [1]}, "fields": [{"text": "sentence1", "text_pos": "sentence2"}]}
    assert read(card_of("cinlid.tsv", mapping=mapping))[0] == [Pair("画蛇添足", "多此一举")]


def test_dusql(read, raw):
    rows = [
        {
            "db_id": "城市",
            "question_id": "qid1",
            "question": "最大的城市是哪个",
            "sql_query": "select 名称 from 城市",
            "sql": {"select": [[0]]},
        },
        {
            "db_id": "城市",
            "question_id": "qid2",
            "question": "有几个城市",
            "sql_query": "select count(*) from 城市",
            "sql": {},
        },
    ]
    zip_of(
        raw / "DuSQL.zip",
        {
            "DuSQL/train.json": json.dumps(rows, ensure_ascii=False),
            "DuSQL/db_schema.json": "[1]",
            "DuSQL/README.md": "x",
        },
    )
    mapping = {"fields": [{"text": "question", "text_pos": "sql_query"}]}
    records, _ = read(card_of({"path": "DuSQL.zip", "files": ["train.json"]}, mapping=mapping))
    assert records == [
        Pair("最大的城市是哪个", "select 名称 from 城市"),
        Pair("有几个城市", "select count(*) from 城市"),
    ]


ZHUIYI_ROWS = [
    {
        "table_id": "4d29d0513aaa11e9b911f40f24344a08",
        "question": "世茂茂悦府的均价是多少",
        "sql": {"agg": [1], "cond_conn_op": 1, "sel": [1], "conds": [[0, 2, "世茂茂悦府"], [2, 0, "1"]]},
    },
    {"table_id": "4d29d0513aaa11e9b911f40f24344a08", "question": "坏的", "sql": {"agg": [0], "sel": [9]}},
]
ZHUIYI_TABLES = [
    {
        "id": "4d29d0513aaa11e9b911f40f24344a08",
        "name": "Table_4d29d0513aaa11e9b911f40f24344a08",
        "header": ["楼盘", "均价", "容积率"],
        "types": ["text", "real", "real"],
        "rows": [["世茂茂悦府", 12000.0, 1.5]],
    }
]


@pytest.mark.parametrize("place", ["folder", "zip", "file"])
def test_zhuiyi_nl2sql(read, raw, place):
    files = {"train/train.json": lines(ZHUIYI_ROWS), "train/train.tables.json": lines(ZHUIYI_TABLES)}
    if place == "zip":
        zip_of(raw / "nl2sql.zip", files)
        source = {"path": "nl2sql.zip", "files": ["*/train*.json"]}
    else:
        (raw / "train").mkdir()
        for name, text in files.items():
            (raw / name).write_text(text, encoding="utf-8")
        source = {"path": "train" if place == "folder" else "train/train.json"}
    mapping = {
        "convert": {"sql": "tableqa_sql"},
        "tables": "*.tables.json",
        "fields": [{"text": "question", "text_pos": "sql"}],
    }
    records, account = read(card_of(source, mapping=mapping, category="s2c"))
    sql = "SELECT AVG(均价) FROM 表 WHERE 楼盘 == '世茂茂悦府' AND 容积率 > 1"
    assert records == [Pair("世茂茂悦府的均价是多少", sql)]
    assert account.dropped == {"bad_sql": 1}
    assert len(account.drops) == 1
    assert "train.json, row 2 (line 2): there is no column 9 among 3" in account.drops[0]


def test_zhuiyi_nl2sql_without_its_tables(read, raw):
    (raw / "train.json").write_text(lines(ZHUIYI_ROWS), encoding="utf-8")
    mapping = {
        "convert": {"sql": "tableqa_sql"},
        "tables": "*.tables.json",
        "fields": [{"text": "question", "text_pos": "sql"}],
    }
    with pytest.raises(DataError, match=r"测试集: train\.json has no file \*\.tables\.json"):
        read(card_of("train.json", mapping=mapping))


def test_cspider(read, raw):
    rows = [
        {
            "db_id": "concert",
            "question": "有多少歌手？",
            "query": "SELECT count(*) FROM singer",
            "query_toks": ["SELECT"],
        }
    ]
    (raw / "CSpider").mkdir()
    (raw / "CSpider" / "train.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    (raw / "CSpider" / "tables.json").write_text('[{"db_id": "concert"}]', encoding="utf-8")
    source = {"path": "CSpider", "files": ["train.json"]}
    records, _ = read(card_of(source, mapping={"fields": [{"text": "question", "text_pos": "query"}]}))
    assert records == [Pair("有多少歌手？", "SELECT count(*) FROM singer")]


@pytest.mark.parametrize(
    ("archive", "file", "row", "fields", "record"),
    [
        (
            "new2016zh.zip",
            "news2016zh_train.json",
            {
                "news_id": "610130831",
                "keywords": "导游,门票",
                "title": "故宫淡季门票40元",
                "desc": "近日",
                "source": "新华网",
                "time": "03-22 12:00",
                "content": "故宫发布公告。",
            },
            {"text": "title", "text_pos": "content"},
            Pair("故宫淡季门票40元", "故宫发布公告。"),
        ),
        (
            "baike2018qa.zip",
            "baike_qa_train.json",
            {
                "qid": "qid_2540946131115409959",
                "category": "生活知识",
                "title": "冬天进补好一些呢？",
                "desc": "",
                "answer": "你好！\r\r当然是冬天进补好的了",
            },
            {"text": "{title} {desc}", "text_pos": "answer"},
            Pair("冬天进补好一些呢？", "你好！\r\r当然是冬天进补好的了"),
        ),
        (
            "webtext2019zh.zip",
            "web_text_zh_train.json",
            {
                "qid": 65618973,
                "title": "AlphaGo只会下围棋吗？",
                "desc": "阿法狗能写小说吗",
                "topic": "机器人",
                "star": 3,
                "content": "它只会下围棋。",
                "answer_id": 545576062,
                "answerer_tags": "人工智能",
            },
            {"text": "title", "text_pos": "content"},
            Pair("AlphaGo只会下围棋吗？", "它只会下围棋。"),
        ),
    ],
)
def test_lines_inside_a_zip(read, raw, archive, file, row, fields, record):
    text = lines([row, {**row, "title": " ", "desc": None}])
    zip_of(raw / archive, {file: text, file.replace("train", "valid"): "{broken", "__MACOSX/._" + file: b"\x00\x05"})
    source = {"path": archive, "files": ["*train.json"]}
    records, account = read(card_of(source, mapping={"fields": [fields]}))
    assert records == [record]
    assert account.dropped == {"empty_text": 1}
    assert account.drops == [f"测试集: {archive}/{file}, row 2 (line 2): text is empty"]


def test_simclue(read, raw):
    (raw / "simclue").mkdir()
    rows = [
        {"query": "怎么还款", "title": "如何还款", "label": 1},
        {"query": "怎么还款", "title": "利息多少", "label": 0},
    ]
    (raw / "simclue" / "train_pair.json").write_text(lines(rows), encoding="utf-8")
    mapping = {"where": {"label": ["1"]}, "fields": [{"text": "query", "text_pos": "title"}]}
    records, _ = read(card_of({"path": "simclue", "files": ["train_*.json"]}, mapping=mapping, symmetric=True))
    assert records == [Pair("怎么还款", "如何还款")]


def test_triclue(read, raw):
    rows = [{"id": 0, "sentence1": "好看吗", "sentence2": "你认为她美吗", "sentence3": "跑男好看吗"}]
    (raw / "train.json").write_text(lines(rows), encoding="utf-8")
    mapping = {"fields": [{"text": "sentence1", "text_pos": "sentence2", "text_neg": "sentence3"}]}
    records, _ = read(card_of("train.json", mapping=mapping, kind="triplet"))
    assert records == [Triplet("好看吗", "你认为她美吗", "跑男好看吗")]


SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "长江",
            "paragraphs": [
                {
                    "context": "长江全长六千多公里。",
                    "qas": [
                        {
                            "id": "1",
                            "question": "长江多长",
                            "answers": [{"id": "1", "text": "六千多公里", "answer_start": 4}],
                        },
                        {"id": "2", "question": "", "answers": []},
                    ],
                }
            ],
        }
    ],
}


@pytest.mark.parametrize("pack", ["plain", "zip", "gz"])
def test_chinese_squad(read, raw, pack):
    text = json.dumps(SQUAD, ensure_ascii=False)
    if pack == "zip":
        zip_of(raw / "squad", {"train-zen-v1.0.json": text})
    elif pack == "gz":
        (raw / "squad").mkdir()
        (raw / "squad" / "train-zen-v1.0.json.gz").write_bytes(gzip.compress(text.encode()))
    else:
        (raw / "squad").write_text(text, encoding="utf-8")
    mapping = {"records": "data[].paragraphs[].qas[]", "fields": [{"text": "question", "text_pos": "context"}]}
    source = {"path": "squad", "files": ["train-*"] if pack != "plain" else [], "format": "json"}
    records, account = read(card_of(source, mapping=mapping))
    assert records == [Pair("长江多长", "长江全长六千多公里。")]
    assert account.dropped == {"empty_text": 1}


def test_hc3(read, raw):
    rows = [
        {"question": "什么是糖", "human_answers": ["甜的", "碳水"], "chatgpt_answers": ["糖是…"], "source": "baike"},
        {"question": "空", "human_answers": [], "chatgpt_answers": [""], "source": "baike"},
    ]
    (raw / "all.jsonl").write_text(lines(rows), encoding="utf-8")
    fields = [{"text": "question", "text_pos": name, "explode": name} for name in ("human_answers", "chatgpt_answers")]
    records, account = read(card_of("all.jsonl", mapping={"fields": fields}))
    assert records == [Pair("什么是糖", "甜的"), Pair("什么是糖", "碳水"), Pair("什么是糖", "糖是…")]
    assert account.dropped == {"empty_text": 2}
    assert account.drops[0] == "测试集: all.jsonl, row 2 (line 2): text_pos is empty"


def test_wiki_atomic_edits(read, raw):
    rows = [
        ("base_sentence", "phrase", "edited_sentence"),
        ("他 生 于 1949 年", "在 北京", "他 在 北京 生 于 1949 年"),
        ("Use Windows 10", "the", "Use the Windows 10"),
    ]
    text = "".join("\t".join(row) + "\n" for row in rows)
    (raw / "insertions.tsv.gz").write_bytes(gzip.compress(text.encode()))
    mapping = {
        "convert": {"base_sentence": "words", "edited_sentence": "words"},
        "fields": [{"text": "base_sentence", "text_pos": "edited_sentence"}],
    }
    records, _ = read(card_of("insertions.tsv.gz", mapping=mapping))
    assert records == [Pair("他生于1949年", "他在北京生于1949年"), Pair("Use Windows 10", "Use the Windows 10")]


def test_xlsum_gives_two_records_a_row(read, raw):
    row = {"id": "1", "url": "u", "title": "标题", "summary": "摘要", "text": "正文"}
    tar_of(raw / "xlsum.tar.bz2.tgz", {"./chinese_train.jsonl": lines([row]).encode(), "notes.txt": b"x"})
    fields = [{"text": "title", "text_pos": "summary"}, {"text": "title", "text_pos": "text"}]
    records, _ = read(card_of("xlsum.tar.bz2.tgz", mapping={"fields": fields}))
    assert records == [Pair("标题", "摘要"), Pair("标题", "正文")]


def test_alpaca_and_belle(read, raw):
    rows = [
        {"instruction": "翻译", "input": "{hello}", "output": "你好"},
        {"instruction": "写诗", "input": "", "output": "床前明月光"},
        {"instruction": "", "input": None, "output": "空"},
    ]
    (raw / "alpaca.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    mapping = {"fields": [{"text": "{instruction} {input}", "text_pos": "output"}]}
    records, account = read(card_of("alpaca.json", mapping=mapping))
    assert records == [Pair("翻译 {hello}", "你好"), Pair("写诗", "床前明月光")]
    assert account.dropped == {"empty_text": 1}


def test_medi(read, raw):
    rows = [
        {
            "query": ["Represent the question;", "who"],
            "pos": ["Represent the text;", "me"],
            "neg": ["Represent the text;", "you"],
            "task_name": "x",
        }
    ]
    (raw / "medi-data.json").write_text(json.dumps(rows))
    fields = {"text": "{query[0]} {query[1]}", "text_pos": "{pos[1]}", "text_neg": "{neg[1]}"}
    records, _ = read(card_of("medi-data.json", mapping={"fields": [fields]}, kind="triplet", languages=["en"]))
    assert records == [Triplet("Represent the question; who", "me", "you")]


def test_miracl_is_simplified_and_numbers_become_text(read, raw):
    (raw / "docs.jsonl.gz").write_bytes(
        gzip.compress(lines([{"docid": 7, "title": "數學", "text": "數學是學科"}]).encode())
    )
    mapping = {
        "convert": {"title": "simplified", "text": "simplified", "docid": "text"},
        "fields": [{"text": "{docid} {title}", "text_pos": "text"}],
    }
    assert read(card_of("docs.jsonl.gz", mapping=mapping))[0] == [Pair("7 数学", "数学是学科")]


def test_other_kinds_of_record(read, raw):
    (raw / "a.jsonl").write_text(
        lines([{"a": "甲", "b": "乙", "s": "0.5", "p": ["丙"], "n": ["丁", ""]}]), encoding="utf-8"
    )
    scored = {"fields": [{"sentence1": "a", "sentence2": "b", "label": "s"}]}
    assert read(card_of("a.jsonl", mapping=scored, kind="scored_pair"))[0] == [ScoredPair("甲", "乙", 0.5)]
    ranked = {"fields": [{"query": "a", "pos": "p", "neg": "n"}]}
    assert read(card_of("a.jsonl", mapping=ranked, kind="ranked"))[0] == [Ranked("甲", ("丙",), ("丁",))]


def test_without_a_mapping_the_columns_names_decide(read, raw):
    (raw / "set").mkdir()
    (raw / "set" / "a.csv").write_text("问题,答案\n甲,乙\n,丁\n", encoding="utf-8")
    (raw / "set" / "b.jsonl").write_text(lines([{"text": "戊", "text_pos": "己"}]), encoding="utf-8")
    records, account = read(card_of("set"))
    assert records == [Pair("甲", "乙"), Pair("戊", "己")]
    assert account.dropped == {"empty_text": 1}
    assert account.mapping == {"text": "问题", "text_pos": "答案"}


def test_only_where_without_fields(read, raw):
    (raw / "a.jsonl").write_text(
        lines([{"text": "甲", "text_pos": "乙", "k": 1}, {"text": "丙", "text_pos": "丁", "k": 2}])
    )
    records, account = read(card_of("a.jsonl", mapping={"where": {"k": [2]}}))
    assert records == [Pair("丙", "丁")]
    assert account.dropped == {"where": 1}


def test_a_folder_of_archives(read, raw):
    (raw / "set").mkdir()
    zip_of(raw / "set" / "a.zip", {"train.json": lines([{"question": "甲", "answer": "乙"}])})
    tar_of(
        raw / "set" / "b.tgz", {"train.jsonl.gz": gzip.compress(lines([{"question": "丙", "answer": "丁"}]).encode())}
    )
    records, _ = read(card_of({"path": "set", "files": ["train.*"]}, mapping=QUESTION_ANSWER))
    assert records == [Pair("甲", "乙"), Pair("丙", "丁")]


def test_an_absolute_path_needs_no_raw_folder(read, raw):
    (raw / "a.jsonl").write_text(lines([{"question": "甲", "answer": "乙"}]), encoding="utf-8")
    assert read(card_of(str(raw / "a.jsonl"), mapping=QUESTION_ANSWER), raw=None)[0] == [Pair("甲", "乙")]


# what goes wrong


def test_sources_that_are_not_there_are_passed_over(read, raw):
    (raw / "b.jsonl").write_text(lines([{"question": "甲", "answer": "乙"}]), encoding="utf-8")
    zip_of(raw / "empty.zip", {"readme.md": "x"})
    card = card_of("a.jsonl", {"path": "empty.zip", "files": ["*.jsonl"]}, "b.jsonl", mapping=QUESTION_ANSWER)
    records, account = read(card)
    assert records == [Pair("甲", "乙")]
    assert account.notes[0] == f"测试集: a.jsonl is passed over: there is no {raw / 'a.jsonl'}"
    assert account.notes[1] == "测试集: empty.zip is passed over: it has no file named *.jsonl"


def test_a_set_none_of_whose_sources_is_there(read, raw):
    card = card_of({"path": "x/a.zip", "note": "ask its owner for it"}, str(raw / "b.csv"))
    with pytest.raises(DataError) as caught:
        read(card, raw=None)
    assert str(caught.value) == (
        f"测试集: none of the sources can be read: x/a.zip (no folder of raw files is named (--raw)); {raw / 'b.csv'} "
        f"(there is no {raw / 'b.csv'}). What to do: ask its owner for it; put it at x/a.zip in a folder, "
        "and name that with --raw"
    )
    with pytest.raises(DataError, match="测试集: its card names no source"):
        read(card_of())


@pytest.mark.parametrize(
    ("mapping", "column"),
    [
        ({"fields": [{"text": "题目", "text_pos": "answer"}]}, "题目"),
        ({"fields": [{"text": "{question} {extra}", "text_pos": "answer"}]}, "extra"),
        ({"where": {"kind": [1]}, **QUESTION_ANSWER}, "kind"),
        ({"convert": {"lang": "text"}, **QUESTION_ANSWER}, "lang"),
        ({"fields": [{"text": "question", "text_pos": "answers", "explode": "answers"}]}, "answers"),
    ],
)
def test_a_column_that_no_row_has_is_named_before_any_record(raw, tmp_path, mapping, column):
    (raw / "a.jsonl").write_text(lines([{"question": "甲", "answer": "乙"}]), encoding="utf-8")
    records = open_card(card_of("a.jsonl", mapping=mapping), raw=raw, cache=tmp_path, account=Account())
    with pytest.raises(DataError, match=f"测试集: .* '{column}', which no row has; columns found: question, answer"):
        next(records)


def test_a_column_that_only_another_file_has_is_no_error(read, raw):
    mapping = {"fields": [{"text": "{question} {extra}", "text_pos": "answer"}]}
    (raw / "set").mkdir()
    (raw / "set" / "a.jsonl").write_text(lines([{"question": "甲", "answer": "乙"}]), encoding="utf-8")
    with pytest.raises(DataError, match="'extra', which no row has"):
        read(card_of("set", mapping=mapping))
    (raw / "set" / "b.jsonl").write_text(lines([{"question": "丙", "answer": "丁", "extra": "戊"}]), encoding="utf-8")
    assert read(card_of("set", mapping=mapping))[0] == [Pair("甲", "乙"), Pair("丙 戊", "丁")]


def test_a_condition_that_no_row_meets_is_named(read, raw):
    (raw / "a.jsonl").write_text(
        lines([{"question": "甲", "answer": "乙", "k": k} for k in (1, 2, 1)]), encoding="utf-8"
    )
    with pytest.raises(DataError, match="测试集: no row has k = 3, as its card wants; found: 1, 2"):
        read(card_of("a.jsonl", mapping={"where": {"k": [3]}, **QUESTION_ANSWER}))


def test_a_set_without_a_usable_row(read, raw):
    (raw / "a.jsonl").write_text(
        lines([{"question": "", "answer": "乙"}, {"question": 3, "answer": "乙"}]), encoding="utf-8"
    )
    with pytest.raises(
        DataError, match=r"测试集 has no usable rows: all 2 were dropped; first: .*row 1.* text is empty"
    ):
        read(card_of("a.jsonl", mapping=QUESTION_ANSWER))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("broken.json", r"测试集: broken\.json, line 2: "),
        ("cut.jsonl.gz", r"测试集: cut\.jsonl\.gz cannot be read"),
        ("bad.zip", r"测试集: bad\.zip cannot be read, the archive is damaged"),
        ("cut.zip", r"测试集: cut\.zip"),
        ("inner.zip", r"测试集: inner\.zip/a\.json, line 1: "),
        ("notes.txt", r"测试集: notes\.txt: .* format"),
        ("empty.csv", r"测试集: empty\.csv"),
    ],
)
def test_a_damaged_source_names_set_and_file_and_no_other_is_tried(read, raw, file, message):
    good = lines([{"question": "甲", "answer": str(number)} for number in range(500)])
    (raw / "broken.json").write_text('[{"question": "甲", "answer": "乙"},\n{"question": ')
    (raw / "cut.jsonl.gz").write_bytes(gzip.compress(good.encode())[:-400])
    (raw / "bad.zip").write_bytes(b"PK\x03\x04 no zip")
    zip_of(raw / "cut.zip", {"a.jsonl": good})
    (raw / "cut.zip").write_bytes((raw / "cut.zip").read_bytes()[:-200])
    zip_of(raw / "inner.zip", {"a.json": '[{"question": "甲"'})
    (raw / "notes.txt").write_text("x")
    (raw / "empty.csv").write_text("")
    (raw / "fine.jsonl").write_text(good, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read(card_of(file, "fine.jsonl", mapping=QUESTION_ANSWER))
    assert "\n" not in str(caught.value)


def test_a_headerless_file_with_a_row_of_another_width(read, raw):
    (raw / "a.csv").write_text("甲,乙\n丙\n", encoding="utf-8")
    source = {"path": "a.csv", "columns": ["question", "answer"]}
    with pytest.raises(DataError, match=r"a\.csv \(with a line of column names added\), line 3: 1 cell"):
        read(card_of(source, mapping=QUESTION_ANSWER))
    (raw / "a.jsonl").write_text("{}")
    with pytest.raises(DataError, match="columns are for csv and tsv"):
        read(card_of({"path": "a.jsonl", "columns": ["question", "answer"]}))


# parts and rows


def test_of_each_part_one_source_is_read(read, raw):
    for name in ("a", "b", "c"):
        (raw / f"{name}.jsonl").write_text(lines([{"question": name, "answer": "乙"}]), encoding="utf-8")
    sources = [("x", "one"), ("a", "one"), ("b", "two"), ("c", "two")]
    card = card_of(*({"path": f"{name}.jsonl", "part": part} for name, part in sources), mapping=QUESTION_ANSWER)
    records, account = read(card)
    assert records == [Pair("a", "乙"), Pair("b", "乙")]
    assert [note for note in account.notes if "passed over" in note] == [
        f"测试集: x.jsonl is passed over: there is no {raw / 'x.jsonl'}"
    ]
    (raw / "b.jsonl").unlink()
    (raw / "c.jsonl").unlink()
    with pytest.raises(
        DataError, match=r"测试集: none of the sources of its part two can be read: b\.jsonl \(.*c\.jsonl"
    ):
        read(card)


def test_rows_that_are_no_records(raw, tmp_path):
    (raw / "dev.jsonl").write_text(
        lines([{"sentence": "好", "label": 1}, {"sentence": "坏", "label": 0}]), encoding="utf-8"
    )
    facts = {"use": "evaluation", "kind": "classification"}
    card = card_of(
        "absent.csv", "dev.jsonl", mapping={"fields": [{"text": "sentence"}], "where": {"label": [0]}}, **facts
    )
    account = Account()
    assert list(open_rows(card, raw=raw, cache=tmp_path, account=account)) == [{"text": "坏"}]
    assert (account.rows, dict(account.dropped)) == (1, {"where": 1})
    whole = card_of("dev.jsonl", **facts)
    assert [row["sentence"] for row in open_rows(whole, raw=raw, cache=tmp_path, account=Account())] == ["好", "坏"]
    with pytest.raises(DataError, match="gives text, which is not one kind of record"):
        list(open_card(card, raw=raw, cache=tmp_path, account=Account()))


# of the web


class _Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved.zip":
            self.send_response(302)
            self.send_header("Location", "/b/data.zip")
            self.end_headers()
        elif self.path == "/evil.zip":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        elif self.path == "/short.jsonl":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"{}")
        else:
            super().do_GET()

    def log_message(self, format, *args):
        self.server.asked.append(self.path)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine: its address, its folder, and what it was asked for."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "web"
    (folder / "b").mkdir(parents=True)
    zip_of(folder / "b" / "data.zip", {"train.json": lines([{"question": "甲", "answer": "乙"}])})
    (folder / "login.html").write_text("<html>")
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", folder, running.asked
        running.shutdown()
        thread.join()


def test_an_archive_of_the_web_is_fetched_once(read, server, tmp_path):
    address, folder, asked = server
    sha256 = hashlib.sha256((folder / "b" / "data.zip").read_bytes()).hexdigest()
    for url in (f"{address}/b/data.zip?download=1", f"{address}/moved.zip"):
        card = card_of({"url": url, "sha256": sha256}, mapping=QUESTION_ANSWER)
        first = len(asked)
        for _ in range(2):
            records, _ = read(card, raw=None)
            assert records == [Pair("甲", "乙")]
        assert len(asked) - first == (2 if "moved" in url else 1)
    kept = sorted(path.name for path in (tmp_path / "cache" / "raw").rglob("*") if path.is_file())
    assert kept == ["data.zip", "moved.zip"]


def test_other_bytes_than_the_card_says(read, server, tmp_path):
    address, _, _ = server
    card = card_of({"url": f"{address}/b/data.zip", "sha256": "0" * 64}, mapping=QUESTION_ANSWER)
    with pytest.raises(DataError, match=r"data\.zip has the sha256 [0-9a-f]{64} where the card says 0000"):
        read(card)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_server_that_does_not_have_it_or_is_down_leads_to_the_next_source(read, server, tmp_path):
    address, _, _ = server
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        down = f"http://127.0.0.1:{free.getsockname()[1]}/data.zip"
    urls = [f"{address}/absent.zip", down, f"{address}/login.html", f"{address}/short.jsonl", f"{address}/evil.zip"]
    urls[2] = f"{address}/b/"  # a listing, which is a web page
    card = card_of(*({"url": url} for url in urls), {"url": f"{address}/b/data.zip"}, mapping=QUESTION_ANSWER)
    records, account = read(card)
    assert records == [Pair("甲", "乙")]
    reasons = [note.split(" is passed over: ")[1] for note in account.notes if "passed over" in note]
    assert reasons[0] == "the server answers 404 File not found"
    assert reasons[1].startswith("no answer: ")
    assert reasons[2] == "it gives a web page, not a file"
    assert reasons[3].startswith("the connection broke")
    assert len(reasons) == 5
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["data.zip"]
    with pytest.raises(DataError, match=r"absent\.zip \(the server answers 404.*What to do: try again where the web"):
        read(card_of({"url": urls[0]}))


def test_files_of_the_hub_come_from_its_mirror(read, server, monkeypatch):
    address, _, asked = server
    monkeypatch.setenv("HF_ENDPOINT", address)
    card = card_of({"url": "https://huggingface.co/b/data.zip"}, mapping=QUESTION_ANSWER)
    assert read(card)[0] == [Pair("甲", "乙")]
    assert asked == ["/b/data.zip"]


def test_other_kinds_of_url_are_refused(read):
    with pytest.raises(DataError, match="file:///etc/passwd is not fetched: only http and https"):
        read(card_of({"url": "file:///etc/passwd"}))


# of a hub


@pytest.fixture
def online(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "_hub_answers", lambda: True)


@pytest.fixture
def load(monkeypatch, online):
    """What was asked of ``load_dataset``, which gives the rows that the test sets by split."""
    asked, splits = [], {}

    def load_dataset(path, config, *, split, revision, streaming):
        asked.append((path, config, split, revision, streaming))
        if split not in splits:
            raise ValueError(f"Bad split: {split}.\nAvailable splits: {list(splits)}")
        return splits[split]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked, splits


def stream_of(rows, features=None):
    def rows_once():
        for row in rows:
            if row is None:
                raise ConnectionError("reset\nby peer")
            yield row

    return datasets.IterableDataset.from_generator(rows_once, features=features)


def test_splits_of_a_hub_are_streamed(read, load):
    asked, splits = load
    splits["train"] = stream_of([{"question": "甲", "answer": "乙"}, {"question": "丙", "answer": None}])
    splits["validation"] = stream_of([{"question": "丁", "answer": "戊"}])
    source = {"hub": "org/name", "revision": "abc", "config": "a", "splits": ["train", "validation"]}
    records, account = read(card_of(source, mapping=QUESTION_ANSWER))
    assert records == [Pair("甲", "乙"), Pair("丁", "戊")]
    assert asked == [("org/name", "a", split, "abc", True) for split in ("train", "validation")]
    assert account.drops[0] == "org/name a train, row 2: text_pos is empty"


def test_classes_of_a_hub_go_by_number_and_by_name(read, load):
    _, splits = load
    for names in (["neutral", "entailment", "contradiction"], ["different", "same", "x"]):
        features = datasets.Features(
            {"a": datasets.Value("string"), "b": datasets.Value("string"), "label": datasets.ClassLabel(names=names)}
        )
        splits["train"] = stream_of([{"a": "甲", "b": "乙", "label": 1}, {"a": "丙", "b": "丁", "label": 0}], features)
        for wanted in (1, names[1]):
            mapping = {"where": {"label": [wanted]}, "fields": [{"text": "a", "text_pos": "b"}]}
            assert read(card_of({"hub": "org/name"}, mapping=mapping))[0] == [Pair("甲", "乙")]


def test_a_hub_set_without_a_mapping(read, load):
    _, splits = load
    splits["train"] = stream_of([{"sentence1": "甲", "sentence2": "乙", "score": number / 10} for number in range(3)])
    records, account = read(card_of({"hub": "org/name"}, kind="scored_pair"))
    assert records == [ScoredPair("甲", "乙", number / 10) for number in range(3)]
    assert "org/name train: what its columns mean is told from its first 3 rows" in account.notes


def test_a_hub_that_refuses_leads_to_the_next_source(read, raw, load):
    (raw / "b.jsonl").write_text(lines([{"question": "甲", "answer": "乙"}]), encoding="utf-8")
    records, account = read(card_of({"hub": "org/name"}, "b.jsonl", mapping=QUESTION_ANSWER))
    assert records == [Pair("甲", "乙")]
    assert (
        account.notes[0]
        == "测试集: org/name is passed over: https://huggingface.co does not give org/name: Bad split: train."
    )


def test_a_hub_that_breaks_off_is_an_error(read, raw, load):
    _, splits = load
    splits["train"] = stream_of([{"question": "甲", "answer": "乙"}, None])
    with pytest.raises(DataError, match=r"org/name train: reading from https://huggingface.co broke off: "):
        read(card_of({"hub": "org/name"}, mapping=QUESTION_ANSWER))


def test_a_hub_out_of_reach_and_offline_mode(read, monkeypatch, load):
    monkeypatch.setattr(hub, "_hub_answers", lambda: False)
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    card = card_of({"hub": "org/name"})
    with pytest.raises(
        DataError, match=r"org/name \(the hub https://mirror\.example cannot be reached; set HF_ENDPOINT"
    ):
        read(card)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=r"org/name \(it is not in the cache, and HF_HUB_OFFLINE forbids"):
        read(card)


def test_the_datasets_library_itself_streams(read, raw, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    (raw / "name").mkdir()
    (raw / "name" / "train.jsonl").write_text(lines([{"question": "甲", "answer": "乙", "k": 1}]), encoding="utf-8")
    mapping = {"where": {"k": [1]}, **QUESTION_ANSWER}
    records, _ = read(card_of({"hub": str(raw / "name")}, mapping=mapping))
    assert records == [Pair("甲", "乙")]
    with pytest.raises(DataError, match=r"name \(.*HF_HUB_OFFLINE"):
        read(card_of({"hub": str(raw / "name"), "splits": ["dev"]}, mapping=mapping))
