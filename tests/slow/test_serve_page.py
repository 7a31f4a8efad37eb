"""The page of ``m3e serve`` in a real browser, against a real server."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from m3e import Encoder
from tests.slow.processes import run_m3e
from tests.slow.served import served

pytestmark = pytest.mark.slow

KEY = "k-page-123"
MARKED = "<img src=x onerror=alert(1)><script>alert(2)</script> & <b>粗</b>"
SENTENCES = [
    "今天天气真好",
    "外面阳光明媚，去散步吧",
    "怎么申请退货？",
    "How do I return an item?",
    MARKED,
    "🙂 表情 ２０２６",
]
PASSAGES = ["荷花在夏天开放", "七天内商品完好可以申请退货", "Goods can be returned within seven days", MARKED]
DOCUMENTS: list[dict[str, Any]] = [
    {"id": "d1", "text": "荷花在六月到八月开放，清晨最盛。", "topic": "园艺"},
    {"id": "d2", "text": "自行车链条生锈要先清洗，再上链条油。", "topic": "骑行", "year": 2024},
    {"id": "d3", "text": MARKED, "topic": "<i>斜</i>"},
    {"id": "007", "text": "七天内可以无理由退货。", "topic": "售后"},
]
TABS = ("similarity", "ranking", "search", "card", "client")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
VISIBLE_WORDS = """() => [...document.querySelectorAll('[data-words]')]
    .filter(node => node.checkVisibility() && !node.closest('option')).map(node => node.textContent)"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a store, without a key."""
    folder = tmp_path_factory.mktemp("serve")
    rows = folder / "documents.jsonl"
    rows.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in DOCUMENTS), "utf-8")
    run_m3e("index", rows, "--store", folder / "store", "--model", "m3e-tiny")
    with served(folder / "log", "m3e-tiny", "--dtype", "fp32", "--store", folder / "store") as address:
        yield address


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a key, without a store."""
    with served(tmp_path_factory.mktemp("locked") / "log", "m3e-tiny", "--dtype", "fp32", "--api-key", KEY) as address:
        yield address


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder("m3e-tiny", dtype="fp32", device="cpu")


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """``open_page(address, tab, …) -> page``; afterwards, only that address may have been asked, without an error."""
    seen: list[str] = []
    requests: set[str] = set()
    addresses: set[str] = set()
    contexts = []

    def opened(
        address: str,
        tab: str = "similarity",
        *,
        width: int = 1200,
        locale: str = "en-US",
        scheme: str = "light",
        failures: bool = False,
    ) -> Any:
        addresses.add(address)
        context = browser.new_context(viewport={"width": width, "height": 800}, locale=locale, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        if not failures:  # the browser itself notes an answer such as 401 in its console
            page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("dialog", lambda dialog: (seen.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: requests.add(request.url))
        page.goto(f"{address}/#{tab}", wait_until="load")
        page.wait_for_selector("#facts li, #card-error:not([hidden])")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert seen == []
    asked = {url for url in requests if not url.startswith("data:")}
    assert not {url for url in asked if not any(url.startswith(f"{address}/") for address in addresses)}


def go(page: Any, tab: str) -> None:
    """Send a panel's form and wait until the page is done with it."""
    page.locator(f"#{tab} .go").click()
    page.wait_for_selector(f"#{tab} .go:not([aria-disabled])")


def compare(page: Any, sentences: list[str]) -> None:
    page.fill("#sentences", "\n".join(sentences))
    go(page, "similarity")


def rank(page: Any, query: str, passages: list[str]) -> None:
    page.fill("#query", query)
    page.fill("#passages", "\n".join(passages))
    go(page, "ranking")


def look_for(page: Any, query: str, mode: str = "dense", count: int = 10) -> None:
    page.fill("#search-query", query)
    page.select_option("#mode", mode)
    page.fill("#top-k", str(count))
    go(page, "search")


def texts(page: Any, selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


# ---- what it shows


def test_the_heat_map_shows_the_encoders_cosines(open_page: Any, server: str, encoder: Encoder) -> None:
    page = open_page(server)
    compare(page, SENTENCES)
    vectors = encoder.encode_document(SENTENCES)
    wanted = vectors @ vectors.T
    shown = [[float(text) for text in texts(page, f".heat tbody tr:nth-child({row + 1}) td")] for row in range(6)]
    assert np.abs(np.array(shown) - wanted).max() <= 0.0051
    for kind in ("thead", "tbody"):
        heads = [head.text_content() for head in page.locator(f".heat {kind} th").all()]
        assert [head.removeprefix(str(number)) for number, head in enumerate(heads, 1)] == [
            text if len(text) <= 40 else f"{text[:40]}…" for text in SENTENCES
        ]
    page.locator(".heat tbody tr:nth-child(2) td").nth(3).click()
    assert texts(page, ".pair p") == [SENTENCES[1], SENTENCES[3]]
    assert float(page.locator(".pair strong").inner_text().rpartition(" ")[2]) == pytest.approx(wanted[1, 3], abs=6e-5)
    closest = sorted(((wanted[i, j], i, j) for i in range(6) for j in range(i + 1, 6)), reverse=True)[:5]
    assert [float(text) for text in texts(page, "#similarity .ranked .score")] == pytest.approx(
        [score for score, _, _ in closest], abs=6e-5
    )
    assert texts(page, "#similarity .ranked .passage") == [SENTENCES[k] for _, i, j in closest for k in (i, j)]
    assert "6 sentences" in page.locator("#similarity .status").inner_text()


def test_a_higher_cosine_has_a_stronger_colour(open_page: Any, server: str) -> None:
    page = open_page(server)
    compare(page, [*SENTENCES, SENTENCES[0] + "！"])  # whatever the model, two are near
    cells = page.evaluate(
        """() => [...document.querySelectorAll('.heat tbody td:not(.itself)')].map(cell =>
            [Number(cell.textContent), Number(getComputedStyle(cell).backgroundColor.match(/oklab\\(([\\d.]+)/)[1])])"""
    )
    ordered = sorted(cells)
    lightness = [light for _, light in ordered]
    assert all(late <= early + 0.02 for early, late in itertools.pairwise(lightness))
    assert lightness[0] > lightness[-1] + 0.05


def test_cells_are_walked_by_keyboard(open_page: Any, server: str) -> None:
    page = open_page(server)
    compare(page, SENTENCES)
    page.locator(".heat tbody td").first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    assert texts(page, ".pair p") == [SENTENCES[1]]  # the second with itself
    page.keyboard.press("End")
    assert texts(page, ".pair p") == [SENTENCES[1], SENTENCES[5]]
    page.keyboard.press("ArrowRight")
    assert texts(page, ".pair p") == [SENTENCES[1], SENTENCES[5]]
    assert page.locator(".heat td[tabindex='0']").count() == 1


def test_passages_are_ranked_as_the_encoder_ranks_them(open_page: Any, server: str, encoder: Encoder) -> None:
    page = open_page(server, "ranking")
    asked: dict[str, list[str]] = {}
    page.on("request", lambda request: asked.update({request.post_data_json["model"]: request.post_data_json["input"]}))
    rank(page, "买的东西能退吗", PASSAGES)
    assert asked == {"m3e-tiny": PASSAGES, "m3e-tiny:query": ["买的东西能退吗"]}
    scores = encoder.encode_document(PASSAGES) @ encoder.encode_query(["买的东西能退吗"])[0]
    order = np.argsort(-scores)
    assert texts(page, "#ranking .ranked .passage") == [PASSAGES[index] for index in order]
    assert [float(text) for text in texts(page, "#ranking .score")] == pytest.approx(scores[order].tolist(), abs=6e-5)
    widths = [bar.bounding_box()["width"] for bar in page.locator("#ranking .bar div").all()]
    low = np.floor(scores.min() * 10) / 10
    whole = page.locator("#ranking .bar").first.bounding_box()["width"]
    assert widths == pytest.approx(((scores[order] - low) / (1 - low) * whole).tolist(), abs=2.5)


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_the_store_is_searched(open_page: Any, server: str, mode: str) -> None:
    page = open_page(server, "search")
    assert "4" in page.locator("#store").inner_text()
    look_for(page, "自行车链条", mode, 3)
    body = json.dumps({"query": "自行车链条", "top_k": 3, "mode": mode}).encode()
    request = urllib.request.Request(f"{server}/v1/search", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        hits = json.load(answer)["hits"]
    assert hits[0]["id"] == "d2"
    assert texts(page, "#search .ranked .passage") == [hit["text"] for hit in hits]
    assert [float(text) for text in texts(page, "#search .score")] == pytest.approx(
        [hit["score"] for hit in hits], abs=6e-5
    )
    notes = page.locator("#search .notes").first.inner_text()
    assert all(part in notes for part in ("id d2", "topic: 骑行", "year: 2024"))


def test_the_model_and_its_card_are_shown(open_page: Any, server: str) -> None:
    page = open_page(server, "card")
    assert page.title() == "m3e-tiny · text embeddings"
    assert page.locator("h1").inner_text() == "m3e-tiny"
    facts = page.locator("#card-facts").inner_text()
    assert all(part in facts for part in ("m3e-tiny:query", "384", "512", "fp32"))
    assert page.locator("#card-text li").count() > 3
    assert page.locator("#card-text pre code").first.inner_text().startswith("from sentence_transformers")


# ---- client code


def test_the_snippets_run_as_they_are_copied(open_page: Any, server: str) -> None:
    page = open_page(server, "client")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    codes = texts(page, ".snippet code")
    names = texts(page, ".snippet h3")
    assert names == ["Python · openai", "curl", "Python · LangChain"]
    for place, code in enumerate(codes):
        page.locator(".snippet button").nth(place).click()
        page.locator(".snippet").nth(place).get_by_text("Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()").strip() == code.strip()
        assert f"{server}/v1" in code
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    if shutil.which("curl"):
        done = subprocess.run(codes[1], shell=True, capture_output=True, text=True, timeout=60, check=True)
        assert [len(item["embedding"]) for item in json.loads(done.stdout)["data"]] == [384, 384]
    pytest.importorskip("openai", reason="wants openai: pip install openai")
    done = subprocess.run(
        [sys.executable, "-c", codes[0]], capture_output=True, text=True, timeout=120, check=True, env=environment
    )
    assert done.stdout.split() == ["2", "384"]


# ---- keys


def test_a_key_is_asked_for_kept_in_the_tab_and_never_shown(open_page: Any, locked: str) -> None:
    page = open_page(locked, failures=True)
    assert page.locator("#tab-search").is_hidden()  # there is no store
    assert page.locator("#key").is_visible()
    compare(page, SENTENCES)
    assert page.locator("#similarity .error").inner_text() == "The key is missing or wrong. Please check the key above."
    assert page.evaluate("document.activeElement.id") == "key"
    page.keyboard.type("wrong")
    go(page, "similarity")
    assert page.locator("#similarity .error").is_visible()
    page.fill("#key", "密钥")
    go(page, "similarity")
    assert "characters that cannot be sent" in page.locator("#similarity .error").inner_text()
    page.fill("#key", KEY)
    go(page, "similarity")
    assert page.locator("#similarity .error").is_hidden()
    assert page.locator(".heat tbody tr").count() == 6
    page.locator("#tab-client").click()
    snippets = "".join(texts(page, ".snippet code"))
    assert snippets.count("YOUR-KEY") == 3
    assert KEY not in page.content()
    page.reload()
    page.wait_for_selector("#facts li")
    page.locator("#tab-similarity").click()
    compare(page, SENTENCES)
    assert page.locator(".heat tbody tr").count() == 6
    assert KEY not in page.evaluate("JSON.stringify(localStorage)")
    assert KEY not in page.url


def test_without_keys_none_is_asked_for(open_page: Any, server: str) -> None:
    assert open_page(server).locator("#key-form").is_hidden()


# ---- languages


def test_the_browsers_language_is_used_and_another_one_is_remembered(open_page: Any, server: str) -> None:
    page = open_page(server, locale="zh-CN")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert "句子" in page.locator("label[for=sentences]").inner_text()
    compare(page, ["one", "two"])
    rank_tab = page.locator("#tab-ranking")
    assert rank_tab.inner_text() == "排序"
    page.get_by_role("button", name="English").click()
    assert page.evaluate("document.documentElement.lang") == "en"
    assert "2 sentences" in page.locator("#similarity .status").inner_text()
    assert page.title() == "m3e-tiny · text embeddings"
    assert page.locator("table.heat").get_attribute("aria-label") == "Heat map of cosine similarities"
    for tab in TABS:
        page.locator(f"#tab-{tab}").click()
        assert not [text for text in page.evaluate(VISIBLE_WORDS) if CHINESE.search(text)], tab
    page.reload()
    page.wait_for_selector("#facts li")
    assert page.locator("#tab-ranking").inner_text() == "Ranking"
    page.get_by_role("button", name="中文").click()
    for tab in TABS:
        page.locator(f"#tab-{tab}").click()
        assert not [text for text in page.evaluate(VISIBLE_WORDS) if not CHINESE.search(text)], tab


def test_samples_change_with_the_language_but_typed_texts_stay(open_page: Any, server: str) -> None:
    page = open_page(server, locale="en-GB")
    assert "Lovely weather" in page.input_value("#sentences")
    page.locator("#tab-ranking").click()
    page.fill("#query", "my own query")
    page.get_by_role("button", name="中文").click()
    assert "今天天气真好" in page.input_value("#sentences")
    assert page.input_value("#query") == "my own query"
    assert CHINESE.search(page.input_value("#passages"))


@pytest.mark.parametrize("locale", ["zh-TW", "fr-FR"])
def test_other_languages_get_the_nearer_of_the_two(open_page: Any, server: str, locale: str) -> None:
    page = open_page(server, locale=locale)
    assert page.evaluate("document.documentElement.lang") == ("zh-CN" if locale == "zh-TW" else "en")


# ---- texts stay texts


def test_html_in_texts_stays_text(open_page: Any, server: str) -> None:
    page = open_page(server)
    compare(page, [MARKED, "b"])
    page.locator("#tab-ranking").click()
    rank(page, MARKED, [MARKED, f"{MARKED}{'长' * 400}"])
    page.locator("#tab-search").click()
    look_for(page, MARKED)
    for tab in ("similarity", "ranking", "search"):
        result = page.locator(f"#{tab} .result")
        assert MARKED in result.text_content()
        assert result.locator("img, script, b:not(th b), i").count() == 0
    assert "topic: <i>斜</i>" in page.locator("#search .result").text_content()


CARD = """# A <b>model</b>

A *calm* and **bold** `code <i>` [link](https://example.org/a) [bad](javascript:alert(1)) ![a picture](https://example.org/p.png)
snake_case_name stays, 2 * 3 * 4 too.

<script>alert(3)</script>
<!-- a comment
of two lines -->

- first
  - inner
- second
  wrapped

3. three
4. four

| task | score |
|:---|---:|
| T\\|ask | **0.5** |

```python
x = "<!-- kept -->"
# not a heading
```

> quoted

---
last
"""


def test_cards_are_drawn_as_text_with_a_structure(open_page: Any, server: str) -> None:
    with urllib.request.urlopen(f"{server}/card") as answer:
        card = json.load(answer) | {
            "card": CARD,
            "languages": "zh, en",
            "licence": None,
            "max_length": None,
            "prompts": {},
        }
    page = open_page(server, "card")
    page.route("**/card", lambda route: route.fulfill(json=card))
    page.reload()
    page.wait_for_selector("#card-text h3")
    body = page.locator("#card-text")
    assert body.locator("h3").inner_text() == "A <b>model</b>"
    assert body.locator("p").first.inner_text() == (
        "A calm and bold code <i> link bad a picture\nsnake_case_name stays, 2 * 3 * 4 too."
    )
    assert texts(page, "#card-text em") == ["calm"]
    assert texts(page, "#card-text p strong") == ["bold"]
    links = body.locator("a")
    assert links.count() == 1
    assert links.get_attribute("href") == "https://example.org/a"
    assert "noopener" in links.get_attribute("rel")
    assert body.locator("img, script, b, i").count() == 0
    assert "<script>alert(3)</script>" in body.inner_text()
    assert "a comment" not in body.inner_text()
    assert texts(page, "#card-text > ul > li > ul > li") == ["inner"]
    assert [text.split("\n")[0] for text in texts(page, "#card-text > ul > li")] == ["first", "second"]
    assert body.locator("ol").get_attribute("start") == "3"
    assert texts(page, "#card-text td") == ["T|ask", "0.5"]
    assert body.locator("pre").inner_text() == 'x = "<!-- kept -->"\n# not a heading'
    assert texts(page, "#card-text blockquote p") == ["quoted"]
    assert page.locator("#facts").inner_text().split("\n")[1].startswith("any length")


# ---- refusals

ANSWERS = [
    (429, {"Retry-After": "7"}, {"error": {"message": "busy"}}, "7 seconds", "7 秒"),
    (429, {}, {"error": {"message": "busy"}}, "in a moment", "稍后再试"),
    (400, {}, {"error": {"message": "<b>index 3</b> is empty"}}, "<b>index 3</b> is empty", "<b>index 3</b> is empty"),
    (413, {}, {"error": {"message": "at most 5 bytes"}}, "at most 5 bytes", "at most 5 bytes"),
    (500, {}, {"error": {"message": "x"}}, "(500)", "（500）"),
    (502, {"Content-Type": "text/html"}, "<html>bad gateway</html>", "(502)", "（502）"),
    (503, {}, {"error": {"message": "x"}}, "stopping or not ready", "正在停止"),
    (200, {"Content-Type": "text/html"}, "<html>hello</html>", "makes no sense", "读不懂"),
    (200, {}, {"data": [{"index": 0, "embedding": "AAAA"}]}, "makes no sense", "读不懂"),
    (200, {}, {"data": [{"index": i, "embedding": "AADAfw=="} for i in (0, 1)]}, "makes no sense", "读不懂"),  # NaN
    (None, {}, "", "cannot be reached", "连不上"),
]


@pytest.mark.parametrize(("status", "headers", "body", "english", "chinese"), ANSWERS)
def test_refusals_are_told_in_the_readers_language(
    open_page: Any, server: str, status: int | None, headers: dict[str, str], body: Any, english: str, chinese: str
) -> None:
    page = open_page(server, failures=True)
    compare(page, ["a", "b"])
    assert page.locator(".heat").count() == 1
    text = body if isinstance(body, str) else json.dumps(body)
    answer = {"status": status, "headers": {"Content-Type": "application/json"} | headers, "body": text}
    page.route("**/v1/embeddings", lambda route: route.fulfill(**answer) if status else route.abort())
    go(page, "similarity")
    error = page.locator("#similarity .error")
    assert english in error.inner_text()
    assert error.get_attribute("role") == "alert"
    assert page.locator(".heat").count() == 0, "no old answer stands beside a refusal"
    page.locator("#language").click()
    assert chinese in error.inner_text()
    page.unroute("**/v1/embeddings")
    go(page, "similarity")
    assert error.is_hidden()
    assert page.locator(".heat").count() == 1


def test_a_missing_card_is_told_and_the_page_still_stands(open_page: Any, server: str) -> None:
    page = open_page(server, failures=True)
    page.route("**/card", lambda route: route.abort())
    page.reload()
    page.wait_for_selector("#card-error:not([hidden])")
    assert "cannot be reached" in page.locator("#card-error").inner_text()
    page.unroute("**/card")
    compare(page, ["a", "b"])
    assert page.locator(".heat").count() == 1


@pytest.mark.parametrize(
    ("tab", "fields", "told"),
    [
        ("similarity", {"#sentences": ""}, "at least two sentences"),
        ("similarity", {"#sentences": "one\n \n\n"}, "at least two sentences"),
        ("similarity", {"#sentences": "a\n" * 201}, "There are 201 sentences here, and the heat map draws 200"),
        ("ranking", {"#query": " "}, "Write a query"),
        ("ranking", {"#passages": "\n\n"}, "at least one passage"),
        ("ranking", {"#passages": "a\n" * 1001}, "1001 passages here, and 1000 at most"),
        ("search", {"#search-query": "  "}, "what to look for"),
        ("search", {"#search-query": "a", "#top-k": "0"}, "between 1 and 100"),
        ("search", {"#search-query": "a", "#top-k": ""}, "between 1 and 100"),
        ("search", {"#search-query": "a", "#top-k": "2.5"}, "between 1 and 100"),
    ],
)
def test_input_that_cannot_be_used_is_told_without_asking_the_server(
    open_page: Any, server: str, tab: str, fields: dict[str, str], told: str
) -> None:
    page = open_page(server, tab)
    page.route("**/v1/**", lambda route: route.abort())
    for field, value in fields.items():
        page.fill(field, value)
    go(page, tab)
    assert told in page.locator(f"#{tab} .error").inner_text()
    assert page.locator(f"#{tab} .result > *").count() == 0


def test_two_hundred_sentences_and_long_texts(open_page: Any, server: str) -> None:
    page = open_page(server)
    sentences = [f"第{number}号仓库" for number in range(199)]
    compare(page, [*sentences, "纸箱和木板" * 500])
    assert page.locator(".heat tbody tr").count() == 200
    assert page.locator(".heat tbody td").count() == 40_000
    assert "longer than 512 tokens" in page.locator("#similarity .status").inner_text()
    assert page.locator("#similarity .status").inner_text().endswith(": 1.")
    page.locator(".heat tbody tr:nth-child(200) td").first.click()
    assert texts(page, ".pair p") == ["纸箱和木板" * 500, "第0号仓库"]
    page.keyboard.press("End")
    cell = page.locator(".heat tbody tr:nth-child(200) td").last
    assert cell.evaluate("cell => cell === document.activeElement")
    assert cell.bounding_box()["x"] < 1200


# ---- phones, eyes, screen readers


@pytest.mark.parametrize("locale", ["zh-CN", "en-US"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_fits_and_the_heat_map_scrolls_in_its_own_box(
    open_page: Any, server: str, width: int, locale: str
) -> None:
    page = open_page(server, width=width, locale=locale)
    endless = "a" * 2000
    compare(page, [*(f"{number} {'长句' * 30}" for number in range(12)), endless])
    page.locator(".heat tbody tr").last.locator("td").first.click()
    page.locator("#tab-ranking").click()
    rank(page, endless, [endless, "短", "x" * 250])
    page.locator("#tab-search").click()
    look_for(page, "退货")
    for tab in TABS:
        page.locator(f"#tab-{tab}").click()
        page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
        fits = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert fits[0] <= fits[1] <= width, tab
        rows = page.evaluate(
            "new Set([...document.querySelectorAll('[role=tab]')].map(tab => tab.getBoundingClientRect().top)).size"
        )
        assert rows == 1, "the tabs stand in one row"
    page.locator("#tab-similarity").click()
    box = page.locator("#similarity .scroll")
    if width == 360:
        assert box.evaluate("box => box.scrollWidth > box.clientWidth")
        box.evaluate("box => box.scrollLeft = 300")
        head = page.locator(".heat tbody th").first.bounding_box()
        assert head["x"] == pytest.approx(box.bounding_box()["x"], abs=2), "the rows' names stay in sight"
    small = page.evaluate(
        "[...document.querySelectorAll('button, input, select, textarea')].filter(item => item.checkVisibility())"
        ".filter(item => item.getBoundingClientRect().height < 34).map(item => item.id || item.textContent)"
    )
    assert small == [], "large enough for a finger"


LUMINANCE = """(nodes) => {
    const place = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const luminance = (colour) => {
        place.clearRect(0, 0, 1, 1);
        place.fillStyle = colour;
        place.fillRect(0, 0, 1, 1);
        const [red, green, blue] = [...place.getImageData(0, 0, 1, 1).data].map(part => part / 255)
            .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const paper = (node) => {
        const colour = getComputedStyle(node).backgroundColor;
        return colour === 'rgba(0, 0, 0, 0)' && node.parentElement ? paper(node.parentElement) : colour;
    };
    return nodes.map(node => {
        const pair = [luminance(getComputedStyle(node).color), luminance(paper(node))];
        return [(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), node.outerHTML.slice(0, 80)];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(open_page: Any, server: str, scheme: str) -> None:
    page = open_page(server, scheme=scheme, failures=True)
    page.evaluate("document.getElementById('key-form').hidden = false")
    compare(page, [*SENTENCES, SENTENCES[0]])  # an equal pair has the strongest colour
    page.locator(".heat tbody td").nth(1).click()
    page.locator("#tab-ranking").click()
    rank(page, "退货", [*PASSAGES, "长" * 300])
    page.locator("#tab-search").click()
    look_for(page, "退货")
    low = []
    for tab in TABS:
        page.locator(f"#tab-{tab}").click()
        nodes = page.locator("body *:visible").filter(has_not=page.locator("css=:scope > *"))
        assert nodes.count() > 15
        low += [item for item in nodes.evaluate_all(LUMINANCE) if item[0] < 4.5]
    page.route("**/v1/**", lambda route: route.abort())
    page.locator("#tab-search").click()
    go(page, "search")
    low += [item for item in page.locator("#search .error").evaluate_all(LUMINANCE) if item[0] < 4.5]
    assert low == []
    light = page.evaluate(f"({LUMINANCE})([document.body])")[0][0]
    assert light > 12


def test_screen_readers_and_keyboards_find_everything(open_page: Any, server: str) -> None:
    page = open_page(server)
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, select, textarea')]"
        ".filter(item => ![...item.labels].some(label => label.textContent.trim())).map(item => item.id)"
    )
    assert unnamed == []
    tabs = page.get_by_role("tab")
    assert tabs.count() == 5
    tabs.first.focus()
    for key, tab in (
        ("ArrowRight", "ranking"),
        ("End", "client"),
        ("ArrowRight", "similarity"),
        ("ArrowLeft", "client"),
    ):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.id") == f"tab-{tab}"
        assert page.get_by_role("tabpanel").count() == 1
        assert page.get_by_role("tabpanel").get_attribute("id") == tab
        assert page.url.endswith(f"#{tab}")
    page.keyboard.press("Home")
    page.focus("#sentences")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".heat")
    assert page.get_by_role("grid", name="Heat map of cosine similarities").count() == 1
    assert page.get_by_role("rowheader").count() == page.get_by_role("columnheader").count() == 7
    assert page.locator("#similarity [role=status]").inner_text().startswith("7 sentences")
