"""Results as tables for a terminal, and as one JSON value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from m3e.evaluation.published import SOURCES
from m3e.files import json_safe

if TYPE_CHECKING:
    from rich.table import Table

    from m3e.evaluation.card_rows import CardRow
    from m3e.evaluation.comparison import Comparison, KindTable, Row
    from m3e.evaluation.paired import Paired
    from m3e.evaluation.published import Published
    from m3e.evaluation.results import Results, TaskScore

CARD_HEADS = {
    "model": "model",
    "parameters": "parameters",
    "dim": "dim",
    "chinese": "Chinese",
    "english": "English",
    "s2s": "s2s",
    "s2p": "s2p",
    "s2c": "s2c",
    "licence": "licence",
    "classification": "classification",
    "retrieval": "T2R-1W nDCG@10",
}
"""The columns of the card's table and what heads them."""

_NARROW_HEADS = {
    "parameters": "size",
    "chinese": "zh",
    "english": "en",
    "classification": "class.",
    "retrieval": "T2R-1W",
}

_CELL_GAP = 3


def results_table(results: Results) -> Table:
    """A table of task, split, metric, score, interval, n and, where it compares, the published score.

    A score on other rows or another split than the official one never has a published score beside
    it. Where a publication used another metric than mteb does today, that metric gets its own row.
    Where the model can tell, the share of the task's texts that it was trained on stands last.
    """
    from rich.table import Table

    published = results.published()
    contaminated = any(score.contamination is not None for score in results.results)
    table = Table(title=results.model)
    for name in ("task", "split", "metric"):
        table.add_column(name)
    extra = (("published",) if published else ()) + (("seen",) if contaminated else ())
    for name in ("score", "95 %", "n", *extra):
        table.add_column(name, justify="right")
    for score in results.results:
        for index, row in enumerate(_rows(score, published.get(score.name))):
            seen = (share(score.contamination) if index == 0 else "",) if contaminated else ()
            table.add_row(*(row if published else row[:-1]), *seen)
    return table


def _rows(score: TaskScore, published: Published | None) -> list[tuple[str, ...]]:
    split = score.split if score.official_split else f"{score.split} (not official)"
    interval = f"{score.ci95[0]:.3f}–{score.ci95[1]:.3f}" if score.ci95 else ""
    main = (score.name, split, score.metric, f"{score.score:.4f}", interval, f"{score.n:,}")
    if published is None:
        return [(*main, "")]
    if published.metric == score.metric:
        return [(*main, f"{published.score:.4f}")]
    other = score.scores.get(published.metric)
    if other is None:
        return [(*main, "")]
    return [(*main, ""), ("", "", published.metric, f"{other:.4f}", "", "", f"{published.score:.4f}")]


def share(value: float | None) -> str:
    """A share as per cent; nothing for ``None``."""
    return "" if value is None else f"{value * 100:.1f} %"


def kind_tables(table: KindTable, width: int) -> Iterator[Table]:
    """The tasks of one type, models by tasks, in as many tables as the width asks for.

    A given model's cell holds its score, the 95 % interval and, where known, the share of texts seen in training.
    """
    from rich.markup import escape
    from rich.table import Table

    names = max(len(_model_name(row)) for row in table.rows)
    room = width - names - _CELL_GAP * 2 - len("average") - _CELL_GAP
    for number, columns in enumerate(_fitting([column.label for column in table.columns], room)):
        printed = Table(title=table.title if number == 0 else f"{table.title}, continued", title_justify="left")
        printed.add_column("model", no_wrap=True)
        if number == 0:
            printed.add_column("average", justify="right")
        for index in columns:
            printed.add_column(escape(table.columns[index].label), justify="right")
        for row in table.rows:
            cells = [_cell(row, index) for index in columns]
            if row.source and not any(cells) and number > 0:
                continue
            average = [figure(row.average)] if number == 0 else []
            printed.add_row(escape(_model_name(row)), *average, *cells)
        yield printed


def _fitting(labels: list[str], room: int) -> Iterator[list[int]]:
    """Places of labels, as many a time as fit beside each other."""
    taken: list[int] = []
    used = 0
    for place, label in enumerate(labels):
        wide = max(len(label), len(".700–.800")) + _CELL_GAP
        if taken and used + wide > room:
            yield taken
            taken, used = [], 0
        taken.append(place)
        used += wide
    if taken:
        yield taken


def _model_name(row: Row) -> str:
    return f"{row.model} [{list(SOURCES).index(row.source) + 1}]" if row.source else row.model


def figure(value: float | None) -> str:
    """A score with four digits; nothing for ``None``."""
    return "" if value is None else f"{value:.4f}"


def _cell(row: Row, index: int) -> str:
    score = row.scores[index]
    lines = [figure(row.values[index])]
    if score is not None and score.score == row.values[index]:
        lines += [interval(score.ci95)] if score.ci95 else []
        lines += [f"seen {share(score.contamination)}"] if score.contamination is not None else []
    return "\n".join(lines)


def interval(ends: tuple[float, float] | None) -> str:
    """A 95 % interval with three digits."""
    if ends is None:
        return ""
    return "–".join(f"{end:.3f}".replace("0.", ".", 1) for end in ends)


def card_table(rows: Iterable[CardRow]) -> Table:
    """The card's table of models, those of the results first."""
    from rich.markup import escape
    from rich.table import Table

    printed = Table(title="Models", title_justify="left", box=None, pad_edge=False)
    for name, head in CARD_HEADS.items():
        side: Literal["left", "right"] = "left" if name in ("model", "licence") else "right"
        printed.add_column(_NARROW_HEADS.get(name, head), justify=side, no_wrap=name != "licence")
    for row in rows:
        cells = asdict(row)
        if row.source:
            cells["model"] = f"{row.model} [{list(SOURCES).index(row.source) + 1}]"
        printed.add_row(*(escape(cells[name]) for name in CARD_HEADS))
    return printed


def footnotes(comparison: Comparison) -> list[str]:
    """What a reader of the tables must know, a line each."""
    notes = []
    averages = [f"{table.type}: {', '.join(table.averaged)}" for table in comparison.tables if table.averaged]
    if averages:
        notes.append(f"averages are over the tasks that all given models have ({'; '.join(averages)})")
    if any(not column.official for table in comparison.tables for column in table.columns):
        notes.append("* not mteb's rows or split: nothing published compares with it")
    notes.append(
        "s2s, s2p, s2c: of given models the mean over their common tasks and the number of those; "
        "of published ones whether their makers mean them for it"
    )
    used = {row.source for table in comparison.tables for row in table.rows if row.source} | {"M3E card"}
    for number, (source, place) in enumerate(SOURCES.items(), 1):
        if source in used:
            notes.append(f"[{number}] {source}: {place}")
    seen = any(
        score is not None and score.contamination is not None
        for table in comparison.tables
        for row in table.rows
        for score in row.scores
    )
    if seen:
        notes.append(
            "seen: the share of the task's texts (of 6 characters and more) that the model's texts.bloom knows "
            "from training; about 1 % would be there by chance"
        )
    return notes


def paired_lines(paired: Paired) -> list[str]:
    """The paired tests as sentences, and in how many tasks either model is better."""
    lines = [f"{test.task} ({test.metric}): {test.sentence}" for test in paired.tests]
    better = sum(test.clear and test.difference > 0 for test in paired.tests)
    worse = sum(test.clear and test.difference < 0 for test in paired.tests)
    if paired.tests:
        lines.append(
            f"{paired.model_b} against {paired.model_a}: clearly better on {better}, clearly worse on {worse} of "
            f"{len(paired.tests)} tasks; p-values are of single tasks, not corrected for their number"
        )
    return lines


def report_json(
    comparison: Comparison, paired: Paired | None, problems: Mapping[str, str], prompts: Sequence[Paired] = ()
) -> dict[str, Any]:
    """The JSON object of ``m3e report --json``; it holds no NaN."""
    value: dict[str, Any] = json_safe(
        {
            "models": list(comparison.models),
            "tables": [_table_json(table) for table in comparison.tables],
            "card": [asdict(row) for row in comparison.card],
            "sources": SOURCES,
            "paired": paired.as_dict() if paired else None,
            "prompts": [compared.as_dict() for compared in prompts],
            "problems": dict(problems),
        }
    )
    return value


def _table_json(table: KindTable) -> dict[str, Any]:
    columns = [
        {
            "label": column.label,
            "task": column.task,
            "recipe": column.recipe,
            "split": column.data[1],
            "data_revision": column.data[2],
            "n": column.data[3],
            "official_split": column.official,
            "metric": column.metric,
            "main": column.main,
            "category": column.category,
        }
        for column in table.columns
    ]
    rows = [
        {
            "model": row.model,
            "source": row.source or None,
            "average": row.average,
            "values": row.values,
            "ci95": [score.ci95 if score else None for score in row.scores],
            "contamination": [score.contamination if score else None for score in row.scores],
            "truncated": [score.truncated if score else None for score in row.scores],
            "texts_per_second": [score.texts_per_second if score else None for score in row.scores],
        }
        for row in table.rows
    ]
    return {"type": table.type, "columns": columns, "rows": rows, "averaged": table.averaged}
