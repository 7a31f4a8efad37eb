"""One page that needs nothing else: tables, charts, paired tests, the queries that went worst."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from m3e import __version__
from m3e.evaluation.comparison import Comparison, KindTable, Row
from m3e.evaluation.failures import read_failures
from m3e.evaluation.html_parts import data_table, grid, named, section
from m3e.evaluation.markup import Markup, join, tag
from m3e.evaluation.paired import Paired, PairedTest
from m3e.evaluation.read_results import StoredResults
from m3e.evaluation.report import CARD_HEADS, figure, footnotes, interval, paired_lines, share
from m3e.evaluation.svg_charts import (
    COLOURS,
    Bar,
    Gap,
    Point,
    bar_chart,
    difference_chart,
    scatter_chart,
    signed_points,
)
from m3e.files import atomic_file


def write_page(
    path: Path,
    stored: StoredResults,
    comparison: Comparison,
    paired: Paired | None = None,
    prompts: Sequence[Paired] = (),
    *,
    texts: bool = True,
) -> None:
    """Write the page, atomically.

    Args:
        prompts: models with their prompts against themselves without.
        texts: show the queries that went worst; they are texts of the data sets, which not everybody may pass on.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(page(stored, comparison, paired, prompts, texts=texts), encoding="utf-8")


def page(
    stored: StoredResults,
    comparison: Comparison,
    paired: Paired | None = None,
    prompts: Sequence[Paired] = (),
    *,
    texts: bool = True,
) -> str:
    """The whole page as HTML. It loads nothing, and forbids the browser to."""
    sections = [
        _summary(comparison),
        _charts(comparison),
        _speed(comparison),
        *(_paired_section(compared, comparison.models) for compared in [*([paired] if paired else []), *prompts]),
        *(_scores_table(table) for table in comparison.tables),
        _card_section(comparison),
        _failures(stored) if texts else None,
        _notes(comparison),
    ]
    style = resources.files("m3e.assets").joinpath("report.css").read_text(encoding="utf-8")
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        ),
        tag("link", rel="icon", href="data:,"),
        tag("title", f"Evaluation: {', '.join(comparison.models)}"),
        tag("style", Markup(style)),
    )
    body = join(tag("main", join(*sections)), tag("footer", tag("p", f"Made by m3e {__version__} from its results.")))
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>{body}</body>\n</html>\n'


def _summary(comparison: Comparison) -> Markup:
    tasks = sum(column.main for table in comparison.tables for column in table.columns)
    models = [
        tag("li", tag("span", "", class_=f"swatch m{number % COLOURS}"), name)
        for number, name in enumerate(comparison.models)
    ]
    counted = f"{len(comparison.models)} model{'s' * (len(comparison.models) > 1)}, {tasks} task{'s' * (tasks > 1)}"
    return join(
        tag("h1", "Evaluation report"),
        tag("p", f"{counted}. Scores are 0 to 1 (correlations −1 to 1), higher is better.", class_="lead"),
        tag("ul", join(*models), class_="legend", aria_label="Colours of the models"),
    )


def _charts(comparison: Comparison) -> Markup:
    colours = {name: number for number, name in enumerate(comparison.models)}
    figures = []
    for table in comparison.tables:
        groups = []
        for index, column in enumerate(table.columns):
            if not column.main:
                continue
            bars = [
                Bar(row.model, value, score.ci95, colours[row.model])
                for row in table.rows
                if not row.source and (value := row.values[index]) is not None and (score := row.scores[index])
            ]
            groups.append((f"{column.label} · {column.metric}", bars))
        figures.append(
            tag("figure", tag("figcaption", table.title), bar_chart(f"{table.title}: scores", groups), class_="card")
        )
    return section("By task", tag("p", "The thin lines are 95 % intervals.", class_="hint"), grid(figures))


def _speed(comparison: Comparison) -> Markup | None:
    hardware = _usual_hardware(comparison)
    points = speed_points(comparison)
    if not points:
        return None
    hint = (
        "Texts a second while the tasks were encoded (geometric mean over the tasks that all these models have), "
        f"on {hardware or 'a machine that the results do not name'}; models that ran elsewhere are left out. "
        "The score is the mean of the averages by kind of task."
    )
    chart = scatter_chart("Speed against quality", "texts a second", "mean score", points)
    return section(
        "Speed against quality",
        tag("p", hint, class_="hint"),
        grid([tag("figure", tag("figcaption", "Mean score"), chart, class_="card")]),
    )


def _usual_hardware(comparison: Comparison) -> str:
    """What most models' speeds were measured on: only those compare."""
    found = {
        (row.model, score.hardware)
        for table in comparison.tables
        for row in table.rows
        if not row.source
        for score in row.scores
        if score is not None and score.texts_per_second
    }
    counts = Counter(hardware for _, hardware in sorted(found))
    return counts.most_common(1)[0][0] if counts else ""


def speed_points(comparison: Comparison) -> list[Point]:
    """Each model's speed and mean score on the same hardware, over what all models with a speed have in common."""
    hardware = _usual_hardware(comparison)
    speeds: dict[str, dict[tuple[int, int], float]] = {}
    quality: dict[str, list[float]] = {}
    for kind, table in enumerate(comparison.tables):
        for row in table.rows:
            if row.source:
                continue
            if row.average is not None:
                quality.setdefault(row.model, []).append(row.average)
            for index, score in enumerate(row.scores):
                if score is not None and score.texts_per_second and score.hardware == hardware:
                    speeds.setdefault(row.model, {})[kind, index] = score.texts_per_second
    kinds = max((len(averages) for averages in quality.values()), default=0)
    fast = [name for name in comparison.models if name in speeds and len(quality.get(name, ())) == kinds]
    common = set.intersection(*(set(speeds[name]) for name in fast)) if fast else set()
    if not common:
        return []
    return [
        Point(
            name,
            geometric_mean(speeds[name][place] for place in sorted(common)),
            sum(quality[name]) / len(quality[name]),
            comparison.models.index(name),
        )
        for name in fast
    ]


def _paired_section(paired: Paired, models: Sequence[str]) -> Markup:
    colours = (models.index(paired.model_a), models.index(paired.model_b))
    gaps = [
        Gap(f"{test.task} · {test.metric}", test.difference, test.ci95, test.clear)
        for test in paired.tests
        if test.ci95
    ]
    title = f"{paired.model_b} against {paired.model_a}"
    chart = [
        tag(
            "figure",
            tag("figcaption", "Points gained or lost, with 95 % intervals"),
            difference_chart(title, gaps, colours),
            class_="card",
        )
    ]
    rows = [_paired_row(test) for test in paired.tests]
    heads = ("task", "metric", paired.model_a, paired.model_b, "points", "95 %", "p", "n", "finding")
    refused = [tag("li", tag("strong", task), f": {reason}") for task, reason in paired.refused.items()]
    return section(
        f"Paired: {title}",
        tag("p", paired_lines(paired)[-1], class_="lead") if paired.tests else None,
        grid(chart) if gaps else None,
        data_table(f"Paired tests: {title}", heads, rows) if rows else None,
        tag("ul", join(*(tag("li", line) for line in paired_lines(paired)[:-1])), class_="sentences"),
        join(tag("h3", "Not compared"), tag("ul", join(*refused))) if refused else None,
    )


def _paired_row(test: PairedTest) -> list[str | Markup]:
    ends = " to ".join(signed_points(end) for end in test.ci95) if test.ci95 else "–"
    better = test.model_b if test.difference > 0 else test.model_a
    return [
        test.task,
        test.metric,
        figure(test.score_a),
        figure(test.score_b),
        signed_points(test.difference),
        ends,
        "–" if test.p is None else "< 0.001" if test.p < 0.001 else f"{test.p:.3f}",
        f"{test.n:,} {test.unit}",
        f"{better} is better" if test.clear else "no clear difference" if test.ci95 else "unknown",
    ]


def _scores_table(table: KindTable) -> Markup:
    heads = ["model", *(["average"] if table.averaged else []), *(column.label for column in table.columns)]
    rows = []
    for row in table.rows:
        best = [_is_best(table, row, index) for index in range(len(table.columns))]
        cells = [_score_cell(row, index, best[index]) for index in range(len(table.columns))]
        rows.append([named(row.model, row.source), *([figure(row.average)] if table.averaged else []), *cells])
    classes = ["published" if row.source else "" for row in table.rows]
    metrics = list(dict.fromkeys(column.metric for column in table.columns if column.main))
    return section(
        table.title,
        tag("p", f"Main metric: {', '.join(metrics)}.", class_="hint"),
        data_table(f"{table.title}: scores by model and task", heads, rows, classes),
    )


def _is_best(table: KindTable, row: Row, index: int) -> bool:
    """Whether a value is the highest of the given models'."""
    values = [other.values[index] for other in table.rows if not other.source]
    known = [value for value in values if value is not None]
    return not row.source and len(known) > 1 and row.values[index] == max(known)


def _score_cell(row: Row, index: int, best: bool) -> Markup:
    score = row.scores[index]
    value = row.values[index]
    parts: list[str | None] = [tag("strong", figure(value)) if best else figure(value)]
    if score is not None and score.score == value:
        parts.append(tag("small", interval(score.ci95)) if score.ci95 else None)
        parts.append(tag("small", f"seen {share(score.contamination)}") if score.contamination is not None else None)
    return join(*parts)


def _card_section(comparison: Comparison) -> Markup:
    rows: list[list[str | Markup]] = []
    for row in comparison.card:
        cells = asdict(row)
        rows.append([named(row.model, row.source), *(cells[name] for name in CARD_HEADS if name != "model")])
    classes = ["published" if row.source else "" for row in comparison.card]
    return section(
        "Models", data_table("Models: size, languages, uses, licence", list(CARD_HEADS.values()), rows, classes)
    )


def _failures(stored: StoredResults) -> Markup | None:
    """The worst queries of each model and retrieval task, folded."""
    blocks = []
    for result in stored.results:
        rows = list(read_failures(result.items, result.score.metric)) if result.items else []
        if not rows:
            continue
        name = stored.label(result)
        head = tag(
            "summary", tag("strong", name), f" on {result.score.name}: the worst {len(rows)} of {result.score.n:,}"
        )
        blocks.append(tag("details", head, tag("ol", join(*map(_failure, rows)), class_="failures")))
    if not blocks:
        return None
    return section(
        "The worst queries",
        tag("p", "What was returned instead of what was wanted; texts are cut at 200 characters.", class_="hint"),
        join(*blocks),
    )


def _failure(row: Mapping[str, Any]) -> Markup:
    rank = f"place {row['expected_rank']:,}" if row["expected_rank"] else "not among the results"
    returned = [tag("li", _quoted(text)) for text in row["returned"] or ()]
    return tag(
        "li",
        tag("p", _quoted(row["query"]), tag("small", f" score {row['score']:.3f}"), class_="query"),
        tag(
            "dl",
            tag("dt", f"wanted ({rank})"),
            tag("dd", _quoted(row["expected"] or "")),
            tag("dt", "returned"),
            tag("dd", tag("ol", join(*returned)) if returned else "nothing"),
        ),
    )


def _quoted(text: str) -> Markup:
    return tag("span", text, lang="zh" if any("\u3400" <= char <= "\u9fff" for char in text) else None)


def _notes(comparison: Comparison) -> Markup:
    items = []
    for line in footnotes(comparison):
        number = line[1 : line.index("]")] if line.startswith("[") else None
        items.append(tag("li", line, id=f"source-{number}" if number else None))
    return section("Notes", tag("ul", join(*items), class_="notes"))
