"""Planted rows: exactly those that should stay do, and the others are counted under the right rule."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planned_sets import entry_of, planned, row, texts, written

from m3e.data.filters import Filters
from m3e.data.pipeline import PipelineOptions
from m3e.data.prepare import Prepared, run_pipeline
from m3e.data.verdicts import DROPS
from m3e.errors import DataError

RNG = random.Random(11)
LETTERS = [chr(point) for point in range(0x5000, 0x5800)]


def long_text(size: int) -> str:
    return "".join(RNG.choices(LETTERS, k=size))


PASSAGE, LEAKED, STATEMENT = long_text(150), long_text(60), long_text(300)
ANSWERS = {name: f"{name}{long_text(12)}" for name in "甲乙丙丁戊己庚辛壬癸子丑寅卯"}


def changed(text: str, at: int) -> str:
    return f"{text[:at]}某{text[at + 1 :]}"


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("evaluation")
    files = {
        "lcqmc.dev.parquet": {
            "sentence1": ["番茄叶子发黄怎么办", "开门", "从来没人问过的问题"],
            "sentence2": ["番茄的叶子变黄了", "关门", "别处没有的句子"],
            "label": [1, 0, 1],
        },
        "tnews.test.parquet": {"text": [LEAKED, "退款", "好吃", STATEMENT], "label": [1, 2, 3, 4]},
        "wiki.dev.corpus.parquet": {"id": ["1", "2"], "text": ["一段关于番茄的百科文字", "别的地方没有的段落"]},
    }
    for name, columns in files.items():
        pq.write_table(pa.table(columns), folder / name)
    return [folder / name for name in sorted(files)]


QA = [
    row("怎么退货", ANSWERS["甲"]),
    row("怎么 退货？", f"{ANSWERS['甲']}。"),  # the same by key
    row("<p>订单１２３<br/>到哪了</p>", f"{ANSWERS['乙']}&nbsp;，明天到\u200b"),
    row("👨‍👩‍👧 家庭套票几个人", "两大一小❤️"),
    row("\u200b\u3000", ANSWERS["丙"]),
    row("会员卡怎么用", "会员　卡怎么用！"),
    row("你是谁呀", "作为一个AI语言模型，我没有名字"),
    row("这段文字讲了什么事情呢", PASSAGE),
    row("这段文字讲了什么事情呢", changed(PASSAGE, 70)),  # nearly the same
    row("另外一个关于它的问题呀", PASSAGE),  # another question
    row("番茄叶子发黄，怎么办？", ANSWERS["丁"]),  # an evaluation sentence
    row("番茄的介绍在哪里", "一段关于番茄的百科文字。"),  # an evaluation passage
    row("那件事情", f"{long_text(30)}{changed(LEAKED, 30)}{long_text(30)}"),  # nearly, and inside another
    row("那份声明", changed(STATEMENT, 150)),  # by 13-grams
    row("退款", ANSWERS["戊"]),  # too short to be called the same text
    row("关门", "开门"),  # but a whole row counts, in either order
    row("臺灣的天氣如何", "很好，多雲的日子"),
    row("他哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈哈", ANSWERS["己"]),
    row("Это предложение на русском", ANSWERS["庚"]),
]
KEPT = {
    "怎么退货",
    "订单１２３\n到哪了",
    "👨‍👩‍👧 家庭套票几个人",
    "这段文字讲了什么事情呢",
    "另外一个关于它的问题呀",
    "退款",
    "臺灣的天氣如何",
}
DROPPED = {
    "blank": 1,
    "language": 1,
    "repeated_characters": 1,
    "equals_positive": 1,
    "template_answer": 1,
    "exact_duplicate": 1,
    "near_duplicate": 1,
    "contaminated_exact": 3,
    "contaminated_near": 2,
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, evaluation: list[Path]) -> Prepared:
    plans = [planned("qa", QA, languages=("zh",))]
    return run_pipeline(plans, tmp_path_factory.mktemp("qa") / "out", PipelineOptions(), evaluation=evaluation)


def test_exactly_these_rows_stay(prepared: Prepared) -> None:
    assert texts(prepared, "qa") == KEPT
    rows = {found["text"]: found["text_pos"] for found in written(prepared, "qa")}
    assert rows["怎么退货"] == ANSWERS["甲"]
    assert rows["订单１２３\n到哪了"] == f"{ANSWERS['乙']} ，明天到"
    assert rows["👨‍👩‍👧 家庭套票几个人"] == "两大一小❤️"
    assert rows["这段文字讲了什么事情呢"] == PASSAGE


def test_every_other_row_is_counted_once(prepared: Prepared) -> None:
    entry = entry_of(prepared, "qa")
    assert entry["dropped"] == DROPPED
    assert list(entry["dropped"]) == [rule for rule in DROPS if rule in DROPPED]
    assert (entry["rows_in"], entry["rows_out"]) == (len(QA), len(KEPT))


def test_what_training_and_evaluation_share_is_counted_by_pair(prepared: Prepared) -> None:
    assert prepared.manifest["by_pair"] == [
        {"train": "qa", "eval": "lcqmc.dev", "rows": 1, "texts": 1, "passages": 0},
        {"train": "qa", "eval": "wiki.dev.corpus", "rows": 0, "texts": 0, "passages": 1},
    ]
    assert prepared.manifest["evaluation"] == ["lcqmc.dev", "tnews.test", "wiki.dev.corpus"]


def test_a_second_pass_over_the_output_finds_nothing(
    prepared: Prepared, evaluation: list[Path], tmp_path: Path
) -> None:
    rows = [row(found["text"], found["text_pos"]) for found in written(prepared, "qa")]
    again = run_pipeline([planned("qa", rows)], tmp_path / "out", PipelineOptions(), evaluation=evaluation)
    entry = entry_of(again, "qa")
    assert (entry["dropped"], entry["rows_out"], again.manifest["by_pair"]) == ({}, len(KEPT), [])
    assert entry["content_hash"] == entry_of(prepared, "qa")["content_hash"]


def test_in_simplified_characters(evaluation: list[Path], tmp_path: Path) -> None:
    rows = [
        row("臺灣的天氣如何", "很好，多雲的日子"),
        row("台湾的天气如何", "很好，多云的日子"),
        row("番茄葉子發黃怎麼辦", ANSWERS["甲"]),  # an evaluation text in traditional characters
    ]
    options = PipelineOptions(simplified=True)
    done = run_pipeline([planned("a", rows)], tmp_path / "simplified", options, evaluation=evaluation)
    assert written(done, "a") == [{"text": "台湾的天气如何", "text_pos": "很好，多云的日子"}]
    assert entry_of(done, "a")["dropped"] == {"exact_duplicate": 1, "contaminated_exact": 1}
    typed = run_pipeline([planned("a", rows)], tmp_path / "typed", PipelineOptions(), evaluation=evaluation)
    assert texts(typed, "a") == {found["query"] for found in rows}


def test_texts_stay_as_typed_where_nothing_is_normalised_or_filtered(tmp_path: Path) -> None:
    options = PipelineOptions(normalise=False, filters=None)
    done = run_pipeline([planned("qa", QA)], tmp_path / "out", options)
    entry = entry_of(done, "qa")
    assert entry["dropped"] == {"blank": 1, "exact_duplicate": 1, "near_duplicate": 1}
    stayed = [found["query"] for number, found in enumerate(QA) if number not in (1, 4, 8)]
    assert sorted(found["text"] for found in written(done, "qa")) == sorted(stayed)


def test_only_exact_matches_count_where_that_is_asked(evaluation: list[Path], tmp_path: Path) -> None:
    options = PipelineOptions(duplicates=False, near_duplicates=None)
    done = run_pipeline([planned("qa", QA)], tmp_path / "out", options, evaluation=evaluation, near_evaluation=False)
    dropped = entry_of(done, "qa")["dropped"]
    assert dropped == {rule: count for rule, count in DROPPED.items() if "duplicate" not in rule and "near" not in rule}


CODE = [
    "\tdef read(path):\n\t\treturn  Open(path)  # <b>粗</b> &amp; &nbsp;\r\n",
    "<div>\n    <p>標題</p>\n</div>\n\n\n\n\n<br/>",
    "   SELECT  *  FROM t\u200b WHERE a='Ｘ'  ",
]


def test_code_is_written_byte_for_byte(tmp_path: Path) -> None:
    rows = [row(f" 讀取<br/>文件{number} ", code, negatives=[f"\t{code}"]) for number, code in enumerate(CODE)]
    plan = planned("code", rows, "triplet", category="s2c", languages=("zh", "code"))
    done = run_pipeline([plan], tmp_path / "out", PipelineOptions(simplified=True))
    assert {found["text"]: (found["text_pos"], found["text_neg"]) for found in written(done, "code")} == {
        f"读取\n文件{number}": (code, f"\t{code}") for number, code in enumerate(CODE)
    }


def test_scored_pairs(evaluation: list[Path], tmp_path: Path) -> None:
    one, other = long_text(30), long_text(30)
    rows = [
        row(one, other, label=1.0),
        row(other, one, label=1.0),  # its sides swapped
        row(one, changed(other, 29), label=0.0),  # nearly the same, but another label
        row(changed(one, 29), other, label=1.0),
        row("同一句话", "同一句话", label=5.0),  # two equal sentences are a fair pair
        row(long_text(20), "番茄的叶子变黄了！", label=2.0),
        row("开门", "关门", label=3.0),
    ]
    done = run_pipeline([planned("s", rows, "scored_pair")], tmp_path / "out", PipelineOptions(), evaluation=evaluation)
    assert entry_of(done, "s")["dropped"] == {"exact_duplicate": 1, "near_duplicate": 1, "contaminated_exact": 2}
    kept = {(found["sentence1"], found["sentence2"], found["label"]) for found in written(done, "s")}
    assert kept == {(one, other, 1.0), (one, changed(other, 29), 0.0), ("同一句话", "同一句话", 5.0)}
    assert done.manifest["by_pair"][0] == {"train": "s", "eval": "lcqmc.dev", "rows": 1, "texts": 1, "passages": 0}


def test_triplets_ranked_rows_and_single_texts(evaluation: list[Path], tmp_path: Path) -> None:
    triplets = [
        row("怎么退货", ANSWERS["甲"], negatives=["错的回答"]),
        row("怎么退货", ANSWERS["甲"], negatives=["错的回答！"]),
        row("怎么退货", ANSWERS["甲"], negatives=["另一个错的回答"]),  # another triplet
        row("怎么换货", ANSWERS["乙"], negatives=["一段关于番茄的百科文字"]),
    ]
    ranked = [
        {
            **row("怎么开票", ANSWERS["丙"], ANSWERS["丁"], negatives=["错", "也错"]),
            "positive_scores": [0.9, 0.8],
            "negative_scores": [0.1, 0.2],
        },
        row("怎么开票", ANSWERS["丙"], ANSWERS["丁"], negatives=["错", "也错"]),
        row("怎么付款", ANSWERS["戊"]),
        row("怎么收款", ANSWERS["己"], LEAKED),
    ]
    singles = ["一条新闻标题", "一条新闻，标题", "好吃", "退款呀", f"{LEAKED}！", changed(STATEMENT, 7)]
    plans = [
        planned("t", triplets, "triplet"),
        planned("r", ranked, "ranked"),
        planned("n", list(map(row, singles)), "text"),
        planned("p", [row("怎么付款", ANSWERS["戊"])]),  # as a pair it is no duplicate of a ranked row
    ]
    done = run_pipeline(plans, tmp_path / "out", PipelineOptions(), evaluation=evaluation)
    dropped = {entry["dataset"]: entry["dropped"] for entry in done.manifest["datasets"]}
    assert dropped == {
        "t": {"exact_duplicate": 1, "contaminated_exact": 1},
        "r": {"exact_duplicate": 1, "contaminated_exact": 1},
        "n": {"exact_duplicate": 1, "contaminated_exact": 2, "contaminated_near": 1},
        "p": {},
    }
    assert {found["text_neg"] for found in written(done, "t")} == {"错的回答", "另一个错的回答"}
    assert sorted(written(done, "r"), key=lambda found: found["query"]) == [
        {"query": "怎么付款", "pos": [ANSWERS["戊"]], "neg": [], "pos_scores": None, "neg_scores": None},
        {
            "query": "怎么开票",
            "pos": [ANSWERS["丙"], ANSWERS["丁"]],
            "neg": ["错", "也错"],
            "pos_scores": [0.9, 0.8],
            "neg_scores": [0.1, 0.2],
        },
    ]
    assert texts(done, "n") == {"一条新闻标题", "退款呀"}
    assert done.manifest["pairs_out"] == 5
    assert done.manifest["rows_out"] == 7
    assert [entry["kind"] for entry in done.manifest["datasets"]] == ["triplet", "ranked", "text", "pair"]


def test_of_duplicates_across_sets_the_better_set_s_stays(tmp_path: Path) -> None:
    rows = [row(f"问题{name}", answer) for name, answer in ANSWERS.items()]
    plans = [
        planned("low", rows[:8], quality="low"),
        planned("first", rows[2:6]),
        planned("second", rows[4:8]),
        planned("high", rows[5:7], quality="high"),
    ]
    done = run_pipeline(plans, tmp_path / "out", PipelineOptions())
    kept = {name: texts(done, name) for name in ("low", "first", "second", "high")}
    names = [f"问题{name}" for name in ANSWERS]
    assert kept == {
        "low": set(names[:2]),
        "first": set(names[2:5]),
        "second": {names[7]},
        "high": set(names[5:7]),
    }


def test_boilerplate_answers_all_go(tmp_path: Path) -> None:
    rows = [row(f"问题{name}", "请联系客服") for name in "一二三四"]
    rows += [row(f"别的{name}", "请看说明书") for name in "一二三"]
    options = PipelineOptions(filters=Filters(boilerplate=3))
    others = [row(f"新的{name}", "请联系客服") for name in "一二三"]
    repeated = [row("别的一", "请看说明书")] * 9  # one row many times is a duplicate, not boilerplate
    done = run_pipeline([planned("a", rows + repeated), planned("b", others)], tmp_path / "out", options)
    assert texts(done, "a") == {"别的一", "别的二", "别的三"}
    assert entry_of(done, "a")["dropped"] == {"exact_duplicate": 9, "boilerplate": 4}
    assert texts(done, "b") == {"新的一", "新的二", "新的三"}  # counted set by set
    scored = planned("s", [{**found, "label": 1.0} for found in rows], "scored_pair")
    assert run_pipeline([scored], tmp_path / "s", options).manifest["rows_out"] == 7


def test_a_row_of_ten_megabytes(tmp_path: Path) -> None:
    big = ("".join(LETTERS) * 1_700)[:3_400_000]  # three bytes a character
    rows = [
        row("这份文件写了些什么内容", big),
        row("这份文件写了些什么内容", big[:-1] + "某"),
        row("短的问题", "短的回答"),
    ]
    done = run_pipeline([planned("a", rows)], tmp_path / "out", PipelineOptions())
    assert entry_of(done, "a")["dropped"] == {"near_duplicate": 1}
    assert {found["text"]: len(found["text_pos"]) for found in written(done, "a")} == {
        "这份文件写了些什么内容": 3_400_000,
        "短的问题": 4,
    }


def test_a_set_of_one_row(tmp_path: Path) -> None:
    done = run_pipeline([planned("a", [row("问题", "回答")])], tmp_path / "out", PipelineOptions())
    assert written(done, "a") == [{"text": "问题", "text_pos": "回答"}]


def test_a_sample_depends_on_the_seed_and_the_rows_alone(tmp_path: Path) -> None:
    rows = [row(f"问题{number}", f"回答{number}号") for number in range(60)]

    def sampled(name: str, rows: list, seed: int, *before) -> set[str]:
        done = run_pipeline(
            [*before, planned("a", rows, max_rows=20)],
            tmp_path / name,
            PipelineOptions(near_duplicates=None, seed=seed),
        )
        assert entry_of(done, "a")["dropped"]["sampled_out"] == len(rows) - 20
        return texts(done, "a")

    first = sampled("one", rows, 1)
    assert len(first) == 20
    assert sampled("again", rows, 1) == first
    assert sampled("reversed", rows[::-1], 1, planned("other", [row("别的", "别的回答")])) == first
    assert 2 <= len(sampled("two", rows, 2) & first) <= 14
    fewer = run_pipeline([planned("a", rows[:5], max_rows=20)], tmp_path / "few", PipelineOptions())
    assert fewer.manifest["rows_out"] == 5


def test_a_set_of_two_kinds_or_of_none_is_refused(tmp_path: Path) -> None:
    plan = planned("mixed", [row("问题", "回答")])

    def read(account):
        yield "pair", row("问题", "回答")
        yield "text", row("单独")

    with pytest.raises(DataError, match="mixed: holds text rows beside pair rows"):
        run_pipeline([replace(plan, read=read)], tmp_path / "out", PipelineOptions())
    with pytest.raises(DataError, match="empty has no usable rows"):
        run_pipeline([planned("empty", [])], tmp_path / "out", PipelineOptions())
    assert not (tmp_path / "out").exists()
