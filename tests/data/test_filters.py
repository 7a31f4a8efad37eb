"""Each rule by rows that it must drop, beside rows that look alike and must stay."""

import re
from collections import Counter
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3e.data.filters import RULES, TEMPLATE_ANSWERS, Filters, Rows, Side, broken_rules
from m3e.data.keys import text_keys
from m3e.errors import SettingsError

OFF = Filters(
    min_query=0,
    min_passage=0,
    language_share=None,
    max_run=None,
    top_character_share=None,
    equals_positive=False,
    template_answers=False,
)


def side(lists: list[list[str]]) -> Side:
    texts = [text for items in lists for text in items]
    return Side(texts, text_keys(texts), np.repeat(np.arange(len(lists)), [len(items) for items in lists]))


def verdicts(filters: Filters, rows: list[tuple[str, list[str], list[str]]], **facts: Any) -> list[str]:
    made = Rows(
        len(rows),
        side([[row[0]] for row in rows]),
        side([row[1] for row in rows]),
        side([row[2] for row in rows]),
        **facts,
    )
    return ["" if code == 0 else RULES[code - 1] for code in broken_rules(filters, made).tolist()]


def pair(query: str, passage: str = "到前台填写退货单即可") -> tuple[str, list[str], list[str]]:
    return query, [passage], []


def test_blank_on_any_side() -> None:
    rows = [pair("\u200b　"), pair("问题", " \n"), ("问题", ["答"], ["错", "\ufeff"]), pair("？"), pair("👩")]
    assert verdicts(OFF, rows) == ["blank", "blank", "blank", "", ""]


def test_lengths_of_each_side() -> None:
    filters = replace(OFF, min_query=2, max_query=4, min_passage=3, max_passage=6)
    rows = [pair("问"), pair("问题"), pair("四个字啊"), pair("五个字了啊")]
    assert verdicts(filters, [(q, ["四个字啊"], []) for q, _, _ in rows]) == ["too_short", "", "", "too_long"]
    rows = [
        pair("问题", "两字"),
        pair("问题", "三个字"),
        pair("问题", "有六个字啊"),
        pair("问题", "这里有七个字"),
        pair("问题", "这里有七个字啊"),
    ]
    assert verdicts(filters, rows) == ["too_short", "", "", "", "too_long"]
    assert verdicts(filters, [("问题", ["三个字"], ["两字"]), ("问题", ["三个字", "两字"], [])]) == [
        "too_short",
        "too_short",
    ]


def test_both_sentences_of_a_scored_pair_are_queries() -> None:
    filters = replace(OFF, min_query=2, max_query=3, min_passage=10)
    assert verdicts(filters, [pair("问题", "答案"), pair("问题", "四个字啊")], scored=True) == ["", "too_long"]


@pytest.mark.parametrize(
    ("languages", "text", "stays"),
    [
        (("zh",), "今天的天气真的非常好啊朋友们", True),
        (("zh",), "This sentence has nothing Chinese in it, not one single character at all.", False),
        (("zh",), "iPhone 15 Pro Max", True),  # names are at home everywhere
        (("zh",), "Это предложение на русском языке", False),
        (("zh",), "これはひらがなだけのぶんしょうです", False),
        (("zh",), "如何用 Python 读取 CSV files into a DataFrame object quickly", True),
        (("en",), "今天的天气真的非常好啊朋友们", False),
        (("en",), "The weather is very nice today, my friends.", True),
        (("zh", "en"), "The weather is very nice today, my friends.", True),
        (("zh", "en"), "Это предложение на русском языке", False),
        (("zh", "code"), "def read(path): return open(path).read() # everything", True),
        (("ja",), "これはひらがなだけのぶんしょうです", True),  # of other languages nothing is judged
        (("zh",), "１２３４５６７８９０１２３４５６７８９０", True),
        (("zh",), "👩🚀" * 12, True),
    ],
)
def test_language(languages: tuple[str, ...], text: str, stays: bool) -> None:
    filters = replace(OFF, language_share=0.1)
    expected = "" if stays else "language"
    assert verdicts(filters, [pair(text, text), (text, [], [])], languages=languages) == [expected] * 2


def test_the_code_side_is_asked_for_lengths_alone() -> None:
    code = "x = 1\n" * 40 + "=" * 50 + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    filters = replace(Filters(), max_passage=1000)
    rows = [
        pair("读取一个文件的所有行", code),
        pair("读取", "y" * 1001),
        pair("The words of this question are all English ones and nothing else", "x"),
    ]
    assert verdicts(filters, rows, code=True) == ["", "too_long", "language"]


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("哈" * 6, True),
        ("好吃" + "哈" * 12, True),
        ("好吃" + "哈" * 13, False),
        ("好吃" + "-" * 40 + "真的", True),  # a rule between paragraphs
        ("好吃" + "-" * 40 + "哈" * 13, False),
        ("好吃\n\n" + "哈\n" * 13, True),
    ],
)
def test_runs_of_one_character(text: str, stays: bool) -> None:
    filters = replace(OFF, max_run=12)
    assert verdicts(filters, [pair(text), pair("问题", text)]) == ["" if stays else "repeated_characters"] * 2


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("哈" * 19, True),  # shorter than twenty
        ("哈哈好" * 7, False),
        ("哈哈好" * 5 + "哈好哈好哈", False),  # as far apart as can be
        ("哈好" * 10, True),
        ("哈" * 12 + "一二三四五六七八", True),  # exactly the share
        ("哈" * 13 + "一二三四五六七", False),
        ("一二三" + "." * 40, True),
    ],
)
def test_share_of_one_character(text: str, stays: bool) -> None:
    assert verdicts(replace(OFF, top_character_share=0.6), [pair(text)]) == ["" if stays else "repeated_characters"]


def test_text_equals_its_positive_by_key() -> None:
    filters = replace(OFF, equals_positive=True)
    rows = [
        pair("怎么退货？", "怎么 退货"),
        pair("怎么退货", "怎么退货呢"),
        ("ＡＢ", ["答", "ab"], []),
        ("问题", ["答"], ["问题"]),
    ]
    assert verdicts(filters, rows) == ["equals_positive", "", "equals_positive", ""]
    assert verdicts(filters, rows[:1], scored=True) == [""]


@pytest.mark.parametrize(
    ("answer", "stays"),
    [
        ("作为一个AI语言模型，我没有个人看法。", False),
        ("您好！作为一名人工智能助手，我认为……", False),
        ("我只是一个聊天机器人。", False),
        ("抱歉，我无法回答这个问题。", False),
        ("对不起，但我不能提供该信息", False),
        ("As an AI language model, I have no opinion.", False),
        ("I'm sorry, but I cannot help with that.", False),
        ("人工智能作为一个学科始于 1956 年。", True),
        ("抱歉让您久等了，快递明天送到。", True),
        ("作为一个父亲，我很自豪。", True),
        ("答" * 200 + "作为一个AI语言模型", True),  # not its beginning
        ("Sorry for the delay; it arrives tomorrow.", True),
    ],
)
def test_template_answers(answer: str, stays: bool) -> None:
    filters = replace(OFF, template_answers=True)
    assert verdicts(filters, [pair("你怎么看", answer)]) == ["" if stays else "template_answer"]
    assert verdicts(filters, [(answer, ["答案"], [])]) == [""]  # asked of answers only
    assert verdicts(filters, [pair("你怎么看", answer)], code=True) == [""]


def test_title_in_passage_where_the_card_asks() -> None:
    rows = [pair("退货流程", "《退货 流程》：先到前台"), pair("退货流程", "先到前台")]
    assert verdicts(OFF, rows, title_in_passage=True) == ["title_in_passage", ""]
    assert verdicts(OFF, rows) == ["", ""]


def test_the_first_rule_that_a_row_breaks_counts() -> None:
    filters = replace(Filters(), min_passage=5, max_query=30)
    rows = [
        pair("\u200b", "作为一个AI"),
        pair("问" * 31, "短"),
        pair("哈" * 31, "作为一个AI语言模型"),
        pair("Это предложение на русском", "哈" * 40),
        pair("作为一个AI语言模型", "作为一个AI语言模型"),
    ]
    assert verdicts(filters, rows) == ["blank", "too_short", "too_long", "language", "equals_positive"]


@given(
    st.lists(
        st.lists(st.sampled_from(["哈", "好", "-", " ", "一二三四五", "哈" * 6, "哈好" * 5]), max_size=12).map("".join)
    ),
    st.sampled_from([None, 1, 3, 12]),
    st.sampled_from([None, 0.0, 0.3, 0.5, 0.6, 0.9, 1.0]),
)
@settings(max_examples=300, deadline=None)
def test_repetitions_by_counting(texts: list[str], max_run: int | None, share: float | None) -> None:
    def repeats(text: str) -> bool:
        if share is not None and len(text) >= 20:
            counts = Counter(text)
            if any(count > share * len(text) for char, count in counts.items() if char in "哈好一二三四五"):
                return True
        runs = ((char, len(list(group))) for char, group in groupby(text))
        return max_run is not None and any(length > max_run for char, length in runs if char in "哈好一二三四五")

    filters = replace(OFF, max_run=max_run, top_character_share=share)
    expected = ["repeated_characters" if repeats(text) else "" if text_keys([text])[0] else "blank" for text in texts]
    assert verdicts(filters, [(text, [], []) for text in texts]) == expected


ANSWERS = [
    "作为一",
    "个",
    "AI",
    "我是",
    "我只是",
    "一个",
    "机器人",
    "大模型",
    "抱歉",
    "对不起",
    "，",
    "我",
    "无法",
    "回答",
]
ANSWERS += [
    "as an ",
    "as a ",
    "AI ",
    "Language Model",
    "I'm ",
    "i am ",
    "just ",
    "a ",
    "sorry",
    ", but i ",
    "cannot",
    "\n",
]


@given(st.lists(st.lists(st.sampled_from(ANSWERS), max_size=6).map("".join), max_size=6))
@settings(max_examples=300, deadline=None)
def test_template_answers_by_their_patterns(answers: list[str]) -> None:
    pattern = re.compile("|".join(TEMPLATE_ANSWERS), re.IGNORECASE | re.MULTILINE)
    filters = replace(OFF, template_answers=True)
    expected = ["template_answer" if pattern.search(text) else "" for text in answers]
    assert verdicts(filters, [("问", [text, "答案"], []) for text in answers if text_keys([text])[0]]) == [
        verdict for verdict, text in zip(expected, answers, strict=True) if text_keys([text])[0]
    ]


def test_no_rows_and_single_texts() -> None:
    assert verdicts(Filters(), []) == []
    assert verdicts(Filters(), [("一条文本", [], []), ("", [], [])]) == ["", "blank"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_quer": 1}, "no rule 'min_quer'; rules: min_query"),
        ({"min_query": 5, "max_query": 4}, "min_query 5 and max_query 4 leave no text"),
        ({"min_passage": -1}, "min_passage -1"),
        ({"language_share": 1.5}, "language_share is 1.5"),
        ({"top_character_share": -0.1}, "top_character_share is -0.1"),
        ({"max_query": "abc"}, "max_query cannot be 'abc'"),
        ({"min_query": "2"}, "min_query cannot be '2'"),
        ({"language_share": "viel"}, "language_share cannot be 'viel'"),
        ({"max_run": 0}, "max_run cannot be 0"),
        ({"boilerplate": 0}, "boilerplate cannot be 0"),
        ({"equals_positive": "no"}, "equals_positive cannot be 'no'"),
        ({"max_run": 2.5}, "max_run cannot be 2.5"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Filters.of(values)
    assert message in str(caught.value)


def test_settings_of_a_table() -> None:
    made = Filters.of({"max_query": 9, "language_share": 0, "max_run": None})
    assert (made.max_query, made.language_share, made.max_run, made.min_query) == (9, 0, None, 1)
