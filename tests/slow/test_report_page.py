"""The report's page in a real browser: Debian's chromium, driven by Playwright."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from m3e.evaluation.comparison import compare_models
from m3e.evaluation.html_report import write_page
from m3e.evaluation.paired import compare
from m3e.evaluation.read_results import StoredResults, read_results
from tests.evaluation.stored_results import MARKED, evaluate_two, write_score

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredResults:
    """Two miniature models on four sets, and a model by hand on many official tasks."""
    folder = tmp_path_factory.mktemp("page")
    results = evaluate_two(folder)
    for number, task in enumerate(("ATEC", "BQ", "LCQMC", "PAWSX", "STSB", "AFQMC", "QBQTC")):
        name = "a-model/with-a-rather-long-name-that-nobody-can-break"
        write_score(results, task, 0.5 + number / 50, model=name, contamination=0.02)
    return read_results([results])


@pytest.fixture(scope="module")
def page_file(stored: StoredResults, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("html") / "report.html"
    write_page(path, stored, compare_models(stored), compare(stored, "mini-a", "mini-b"))
    return path


@pytest.fixture
def open_page(browser: Any, page_file: Path) -> Iterator[Any]:
    """``open_page(width, scheme) -> page``; afterwards, no message and no request may have been seen."""
    messages: list[str] = []
    requests: list[str] = []
    contexts = []

    def opened(width: int, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(page_file.as_uri(), wait_until="load")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert messages == []
    assert {url for url in requests if not url.startswith("data:")} == {page_file.as_uri()}


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_fits_and_tables_scroll_inside_themselves(open_page: Any, width: int) -> None:
    page = open_page(width)
    page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    wider = page.evaluate(
        "[...document.querySelectorAll('h1, h2, p, li, svg, summary, .card, .scroll')]"
        ".filter(item => !item.closest('table') && item.getBoundingClientRect().right > innerWidth + 0.5).length"
    )
    assert wider == 0
    if width == 360:
        boxes = page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).length"
        )
        assert boxes > 0
        text = page.evaluate(
            "Math.min(...[...document.querySelectorAll('svg text')].map(item => item.getBoundingClientRect().height))"
        )
        assert text >= 9  # still to be read on a phone


def test_charts_and_texts_are_there(open_page: Any, stored: StoredResults) -> None:
    page = open_page(1280)
    assert page.title().startswith("Evaluation: ")
    assert page.locator("svg[role=img]").count() == 6
    for box in page.locator("svg").all():
        size = box.bounding_box()
        assert size["width"] > 200
        assert size["height"] > 20
    bars = page.evaluate("[...document.querySelectorAll('svg rect')].map(bar => getComputedStyle(bar).fill)")
    assert len(set(bars)) == 3  # a colour a model, none of them missing
    assert "rgb(0, 0, 0)" not in bars
    page.locator("summary").first.click()
    first = page.locator("details").first
    assert "wanted" in first.inner_text()
    assert MARKED in page.content().replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert page.locator("b").count() == 0  # the marked query is text
    score = next(item.score for item in stored.results if item.score.task == "find.test")
    assert page.get_by_text(f"{score.score:.4f}").count() >= 1
    assert page.locator("tr.published", has_text="moka-ai/m3e-base (2023)").count() >= 2


def test_chinese_is_drawn_with_a_font_that_has_it(open_page: Any) -> None:
    page = open_page(1280)
    page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
    assert page.locator("[lang=zh]").first.is_visible()
    drawn = page.evaluate(
        """() => ['天', '气', '\\u{10FFFE}', '\\u{10FFFD}'].map(letter => {
            const canvas = document.createElement('canvas');
            const place = canvas.getContext('2d');
            const style = getComputedStyle(document.querySelector('[lang=zh]'));
            place.font = `40px ${style.fontFamily}`;
            place.fillText(letter, 20, 60);
            return canvas.toDataURL();
        })"""
    )
    if len(set(drawn)) == 1:
        pytest.skip("wants a font with Chinese: apt-get install fonts-noto-cjk")
    assert drawn[0] != drawn[1]
    assert drawn[2] not in drawn[:2]


def test_light_and_dark_both_have_contrast(open_page: Any) -> None:
    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in colour[4:-1].split(",")]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    papers = []
    for scheme in ("light", "dark"):
        page = open_page(800, scheme)
        paper = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        papers.append(paper)
        for choice in ("body", ".hint", "tr.published td", "sup a", "td small"):
            ink = luminance(page.evaluate(f"getComputedStyle(document.querySelector('{choice}')).color"))
            light, dark = max(ink, paper), min(ink, paper)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, choice)
    assert papers[0] > 0.9 > 0.1 > papers[1]
