"""``m3e data``: what other tools rely on, and users' files through the pipeline's commands."""

from __future__ import annotations

import builtins
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3e.data.engine import _STARTED
from m3e.data.reading import read_records

GOODS = ["饺子", "雨伞", "口罩", "茶壶", "拖鞋", "台灯", "毛巾", "书架", "耳机", "水杯", "地毯", "闹钟"]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data folder of this machine, and a cache of our own."""
    monkeypatch.delenv("M3E_DATA", raising=False)
    monkeypatch.setenv("M3E_CACHE", str(tmp_path / "cache"))


def questions(count: int = 12) -> list[tuple[str, str]]:
    return [(f"{GOODS[at % 12]}什么时候到货{at}", f"{GOODS[at % 12]}大约{at + 1}天到货。") for at in range(count)]


def pair_dicts(count: int = 12) -> list[dict[str, str]]:
    return [{"text": text, "text_pos": answer} for text, answer in questions(count)]


def result(name: str = "r.json") -> Any:
    return json.loads(Path(name).read_text("utf-8"), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def lines(name: str, rows: list[dict[str, Any]]) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return name


def lines_of_text(name: str, *values: str) -> str:
    Path(name).write_text("\n".join(values), "utf-8")
    return name


def kept(folder: str) -> list[dict[str, Any]]:
    paths = sorted(Path(folder).glob("*/*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


@pytest.fixture
def dedup(cli) -> Callable[..., Any]:
    """``dedup(FILE, …)``: the process's end and, where it wrote one, the JSON result."""

    def run(*arguments: object, out: str = "d") -> tuple[Any, Any]:
        done = cli("data", "dedup", *arguments, "--out", out, "--json", "r.json")
        return done, result() if done.code == 0 else None

    return run


# --- the catalogue


def test_list_json_is_the_contract_s(cli) -> None:
    done = cli("data", "list", "--m3e", "--json", "r.json")
    assert done.code == 0, done.err
    rows = result()
    contract = {"name", "rows", "seed_rows", "category", "language", "commercial", "seed_commercial", "in_m3e_table"}
    assert all(contract <= set(row) for row in rows)
    assert len({row["name"] for row in rows}) == len(rows) == 29
    assert sum(row["seed_rows"] for row in rows) == 21_837_781
    allowed = [row["seed_rows"] for row in rows if row["seed_commercial"] == "yes"]
    assert (len(allowed), sum(allowed)) == (8, 13_692_177)
    order = ["yes", "unknown", "no"]
    for row in rows:
        assert order.index(row["commercial"]) >= order.index(row["seed_commercial"])
        assert row["in_m3e_table"] is True
    cli("data", "list", "--json", "r.json")
    every = result()
    assert len(every) > 60
    assert sum(row["in_m3e_table"] for row in every) == 29
    assert all(row["seed_rows"] is None and row["seed_commercial"] is None for row in every if not row["in_m3e_table"])


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        (("--category", "s2c"), lambda row: row["category"] == "s2c"),
        (("--language", "en"), lambda row: "en" in row["language"].split("-")),
        (("--commercial", "yes"), lambda row: row["commercial"] == "yes"),
        (("--domain", "医"), lambda row: "医" in row["domain"]),
        (
            ("--use", "evaluation", "--category", "s2s"),
            lambda row: (row["use"], row["category"]) == ("evaluation", "s2s"),
        ),
    ],
)
def test_list_filters(cli, options: tuple[str, ...], fits) -> None:
    cli("data", "list", "--json", "all.json")
    done = cli("data", "list", *options, "--json", "r.json")
    assert done.code == 0, done.err
    assert [row["name"] for row in result()] == [row["name"] for row in result("all.json") if fits(row)]
    assert f"{len(result())} data sets" in done.out


def test_list_fits_the_terminal(cli) -> None:
    done = cli("data", "list")
    assert max(map(len, done.out.splitlines())) <= 120
    assert "belle_2m" in done.out


@pytest.mark.parametrize("option", ["--category", "--commercial", "--use"])
def test_list_refuses_unknown_words(cli, option: str) -> None:
    done = cli("data", "list", option, "some")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{option} 'some' is not known; choose" in done.err


def test_show_a_card_and_its_rows(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    done = cli("data", "show", "LCQMC", "--rows", "0", "--json", "r.json")
    assert done.code == 0, done.err
    for words in ("lcqmc: LCQMC", "s2s, symmetric", "commercial: no", "149,226 rows", "research use only"):
        assert words in done.out
    assert result()["card"]["name"] == "lcqmc"
    assert result()["rows"] == []
    Path("data").mkdir()
    pq.write_table(pa.table({"text": ["怎么退货", "问二"], "text_pos": ["到前台", "答二"]}), "data/faq.train.parquet")
    Path("data/catalogue.csv").write_text(
        "name,kind,s2,language,domain,rows_per_split,commercial,licence_as_stated,commercial_in_words,source\n"
        "faq,pair,s2p,zh,shops,train 2,yes,MIT,permits,a/b\n"
    )
    monkeypatch.setenv("M3E_DATA", "data")
    done = cli("data", "show", "faq", "--rows", "1", "--json", "r.json")
    assert "text_pos: 到前台" in done.out
    assert result()["rows"] == [{"text": "怎么退货", "text_pos": "到前台"}]
    done = cli("data", "show", "fak")
    assert done.code == 2
    assert "like it: faq" in done.err


def test_stats_of_the_catalogue_and_of_a_folder(cli, dedup) -> None:
    done = cli("data", "stats", "--json", "r.json")
    assert done.code == 0, done.err
    assert result()[-1]["sets"] == 29
    assert "21,837,781" in done.out
    dedup(lines("a.jsonl", pair_dicts()))
    assert cli("data", "stats", "d", "--json", "r.json").code == 0
    assert [(row["data_set"], row["rows_out"], row["query_median"]) for row in result()] == [("a", 12, 9)]
    done = cli("data", "stats", "nothing")
    assert (done.code, done.err.count("\n")) == (2, 1)


# --- dedup, and the files that failed people


def test_dedup_json_is_the_contract_s(cli, dedup) -> None:
    answer = (
        "请您携带购物小票和完好的商品到一楼服务台办理退货"
        "手续，工作人员会当场为您检查并退款，如果小票遗失也可以出示付款记录"
    )
    rows = [
        *pair_dicts(3),
        *pair_dicts(1),
        {"text": "商品有质量问题应该怎么退货呢", "text_pos": answer},
        {"text": "商品有质量问题应该怎么退货呢", "text_pos": answer.replace("遗失", "丢失")},
    ]
    path = lines("a.jsonl", rows)
    done, found = dedup(path)
    assert done.code == 0, done.err
    assert found == {"rows_in": 6, "rows_out": 4, "dropped": {"exact": 1, "near": 1}}
    assert "6 rows in, 4 out" in done.out
    _, found = dedup(path, "--exact-only", out="e")
    assert found == {"rows_in": 6, "rows_out": 5, "dropped": {"exact": 1, "near": 0}}
    _, found = dedup(path, "--near-duplicates", "0.99", out="n")
    assert found["dropped"] == {"exact": 1, "near": 0}
    _, found = dedup("d", out="again")
    assert found == {"rows_in": 4, "rows_out": 4, "dropped": {"exact": 0, "near": 0}}
    for threshold in ("0", "1.5"):
        done, _ = dedup(path, "--near-duplicates", threshold, out="x")
        assert done.code == 2
        assert "similarity above 0 and at most 1" in done.err


def test_11_full_width_digits_zero_width_characters_emoji(dedup) -> None:
    rows = [
        ("订单１２３什么时候发货", "付款后两天内发货"),
        ("订单123什么时候发货", "付款后两天内发货"),
        ("订单123\u200b什么时候发货", "付款后两天内发货"),
        ("ＡＢＣ会员卡怎么退", "到柜台填写退卡单"),
        ("ABC会员卡怎么退", "到柜台填写退卡单"),
        ("门票\u3000可以改期吗", "开场前一天可以改期"),
        ("门票 可以改期吗", "开场前一天可以改期"),
        ("👨\u200d👩\u200d👧 家庭套票包括几个人", "两位大人和一位儿童"),
        ("请问几点关门", "周一到周五晚上九点关门"),
        ("雨天活动照常吗", "小雨照常 大雨顺延到周末"),
    ]
    done, found = dedup(lines("11.jsonl", [{"text": text, "text_pos": answer} for text, answer in rows]))
    assert done.code == 0, done.err
    assert found == {"rows_in": 10, "rows_out": 6, "dropped": {"exact": 4, "near": 0}}
    assert sorted(row["text"] for row in kept("d")) == sorted(rows[at][0] for at in (0, 3, 5, 7, 8, 9))


@pytest.mark.parametrize("encoding", ["gb18030", "utf-8-sig", "utf-16"])
def test_01_a_table_from_excel(dedup, encoding: str) -> None:
    rows = questions()
    rows[2] = ("𠮷祥饺子什么时候到货", rows[2][1])
    rows[4] = ("猫粮,为什么要慢慢换", rows[4][1])
    table = ["text,text_pos", *(f'"{text}",{answer}' for text, answer in [*rows, rows[2]])]
    Path("t.csv").write_bytes("\r\n".join(table).encode(encoding))
    done, found = dedup("t.csv")
    assert done.code == 0, done.err
    assert (found["rows_in"], found["rows_out"]) == (13, 12)
    assert sorted((row["text"], row["text_pos"]) for row in kept("d")) == sorted(rows)
    assert ("GB18030" in done.out) == (encoding == "gb18030")


def test_03_a_lone_quotation_mark(dedup) -> None:
    rows = questions()
    rows[3] = ('"双十一"什么时候开始', rows[3][1])
    rows[6] = ('"五寸屏的手机推荐哪款', rows[6][1])
    Path("t.tsv").write_text("text\ttext_pos\n" + "".join(f"{a}\t{b}\n" for a, b in rows), "utf-8")
    done, found = dedup("t.tsv")
    assert (done.code, found["rows_out"]) == (0, 12)
    assert {rows[3][0], rows[6][0]} <= {row["text"] for row in kept("d")}
    Path("t.csv").write_text("text,text_pos\n" + "".join(f"{a},{b}\n" for a, b in rows), "utf-8")
    done, _ = dedup("t.csv", out="c")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "t.csv" in done.err
    assert not Path("c").exists()


def test_05_holes_are_counted(dedup) -> None:
    rows = [{"sentence1": a, "sentence2": b, "label": at % 3} for at, (a, b) in enumerate(questions(14))]
    text = [json.dumps(row, ensure_ascii=False) for row in rows]
    text[1] = text[1].replace('"label": 1', '"label": NaN')
    text[4] = text[4].replace('"label": 1', '"label": null')
    text[7] = text[7].replace(', "label": 1', "")
    text[9] = json.dumps({**rows[9], "sentence2": ""}, ensure_ascii=False)
    text[11] = json.dumps({**rows[11], "sentence1": "\u200b\u3000"}, ensure_ascii=False)
    Path("t.jsonl").write_text("\n".join(text), "utf-8")
    done, found = dedup("t.jsonl")
    assert done.code == 0, done.err
    assert found == {"rows_in": 14, "rows_out": 9, "dropped": {"exact": 0, "near": 0}}
    assert "3 missing label" in done.out
    assert "2 empty text" in done.out
    manifest = json.loads(Path("d/manifest.json").read_text("utf-8"))
    assert manifest["datasets"][0]["dropped"] == {"missing_label": 3, "empty_text": 2}


def test_05_empty_lists_of_negatives(dedup) -> None:
    rows = [
        {"query": a, "pos": [b, f"{b}是的"] if at == 4 else [b], "neg": [] if at < 3 else ["番茄黄"]}
        for at, (a, b) in enumerate(questions(10))
    ]
    done, found = dedup(lines("t.jsonl", rows))
    assert (done.code, found["rows_out"]) == (0, 10)
    by_query = {row["query"]: row for row in kept("d")}
    assert by_query[rows[0]["query"]]["neg"] == []
    assert by_query[rows[4]["query"]]["pos"] == rows[4]["pos"]


def test_07_labels_of_other_scales_and_as_strings(dedup) -> None:
    rows = [(a, b, at % 6) for at, (a, b) in enumerate(questions())]
    texts = [f"{label}.0" if at % 3 else f" {chr(0xFF10 + label)} " for at, (_, _, label) in enumerate(rows)]
    table = [f"{a},{b},{label}" for (a, b, _), label in zip(rows, texts, strict=True)]
    Path("t.csv").write_text("sentence1,sentence2,label\n" + "\n".join(table), "utf-8")
    done, found = dedup("t.csv")
    assert (done.code, found["rows_out"]) == (0, 12)
    assert {(row["sentence1"], row["sentence2"], row["label"]) for row in kept("d")} == set(rows)


def test_09_json_in_every_shape(dedup) -> None:
    rows = [*pair_dicts(10), pair_dicts(1)[0]]
    shapes = {
        "array.json": json.dumps(rows, ensure_ascii=False, indent=2),
        "nested.json": json.dumps({"version": "1", "data": rows}, ensure_ascii=False),
        "line.jsonl": json.dumps(rows, ensure_ascii=False),
    }
    for name, text in shapes.items():
        Path(name).write_text(text, "utf-8")
        done, found = dedup(name, out=f"o-{name}")
        assert done.code == 0, done.err
        assert found == {"rows_in": 11, "rows_out": 10, "dropped": {"exact": 1, "near": 0}}
        assert sorted(row["text"] for row in kept(f"o-{name}")) == sorted(text for text, _ in questions(10))


def test_09_two_lists_and_a_cut_line(dedup) -> None:
    rows = pair_dicts(10)
    Path("two.json").write_text(json.dumps({"train": rows, "dev": rows[:3]}, ensure_ascii=False), "utf-8")
    done, _ = dedup("two.json")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert all(name in done.err for name in ("two.json", "train", "dev"))
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    Path("cut.jsonl").write_text(text[:-9], "utf-8")
    done, _ = dedup("cut.jsonl")
    assert done.code == 2
    assert "cut.jsonl" in done.err
    assert "10" in done.err
    assert not Path("d").exists()


@pytest.mark.parametrize(("name", "text"), [("empty.jsonl", ""), ("header.csv", "text,text_pos\n")])
def test_13_no_rows(dedup, name: str, text: str) -> None:
    Path(name).write_text(text)
    done, _ = dedup(name)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert name in done.err
    assert "no rows" in done.err


def test_13_one_row(dedup) -> None:
    assert dedup(lines("one.jsonl", pair_dicts(1)))[1]["rows_out"] == 1


def test_15_an_output_folder_with_something_in_it(dedup) -> None:
    path = lines("a.jsonl", pair_dicts())
    Path("d").mkdir()
    Path("d/notes.txt").write_text("keep")
    done, _ = dedup(path)
    assert done.code == 2
    assert "--overwrite" in done.err
    assert dedup(path, "--overwrite")[0].code == 0
    assert Path("d/notes.txt").read_text() == "keep"
    Path("file").write_text("")
    assert dedup(path, out="file")[0].code == 2


def test_several_files_columns_and_single_texts(dedup) -> None:
    lines("x/a.jsonl", [{"甲": a, "乙": b} for a, b in questions(3)])
    lines("y/a.jsonl", [{"甲": a, "乙": b} for a, b in questions(5)])
    done, found = dedup("x/a.jsonl", "y/a.jsonl", "--column", "text=甲", "--column", "text_pos=乙")
    assert done.code == 0, done.err
    assert found == {"rows_in": 8, "rows_out": 5, "dropped": {"exact": 3, "near": 0}}
    assert read_records("d/a").rows == 3
    assert read_records("d/a~2").rows == 2
    _, found = dedup(lines_of_text("news.csv", "text", "一条新闻", "一条 新闻！", "另一条"), out="t")
    assert (found["rows_out"], found["dropped"]) == (2, {"exact": 1, "near": 0})


def test_a_file_that_fails_beside_one_that_does_not(cli) -> None:
    good = lines("good.jsonl", pair_dicts(3))
    Path("bad.jsonl").write_text('{"text": "问", "text_pos": ', "utf-8")
    done = cli("data", "dedup", "bad.jsonl", good, "--out", "d", "--json", "r.json")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "1 of the sets failed; the others are written: " in done.err
    assert "bad.jsonl" in done.err
    assert result()["rows_out"] == 3
    assert len(kept("d")) == 3


def test_missing_files_and_no_output(cli, dedup) -> None:
    done, _ = dedup("nothing.csv")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "nothing.csv" in done.err
    assert cli("data", "dedup", lines("a.jsonl", pair_dicts())).code == 2


# --- decontaminate


EVALUATION = ["饺子什么时候到货？", "阳台上的番茄叶子发黄可能是浇水太多也可能是缺少铁和镁", "短句"]


@pytest.fixture
def training(cli) -> str:
    Path("lcqmc.test.csv").write_text("text\n" + "\n".join(EVALUATION), "utf-8")
    rows = [
        {"text": "饺子什么时候到货", "text_pos": "三天后"},
        {"text": "花的问题", "text_pos": "大家都说阳台上的番茄叶子发黄可能是浇水太多也可能是缺少铁或镁。"},
        {"text": "短句", "text_pos": "短的回答"},
        {"text": "短句", "text_pos": "短的回答"},  # duplicates are not its business
        {"text": "几点 关门", "text_pos": "晚上九点"},
    ]
    return lines("train.jsonl", rows)


def test_decontaminate_json_is_the_contract_s(cli, training: str) -> None:
    done = cli("data", "decontaminate", training, "--against", "lcqmc.test.csv", "--out", "d", "--json", "r.json")
    assert done.code == 0, done.err
    found = result()
    assert set(found) == {"rows_in", "rows_out", "dropped", "by_pair"}
    assert (found["rows_in"], found["rows_out"]) == (5, 3)
    assert found["dropped"] == {"exact": 1, "near": 1}
    (pair,) = found["by_pair"]
    contract = ("train", "eval", "rows", "texts")
    assert {key: pair[key] for key in contract} == dict(zip(contract, ("train", "lcqmc.test.csv", 0, 1), strict=True))
    assert sorted(row["text"] for row in kept("d")) == ["几点 关门", "短句", "短句"]
    assert "evaluation texts in training data" in done.out
    again = cli("data", "decontaminate", "d/train", "--against", "lcqmc.test.csv", "--out", "e", "--json", "r.json")
    assert again.code == 0
    assert result() == {"rows_in": 3, "rows_out": 3, "dropped": {"exact": 0, "near": 0}, "by_pair": []}
    done = cli(
        "data",
        "decontaminate",
        training,
        "--against",
        "lcqmc.test.csv",
        "--exact-only",
        "--out",
        "x",
        "--json",
        "r.json",
    )
    assert result()["dropped"] == {"exact": 1, "near": 0}


def test_decontaminate_against_the_data_folder(cli, training: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data").mkdir()
    pq.write_table(pa.table({"text": ["几点关门", "晚上九点"], "label": [0, 1]}), "data/hours.dev.parquet")
    pq.write_table(pa.table({"query_id": ["1"], "text": ["晚上九点钟见"]}), "data/hours.train.parquet")
    monkeypatch.setenv("M3E_DATA", "data")
    done = cli("data", "decontaminate", training, "--out", "d", "--json", "r.json")
    assert done.code == 0, done.err
    assert result()["rows_out"] == 5  # four characters each: too short to be the same text
    assert "not compared with" in done.out
    pq.write_table(pa.table({"text": ["几点关门"], "text_pos": ["晚上九点！"]}), "data/hours.dev.parquet")
    cli("data", "decontaminate", training, "--out", "d", "--json", "r.json")
    assert result()["dropped"] == {"exact": 1, "near": 0}
    assert result()["by_pair"][0]["rows"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name training files and --out DIR, or --seen"),
        (("train.jsonl",), "name training files and --out DIR"),
        (("train.jsonl", "--out", "d"), "nothing to compare with: name evaluation files with --against"),
        (("train.jsonl", "--out", "d", "--against", "none.csv"), "no data set 'none.csv'"),
        (("train.jsonl", "--out", "d", "--against", "lcqmc"), "this set is for training"),
        (("train.jsonl", "--out", "d", "--text", "问"), "--text goes with --seen"),
        (("--seen", "d", "--out", "e"), "without --against and --out"),
        (("--seen", "d", "--against", "lcqmc.test.csv"), "without --against and --out"),
        (("--seen", "train.jsonl", "--text", "问"), "no filter of texts"),
        (("--seen", "nowhere", "--text", "问"), "has no texts.bloom"),
    ],
)
def test_decontaminate_says_what_is_missing(cli, training: str, arguments: tuple[str, ...], message: str) -> None:
    done = cli("data", "decontaminate", *arguments)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err


def test_asking_what_was_seen(cli, dedup) -> None:
    dedup(lines("a.jsonl", pair_dicts()))
    texts = ["饺子什么时候到货０！", "从来没有见过的一句话"]
    done = cli("data", "decontaminate", "--seen", "d", "--text", texts[0], "--text", texts[1], "--json", "r.json")
    assert done.code == 0, done.err
    assert done.out == f"yes: {texts[0]}\nno: {texts[1]}\n"
    assert result()["texts"] == {texts[0]: True, texts[1]: False}
    Path("x.test.csv").write_text(f"text\n{texts[0]}\n{texts[1]}\n又一句新的\n", "utf-8")
    done = cli("data", "decontaminate", "x.test.csv", "--seen", "d/texts.bloom", "--json", "r.json")
    assert done.out == "x.test.csv: 1 of 3 texts were seen (33.3%), in 1 of 3 rows\n"
    found = result()
    assert (found["rows_in"], found["rows_out"], found["dropped"]) == (3, 2, {"exact": 1, "near": 0})
    assert found["by_pair"] == [{"train": "texts.bloom", "eval": "x.test.csv", "rows": 1, "texts": 1}]
    again = cli("data", "decontaminate", "x.test.csv", "--against", "d/texts.bloom")
    assert (again.code, again.out) == (0, done.out)  # a filter is asked, whatever the option's name
    done = cli("data", "decontaminate", "--seen", "d")
    assert done.code == 2
    assert "name what to ask about" in done.err


# --- prepare


@pytest.fixture
def data(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data").mkdir()
    Path("data/catalogue.csv").write_text(
        "name,kind,s2,language,domain,rows_per_split,commercial,licence_as_stated,commercial_in_words,source\n"
        "faq,pair,s2p,zh,shops,train 12,yes,MIT,permits,a/b\n"
        "closed,pair,s2s,zh,shops,train 3,no,research,no,c/d\n"
        "broken,pair,s2p,zh,shops,train 3,yes,MIT,permits,e/f\n",
        "utf-8",
    )
    for name, rows in (("faq.train", pair_dicts()), ("faq.dev", pair_dicts(2)), ("closed.train", pair_dicts(3))):
        pq.write_table(pa.Table.from_pylist(rows), f"data/{name}.parquet")
    Path("data/broken.train.parquet").write_bytes(b"PAR1")
    monkeypatch.setenv("M3E_DATA", "data")


@pytest.mark.usefixtures("data")
def test_prepare(cli) -> None:
    arguments = ("data", "prepare", "--sets", "faq,closed", "--out", "p", "--json", "r.json", "--set", "max_rows.faq=5")
    done = cli(*arguments)
    assert done.code == 0, done.err
    found = result()
    assert found["out"] == "p"
    assert (found["rows_in"], found["rows_out"], found["pairs_out"]) == (15, 5, 5)
    assert [entry["dropped"] for entry in found["datasets"]] == [
        {"contaminated_exact": 2, "sampled_out": 5},
        {"exact_duplicate": 3},
    ]
    assert found["by_pair"][0] == {"train": "faq", "eval": "faq.dev", "rows": 2, "texts": 2, "passages": 2}
    assert "5 rows in p" in done.out
    assert "not compared with" in done.out
    assert "nothing to do" in cli(*arguments).out
    assert Path("p/README.md").read_text("utf-8").startswith("---\n")


@pytest.mark.usefixtures("data")
def test_prepare_for_sale(cli) -> None:
    done = cli("data", "prepare", "m3e-commercial", "--sets", "faq", "--sets", "closed", "--out", "p")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "closed (no: research)" in done.err
    done = cli("data", "prepare", "m3e-commercial", "--sets", "local", "--out", "p", "--json", "r.json")
    assert done.code == 3
    assert "leaves out 1 sets whose commercial use is no: closed" in done.out
    assert "warning: --policy commercial leaves no set of category s2s" in done.out
    assert result()["policy"] == "commercial"


@pytest.mark.usefixtures("data")
def test_a_set_that_fails_is_named_and_the_others_are_written(cli) -> None:
    done = cli("data", "prepare", "--sets", "broken,faq", "--out", "p", "--json", "r.json")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "1 of the sets failed; the others are written: " in done.err
    assert "broken.train.parquet" in done.err
    assert list(result()["failed"]) == ["broken"]
    assert len(kept("p")) == 10
    pq.write_table(pa.table({"text": ["修好了的问题"], "text_pos": ["新的回答"]}), "data/broken.train.parquet")
    assert cli("data", "prepare", "--sets", "broken,faq", "--out", "p").code == 0
    assert len(kept("p")) == 11


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name the sets"),
        (("--sets", "faq", "--policy", "strict"), "--policy 'strict' is not known"),
        (("--sets", "faq", "--set", "filters.max_quer=1"), "no rule 'max_quer'"),
        (("--sets", "faq", "--set", "filters.max_query=many"), "max_query cannot be 'many'"),
        (("--sets", "faq", "--near-duplicates", "2"), "near_duplicates"),
        (("m3e-best",), "no preset 'm3e-best'"),
        (("--sets", "faq", "--engine", "spark"), "--engine 'spark' is not known; choose local, ray or ray://HOST:PORT"),
    ],
)
def test_prepare_says_what_is_wrong(cli, arguments: tuple[str, ...], message: str) -> None:
    done = cli("data", "prepare", *arguments, "--out", "p")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err
    assert not Path("p").exists()


def test_daft_missing_is_named(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments, **named):
        if name.partition(".")[0] == "daft":
            raise ImportError(name)
        return real(name, *arguments, **named)

    path = lines("a.jsonl", pair_dicts())
    for name in [name for name in sys.modules if name.partition(".")[0] == "daft"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    done = cli("data", "dedup", path, "--out", "d")
    assert (done.code, done.err) == (2, "m3e: daft is not installed; it comes with: pip install 'm3e[data]'\n")
    assert not Path("d").exists()
    monkeypatch.undo()
    assert _STARTED in ([], ["local"])
