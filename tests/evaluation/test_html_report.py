from html.parser import HTMLParser

import pytest
from stored_results import MARKED, evaluate_two, write_score

from m3e.evaluation.comparison import compare_models
from m3e.evaluation.failures import read_failures
from m3e.evaluation.html_report import page, speed_points
from m3e.evaluation.markup import Markup, join, tag
from m3e.evaluation.paired import compare
from m3e.evaluation.read_results import read_results
from m3e.evaluation.svg_charts import Bar, Gap, Point, bar_chart, difference_chart, scatter_chart

VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """Reads a page strictly: every element closes where it was opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, text):
        self.texts.append(text)

    def all(self, name):
        return [attributes for found, attributes in self.elements if found == name]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return read_results([evaluate_two(tmp_path_factory.mktemp("two"))])


@pytest.fixture(scope="module")
def html(two):
    return page(two, compare_models(two), compare(two, "mini-a", "mini-b"))


def test_the_page_is_whole_and_alone(html):
    assert html.startswith('<!doctype html>\n<html lang="en">')
    read = Reader(html)
    for _, attributes in read.elements:
        for name in ("src", "srcset", "data", "poster", "action"):
            assert name not in attributes
        assert not any(name.startswith("on") for name in attributes)
    links = [link["href"] for link in read.all("a") + read.all("link")]
    identifiers = {attributes["id"] for _, attributes in read.elements if "id" in attributes}
    assert all(link == "data:," or link.removeprefix("#") in identifiers for link in links)
    assert not {"script", "iframe", "img", "object"} & {name for name, _ in read.elements}
    assert "@import" not in html
    assert "url(" not in html
    policy = next(meta for meta in read.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'")
    assert {"prefers-color-scheme: dark", "width=device-width"} <= {
        text for text in ("prefers-color-scheme: dark", "width=device-width") if text in html
    }


def test_tables_charts_and_regions_are_accessible(html):
    read = Reader(html)
    assert all(head.get("scope") in ("col", "row") for head in read.all("th"))
    assert len(read.all("caption")) == len(read.all("table"))
    charts = read.all("svg")
    assert len(charts) == 4 + 1 + 1  # a kind each, speed, paired
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert any("mini-a" in chart["aria-label"] for chart in charts)
    scrolled = [box for box in read.all("div") if box.get("class") == "scroll"]
    assert len(scrolled) == len(read.all("table"))
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in scrolled)


def test_the_page_shows_scores_intervals_and_tests(two, html):
    for item in two.results:
        assert f"{item.score.score:.4f}" in html
    for test in compare(two, "mini-a", "mini-b").tests:
        assert test.sentence.replace("<", "&lt;").replace("'", "&#x27;") in html
    assert "moka-ai/m3e-base (2023)" in html
    assert "https://huggingface.co/moka-ai/m3e-base" in html
    assert "Paired" not in page(two, compare_models(two))


def test_texts_are_shown_as_typed_never_as_markup(two, html):
    assert "<b>今天</b>" not in html
    worst = [row for item in two.results for row in read_failures(item.items, item.score.metric)]
    assert any(row["query"] == MARKED for row in worst)
    read = Reader(html)
    assert MARKED in read.texts
    for row in worst:
        assert row["query"] in read.texts
        assert row["expected"] in read.texts
        assert all(text in read.texts for text in row["returned"])
    assert any(span.get("lang") == "zh" for span in read.all("span"))


def test_the_worst_queries_come_worst_first_and_can_be_left_out(two):
    for item in two.results:
        rows = list(read_failures(item.items, item.score.metric))
        assert [row["score"] for row in rows] == sorted(row["score"] for row in rows)
        assert bool(rows) == (item.score.task == "find.test")
    without = page(two, compare_models(two), texts=False)
    assert "worst queries" not in without
    assert "番茄" not in without


def test_names_of_models_and_tasks_are_escaped(tmp_path):
    write_score(tmp_path / "r", "STSB", 0.7, model="</title><script>alert(1)</script>")
    write_score(tmp_path / "r", 'a"b', 0.7, model='"x" & y')
    stored = read_results([tmp_path])
    read = Reader(page(stored, compare_models(stored)))
    assert read.all("script") == []
    assert "</title><script>alert(1)</script>" in read.texts
    assert '"x" & y' in read.texts


def test_speed_wants_what_all_models_have(tmp_path):
    write_score(tmp_path, "STSB", 0.7, model="slow", texts_per_second=100.0)
    write_score(tmp_path, "LCQMC", 0.6, model="slow", texts_per_second=400.0)
    write_score(tmp_path, "STSB", 0.5, model="fast", texts_per_second=5000.0)
    write_score(tmp_path, "STSB", 0.9, model="unknown", texts_per_second=None)
    points = {point.name: point for point in speed_points(compare_models(read_results([tmp_path])))}
    assert set(points) == {"slow", "fast"}
    assert (points["slow"].x, points["slow"].y) == (pytest.approx(100), 0.7)
    assert (points["fast"].x, points["fast"].y) == (pytest.approx(5000), 0.5)
    assert speed_points(compare_models(read_results([tmp_path / "unknown"]))) == []


def test_speeds_of_other_hardware_are_not_compared(tmp_path):
    for model, hardware in (("a", "a laptop"), ("b", "a laptop"), ("c", "a GPU")):
        write_score(tmp_path, "STSB", 0.7, model=model, texts_per_second=100.0, hardware=hardware)
    stored = read_results([tmp_path])
    assert [point.name for point in speed_points(compare_models(stored))] == ["a", "b"]
    assert any("on a laptop" in text for text in Reader(page(stored, compare_models(stored))).texts)


def test_bars_are_as_long_as_their_values():
    chart = Reader(bar_chart("t", [("task", [Bar("a", 0.5, (0.4, 0.6), 0), Bar("b", 0.25, None, 9)])]))
    long, short = chart.all("rect")
    assert float(long["width"]) == pytest.approx(2 * float(short["width"]))
    assert (long["class"], short["class"]) == ("m0", "m1")
    whisker = next(line for line in chart.all("line") if line["class"] == "whisker")
    assert float(whisker["x2"]) - float(whisker["x1"]) == pytest.approx(float(long["width"]) * 0.4, abs=0.2)
    below = Reader(bar_chart("t", [("task", [Bar("a", -0.5, (-0.6, -0.4), 0), Bar("b", 0.5, None, 1)])]))
    left, right = below.all("rect")
    assert float(left["x"]) + float(left["width"]) == pytest.approx(float(right["x"]), abs=0.2)


def test_points_and_differences_lie_where_they_should():
    chart = Reader(
        scatter_chart("t", "x", "y", [Point("a", 10, 0.5, 0), Point("b", 1000, 0.5, 1), Point("c", 100, 0.6, 2)])
    )
    by_class = {circle["class"]: circle for circle in chart.all("circle")}
    assert float(by_class["m2"]["cx"]) == pytest.approx(
        (float(by_class["m0"]["cx"]) + float(by_class["m1"]["cx"])) / 2, abs=0.2
    )
    assert by_class["m0"]["cy"] == by_class["m1"]["cy"]
    assert float(by_class["m2"]["cy"]) < float(by_class["m0"]["cy"])
    names = {text["y"] for text in chart.all("text") if text.get("class") == "head"}
    assert len(names) == 3  # names at one height would cover each other
    gaps = [
        Gap("up", 0.02, (0.01, 0.03), True),
        Gap("down", -0.02, (-0.03, -0.01), True),
        Gap("?", 0.0, (-0.01, 0.01), False),
    ]
    assert [circle["class"] for circle in Reader(difference_chart("t", gaps)).all("circle")] == [
        "clear m2",
        "clear m1",
        "unclear",
    ]
    one = Reader(scatter_chart("t", "x", "y", [Point("only", 3, 0.5, 0)]))
    assert len(one.all("circle")) == 1


def test_markup_escapes_what_is_not_markup():
    assert tag("p", "<&>", tag("b", "x"), class_='a"b', aria_label="l", hidden=True, id=None) == (
        '<p class="a&quot;b" aria-label="l" hidden>&lt;&amp;&gt;<b>x</b></p>'
    )
    assert tag("line", x1=1.25, x2=2.0) == '<line x1="1.2" x2="2"/>'
    assert join("<", Markup("<i>"), None) == "&lt;<i>"
