from __future__ import annotations

import math
import sys

import pytest

from m3e.errors import DataError, MissingExtraError, SettingsError
from m3e.inference.words import words
from m3e.retrieval.bm25 import BM25

TEXTS = [
    "订单怎么退货，退货要多久",
    "今天天气很好，我们去公园散步",
    "番茄的叶子发黄怎么办",
    "How to reset my password",
    "发票在会员中心下载",
]


def lucene(texts: list[str], query: str, k1: float = 1.5, b: float = 0.75) -> list[float]:
    """BM25 by its formula, one text after the other."""
    documents = [words(text) for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in words(query):
            containing = sum(word in other for other in documents)
            rarity = math.log(1 + (len(documents) - containing + 0.5) / (containing + 0.5))
            count = document.count(word)
            score += rarity * count / (count + k1 * (1 - b + b * len(document) / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize("query", ["退货怎么办", "password reset", "会员的发票", "公园公园"])
def test_scores_are_those_of_the_formula(query: str) -> None:
    index = BM25.build(TEXTS)
    expected = lucene(TEXTS, query)
    assert index.scores(query, ["0", "1", "2", "3", "4"]) == pytest.approx(expected, abs=1e-5)
    [hits] = index.search([query], 5)
    order = sorted((row for row in range(5) if expected[row] > 0), key=lambda row: -expected[row])
    assert [hit.id for hit in hits] == [str(row) for row in order]


def test_traditional_and_simplified_are_one_script() -> None:
    simplified, traditional = ["订单退货", "学习汉语", "软件发票"], ["訂單退貨", "學習漢語", "軟件發票"]
    for texts in (simplified, traditional):
        index = BM25.build(texts)
        for queries in (simplified, traditional):
            assert [hits[0].id for hits in index.search(queries, 3)] == ["0", "1", "2"]
    first, second = (BM25.build(texts).search(["退貨", "汉语"], 3) for texts in (simplified, traditional))
    assert first == second


@pytest.mark.parametrize(
    ("left", "right"),
    [("Passwords", "password"), ("PARTIES", "party"), ("ＡＢＣ", "abc"), ("Classes", "classe"), ("status", "status")],
)
def test_case_width_and_plurals_do_not_matter(left: str, right: str) -> None:
    assert words(left) == words(right)


def test_words_leave_out_what_is_no_word() -> None:
    assert words("，。！ 😀 \u200b --- …") == []
    assert words("get_user_name(x)") == ["get", "user", "name", "x"]
    assert set(words("南京市长江大桥")) >= {"南京", "南京市", "长江", "大桥", "长江大桥"}


def test_documents_without_a_word_are_never_found() -> None:
    index = BM25.build(["", "退货", "　\u200b", "。。"], ids=[10, 11, 12, 13])
    assert index.empty == ["10", "12", "13"]
    assert index.search(["退货", ""], 9) == [[(("11"), pytest.approx(index.scores("退货", ["11"])[0]))], []]
    assert index.scores("退货", ["10", "11", "unknown"])[::2] == [0, 0]


def test_an_index_of_nothing_finds_nothing() -> None:
    assert BM25.build([]).search(["退货"], 3) == [[]]
    assert BM25.build(["", " "]).search(["退货"], 3) == [[]]


def test_ties_keep_the_order_of_the_index_whatever_k() -> None:
    index = BM25.build(["退货"] * 50 + ["退货退货"] * 2, ids=range(52))
    whole = [hit.id for hit in index.search(["退货"], 52)[0]]
    assert whole == ["50", "51", *map(str, range(50))]
    for k in (1, 3, 17, 51):
        assert [hit.id for hit in index.search(["退货"], k)[0]] == whole[:k]


def test_what_cannot_be_an_index_is_refused() -> None:
    with pytest.raises(DataError, match="one id for each text"):
        BM25.build(["a", "b"], ids=["1"])
    with pytest.raises(DataError, match="two documents have one id"):
        BM25.build(["a", ""], ids=[1, "1"])
    with pytest.raises(SettingsError, match="k1"):
        BM25.build(["a"], b=2)
    with pytest.raises(SettingsError, match="at least 1"):
        BM25.build(["a"]).search(["a"], 0)


@pytest.mark.parametrize(("package", "extra"), [("bm25s", "eval"), ("jieba", "eval"), ("opencc", "data")])
def test_what_it_needs_is_an_extra(monkeypatch: pytest.MonkeyPatch, package: str, extra: str) -> None:
    from m3e.data import normalise
    from m3e.inference import words as module

    monkeypatch.setitem(sys.modules, package, None)
    for cached in (module._segmenter, normalise._simplifier):
        cached.cache_clear()
    try:
        with pytest.raises(MissingExtraError, match=rf"m3e\[{extra}\]"):
            BM25.build(["退货"])
    finally:
        for cached in (module._segmenter, normalise._simplifier):
            cached.cache_clear()
