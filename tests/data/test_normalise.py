"""Tidy texts that say the same: what goes, what stays, and that doing it twice changes nothing."""

import builtins
import re
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from m3e.data import normalise as module
from m3e.data.keys import text_key
from m3e.data.normalise import normalise, normalise_all, to_simplified
from m3e.errors import MissingExtraError

HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
FRAGMENTS = [
    *("<p>", "</p>", "<br/>", "<br>", "<div>", "</div>", "<b>", "</b>", '<a href="x">', "</a>", "<img src=x>", "<"),
    *("<!--", "-->", "<script>", "</script>", ">", "=", "/", "<span", " a", '"', "'", "</", "<p", "br", "b"),
]
ENTITIES = ["&", "amp;", "&nbsp;", "&lt;", "&gt;", "&#38;", "#x26;", "&#96;", "&#10;", "&#8203;", "&#0;", "&quot;", ";"]
BLANKS = [
    " ",
    "  ",
    "\n",
    "\n\n\n",
    "\r\n",
    "\t",
    "\u3000",
    "\u00a0",
    "\u2028",
    "\x85",
    "\x0b",
    "\x1f",
    "\ufeff",
    "\u200b",
]
JOINED = ["\u200d", "\u200c", "👩", "🚀", "❤", "\ufe0f", "🏽", "a", "中", "ب", "\U0001f1e8", "\U0001f1f3"]
CODE = ["`", "``", "```", "```python\n", "x = 1", "\n", "  ", "<b>", "</b>", "&lt;"]
CJK = ["退货", "，", "？", "１２３", "。", "國", "臺灣", "乾", "薴", "著", "〇", "𠮷"]


def mixed(*parts: list[str], size: int = 14) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from([item for part in parts for item in part]), max_size=size).map("".join)


TEXTS = st.one_of(
    st.text(st.characters(), max_size=20),
    mixed(FRAGMENTS, CJK),
    mixed(ENTITIES, FRAGMENTS, CJK),
    mixed(BLANKS, CJK, CODE),
    mixed(JOINED, BLANKS),
    mixed(FRAGMENTS, ENTITIES, BLANKS, JOINED, CODE, CJK, size=24),
)
thorough = settings(max_examples=600, deadline=None)


@given(TEXTS)
@example("&" + "amp;" * 30 + "lt;")
@example("</b" * 20 + ">" * 20 + "中")
@example("</b" * 80 + ">" * 80 + "中")
@thorough
def test_done_twice_it_is_the_same(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


@given(mixed(FRAGMENTS, ENTITIES, BLANKS, CODE, CJK, size=20))
@settings(max_examples=200, deadline=None)
@example("薴")
def test_done_twice_it_is_the_same_in_simplified_characters(text: str) -> None:
    once = normalise(text, simplified=True)
    assert normalise(once, simplified=True) == once


@given(TEXTS)
@thorough
def test_chinese_is_never_emptied_nor_anything_visible(text: str) -> None:
    once = normalise(text)
    assert bool(HAN.search(once)) == bool(HAN.search(text)) or not HAN.search(text)
    if text.strip():
        assert once.strip()


@given(st.text(st.sampled_from("退货怎么办国台干，。？！、；：“”《》…—１２ａＢabc19()+-*/=.,%￥"), max_size=20))
@settings(max_examples=200, deadline=None)
def test_ordinary_text_is_not_touched(text: str) -> None:
    assert normalise(text) == text


@given(st.text("abc <>&;/=\tbr中 \u3000\u200b", min_size=1, max_size=12), mixed(FRAGMENTS[:9], CJK, size=6))
@settings(max_examples=200, deadline=None)
def test_code_in_backticks_is_not_touched(code: str, around: str) -> None:
    for quoted in (f"`{code}`", f"```\n{code}\n```"):
        text = f"{around}怎么用{quoted}呢"
        assert quoted in normalise(text)
        assert quoted in normalise(text, simplified=True)


@pytest.mark.parametrize(
    ("text", "tidy"),
    [
        ("<p>退货<br/>怎么办&nbsp;？</p>", "退货\n怎么办 ？"),
        ("  前\u3000后\t中 \n\n\n\n 末 \r\n", "前 后 中\n\n末"),
        ("零\u200b宽\ufeff\u00ad\u2060字\x07符", "零宽字符"),
        ("&lt;br&gt;换行", "换行"),
        ("A&amp;B&#20013;&ldquo;引&rdquo;", "A&B中“引”"),
        ('<a href="http://x.cn/?a=1&amp;b=2" target=_blank>链接</a>在此', "链接在此"),
        ('<img src="a.png"alt="图"/>有图', "有图"),
        ("<!-- 注 -->正文<script>var 甲=1</script></div>", "正文"),
        ("<SPAN STYLE='x'>大写</SPAN>", "大写"),
        ("半\ud83d个", "半个"),
        ("a\u200db 中\u200d文", "ab 中文"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("&amp;amp;amp;amp;amp;amp;amp;amp;amp;amp;amp;lt;x", "<x"),
    ],
)
def test_what_goes(text: str, tidy: str) -> None:
    assert normalise(text) == tidy


@pytest.mark.parametrize(
    "text",
    [
        "<div> 标签怎么用",
        "<div>和<span>标签有什么区别",
        "若0<a 且 b=1 而 c>2 成立",
        "已知 x<p 且 q>1，y<a and b=2，c>0",
        "List<String> 与 vector<int> 的区别",
        "１２３，ＡＢＣ！？“引号”《书》…——",
        "👨‍👩‍👧 ❤️‍🔥 👩🏽‍🚀 🏳️‍🌈 🇨🇳 1️⃣",
        "a && b || c &foo; &#10; R&D",
        "`<br/>` 和 `a &nbsp; b` 的用法",
        "```\n\tif a <b> c:\n\n\n\n  x&nbsp;\n```",
        "1 < 2 > 0",
        "第一行\n第二行\n\n第三段",
        "臺灣的資訊",
        "<br>",
    ],
)
def test_what_stays(text: str) -> None:
    assert normalise(text) == text


def test_a_closing_tag_elsewhere_does_not_cost_a_formula() -> None:
    assert normalise("<b>解</b>：若0<a 且 b>1，则0<p 或 q>2") == "解：若0<a 且 b>1，则0<p 或 q>2"


def test_simplified_only_when_asked() -> None:
    text = "臺灣的資訊與軟體，`資訊`，乾坤與餅乾"
    assert normalise(text) == text
    assert normalise(text, simplified=True) == "台湾的资讯与软体，`資訊`，乾坤与饼干"
    assert to_simplified("`資訊`") == "`资讯`"
    assert normalise_all([" 軟體 ", "a"], simplified=True) == ["软体", "a"]
    assert normalise_all([" 軟體 ", "a"]) == ["軟體", "a"]


@given(st.text("退货怎么办，。 \u3000\u200b\tab１", max_size=20))
@settings(max_examples=200, deadline=None)
def test_the_key_of_plain_text_does_not_change(text: str) -> None:
    assert text_key(normalise(text)) == text_key(text)


def test_a_very_long_text_takes_no_long_time() -> None:
    text = ("<p>退货 &amp; 换货</p>" * 40_000) + "末&" + "amp;" * 200_000
    assert normalise(text) == "退货 & 换货\n\n" * 39_999 + "退货 & 换货\n末&"


@given(st.lists(TEXTS, max_size=8))
@settings(max_examples=300, deadline=None)
def test_many_texts_at_once_are_each_text_s_own(texts: list[str]) -> None:
    assert normalise_all(texts) == [normalise(text) for text in texts]


def test_many_texts_at_once_whatever_their_characters() -> None:
    texts = [text for point in range(0x10000) for text in (f"中{chr(point)}", f"中{chr(point)}文")]
    assert normalise_all(texts) == [normalise(text) for text in texts]


def test_opencc_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments, **named):
        if name == "opencc":
            raise ImportError(name)
        return real(name, *arguments, **named)

    module._simplifier.cache_clear()
    monkeypatch.delitem(sys.modules, "opencc", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert normalise("軟體") == "軟體"
    with pytest.raises(MissingExtraError, match=r"opencc.*m3e\[data\]"):
        normalise("軟體", simplified=True)
    module._simplifier.cache_clear()
