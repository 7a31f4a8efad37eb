"""Models beside each other: their scores task by task, published ones where they compare, and the card's table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from m3e.evaluation.card_rows import CardRow, card_rows
from m3e.evaluation.published import (
    CARD_SOURCE,
    SOURCES,
    Published,
    published_scores,
)
from m3e.evaluation.read_results import StoredResult, StoredResults, identity
from m3e.evaluation.results import TaskScore

Identity = tuple[str, str, str, int, bool, str, bool]

_TYPE_ORDER = ("STS", "PairClassification", "Classification", "Clustering", "Reranking", "Retrieval")
_TYPE_TITLES = {"STS": "Semantic similarity (STS)", "PairClassification": "Pair classification"}


@dataclass(frozen=True)
class Column:
    """One metric of one task on one set of rows.

    Attributes:
        main: whether it is the task's main metric, which averages are made of.
    """

    label: str
    data: Identity
    metric: str
    main: bool
    category: str

    @property
    def task(self) -> str:
        """The task's name."""
        return self.data[0]

    @property
    def official(self) -> bool:
        """Whether it was scored by mteb's protocol."""
        return self.data[4]

    @property
    def recipe(self) -> str:
        """The protocol where it is not mteb's."""
        return self.data[5]


@dataclass(frozen=True)
class Row:
    """A model's scores, one a column; ``None`` where it has none.

    Attributes:
        source: of published scores; empty for results that were given.
        average: over the columns that all given models have; ``None`` where this model lacks one of them.
        scores: of given results, the whole score behind each value.
    """

    model: str
    source: str
    values: tuple[float | None, ...]
    average: float | None
    scores: tuple[TaskScore | None, ...]


@dataclass(frozen=True)
class KindTable:
    """The tasks of one type.

    Attributes:
        rows: given models first, then published ones.
        averaged: labels of the columns that averages are made of.
    """

    type: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    averaged: tuple[str, ...]

    @property
    def title(self) -> str:
        """The type in words."""
        return _TYPE_TITLES.get(self.type, self.type)

    def sources(self) -> list[str]:
        """Where the published rows come from."""
        return list(dict.fromkeys(row.source for row in self.rows if row.source))


@dataclass(frozen=True)
class Comparison:
    """Everything that is compared.

    Attributes:
        models: labels of the given models; a run with prompts switched off is a model of its own.
    """

    models: tuple[str, ...]
    tables: tuple[KindTable, ...]
    card: tuple[CardRow, ...]


def compare_models(stored: StoredResults) -> Comparison:
    """The models of ``stored`` beside each other and beside what was published."""
    given: dict[str, list[StoredResult]] = {}
    for item in stored.results:
        given.setdefault(stored.label(item), []).append(item)
    types = {item.score.type for item in stored.results}
    order = [*(name for name in _TYPE_ORDER if name in types), *sorted(types - set(_TYPE_ORDER))]
    columns = _columns(stored.results)
    tables = tuple(_kind_table(name, columns[name], given) for name in order)
    return Comparison(tuple(given), tables, card_rows(given, tables))


def _columns(results: Sequence[StoredResult]) -> dict[str, list[Column]]:
    """By type of task, the columns in the order in which their tasks were found."""
    scores = {_data(item.score): item.score for item in results}
    found: dict[str, list[Column]] = {}
    for data, score in scores.items():
        label = _label(score, [other for other in scores.values() if other.task == score.task])
        columns = found.setdefault(score.type, [])
        columns.append(Column(label, data, score.metric, True, score.category))
        have = {name for item in results if _data(item.score) == data for name in item.score.scores}
        for metric in _published_metrics(score):
            if metric != score.metric and metric in have:
                columns.append(Column(f"{label} {metric}", data, metric, False, score.category))
    return found


def _data(score: TaskScore) -> Identity:
    """What a column holds: scores with prompts and without stand in one."""
    return identity(replace(score, prompts=True))


def _label(score: TaskScore, namesakes: Sequence[TaskScore]) -> str:
    """The task's name, with whatever tells it from others of that name; a star where it is not mteb's protocol."""
    parts = [score.name]
    if len({other.split for other in namesakes}) > 1:
        parts.append(score.split)
    if len({other.n for other in namesakes}) > 1:
        parts.append(f"n={score.n}")
    if len({other.data_revision for other in namesakes}) > 1:
        parts.append((score.data_revision or "unknown").removeprefix("local-")[:8])
    return " ".join(parts) + ("" if score.official_split else "*")


def _published_metrics(score: TaskScore) -> list[str]:
    """Metrics that were published for an official task, where its main metric was not."""
    if not score.official_split:
        return []
    metrics = list(dict.fromkeys(item.metric for item in published_scores() if item.task == score.task))
    return [] if score.metric in metrics else metrics


def _kind_table(name: str, columns: Sequence[Column], given: dict[str, list[StoredResult]]) -> KindTable:
    found = {
        label: [next((item.score for item in items if _data(item.score) == column.data), None) for column in columns]
        for label, items in given.items()
    }
    # a model that has nothing of this type leaves no row, and no gap in what is averaged
    found = {label: scores for label, scores in found.items() if any(scores)}
    with_prompts = [scores for scores in found.values() if any(score and score.prompts for score in scores)]
    common = [
        index
        for index, column in enumerate(columns)
        if column.main and all(scores[index] is not None for scores in with_prompts or found.values())
    ]
    rows = [
        _row(label, "", [_value(score, column) for score, column in zip(scores, columns, strict=True)], common, scores)
        for label, scores in found.items()
    ]
    for (model, source), items in _published_by_model(columns).items():
        values = [_published_value(items, column, columns) for column in columns]
        rows.append(_row(model, source, values, common, [None] * len(columns)))
    return KindTable(name, tuple(columns), tuple(rows), tuple(columns[index].label for index in common))


def _row(
    model: str,
    source: str,
    values: Sequence[float | None],
    common: Sequence[int],
    scores: Sequence[TaskScore | None],
) -> Row:
    averaged = [value for index in common if (value := values[index]) is not None]
    average = sum(averaged) / len(averaged) if averaged and len(averaged) == len(common) else None
    return Row(model, source, tuple(values), average, tuple(scores))


def _value(score: TaskScore | None, column: Column) -> float | None:
    if score is None:
        return None
    return score.score if column.main else score.scores.get(column.metric)


def _published_by_model(columns: Sequence[Column]) -> dict[tuple[str, str], list[Published]]:
    """Published scores that stand beside a column, by model and source."""
    found: dict[tuple[str, str], list[Published]] = {}
    for item in published_scores():
        if any(_compares(item, column, columns) for column in columns):
            found.setdefault((item.model, item.source), []).append(item)
    order = list(SOURCES)
    return dict(sorted(found.items(), key=lambda entry: -order.index(entry[0][1])))


def _published_value(items: Sequence[Published], column: Column, columns: Sequence[Column]) -> float | None:
    return next((item.score for item in items if _compares(item, column, columns)), None)


def _compares(item: Published, column: Column, columns: Iterable[Column]) -> bool:
    """Whether a published score may stand in a column; the M3E card's in uniem's, where there is that one."""
    if not column.official or (item.task, item.metric) != (column.task, column.metric):
        return False
    if item.source != CARD_SOURCE:
        return not column.recipe
    return bool(column.recipe) or not any(other.task == item.task and other.recipe for other in columns)
