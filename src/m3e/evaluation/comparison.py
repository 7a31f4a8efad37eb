"""Models beside each other: their scores task by task, published ones where they compare, and the card's table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from m3e.evaluation.published import (
    CARD_CLASSIFICATION,
    CARD_RETRIEVAL,
    CARD_SOURCE,
    SOURCES,
    Published,
    card_models,
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
class CardRow:
    """A row of the card's table of models, every cell as shown.

    Attributes:
        s2s: of published models, whether their makers mean them for it; of given ones, the mean score over the
            tasks of that category that all given models have. ``s2p`` and ``s2c`` likewise.
        classification: mean accuracy over the M3E card's six tasks; ``retrieval`` nDCG@10 on T2Ranking 1W.
    """

    model: str
    source: str
    parameters: str
    dim: str
    chinese: str
    english: str
    s2s: str
    s2p: str
    s2c: str
    licence: str
    classification: str
    retrieval: str


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
    return Comparison(tuple(given), tables, _card(given, tables))


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


def _card(given: dict[str, list[StoredResult]], tables: Sequence[KindTable]) -> tuple[CardRow, ...]:
    means = _category_means(given, tables)
    with_prompts = {label: items for label, items in given.items() if any(item.score.prompts for item in items)}
    rows = [_card_row_of_results(label, items, means[label]) for label, items in (with_prompts or given).items()]
    for model in card_models():
        rows.append(
            CardRow(
                model=model.model,
                source=CARD_SOURCE,
                parameters=model.parameters,
                dim=str(model.dim),
                chinese=model.chinese,
                english=model.english,
                s2s=model.s2s,
                s2p=model.s2p,
                s2c=model.s2c,
                licence=model.licence,
                classification=f"{model.classification:.4f}",
                retrieval=f"{model.retrieval:.4f}",
            )
        )
    return tuple(rows)


def _card_row_of_results(label: str, items: Sequence[StoredResult], means: dict[str, str]) -> CardRow:
    from m3e.models.names import local_models

    known = local_models().get(items[0].model)
    parameters = known.parameters if known else items[0].parameters
    dim = known.dim if known else items[0].dim
    languages = known.languages if known else ""
    by_recipe = sorted((item.score for item in items if item.score.official_split), key=lambda score: score.recipe)
    official = {score.task: score for score in by_recipe}  # where there are two, uniem's, as on the card
    accuracies = [official[task].score for task in CARD_CLASSIFICATION if task in official]
    retrieval = official.get(CARD_RETRIEVAL)
    return CardRow(
        model=label,
        source="",
        parameters=_millions(parameters),
        dim=str(dim or "–"),
        chinese=_speaks(languages, "zh"),
        english=_speaks(languages, "en"),
        s2s=means.get("s2s", "–"),
        s2p=means.get("s2p", "–"),
        s2c=means.get("s2c", "–"),
        licence=known.licence if known else "–",
        classification=_mean(accuracies) if len(accuracies) == len(CARD_CLASSIFICATION) else "–",
        retrieval=f"{retrieval.scores['ndcg_at_10']:.4f}" if retrieval and "ndcg_at_10" in retrieval.scores else "–",
    )


def _category_means(given: Iterable[str], tables: Sequence[KindTable]) -> dict[str, dict[str, str]]:
    """By model and category, the mean over the tasks that all given models have, and how many those are."""
    means: dict[str, dict[str, str]] = {}
    for label in given:
        values: dict[str, list[float]] = {}
        for table in tables:
            row = next((row for row in table.rows if row.model == label and not row.source), None)
            for column, value in zip(table.columns, row.values if row else (), strict=False):
                if column.label in table.averaged and column.main and value is not None:
                    values.setdefault(column.category, []).append(value)
        means[label] = {category: f"{sum(found) / len(found):.3f} ({len(found)})" for category, found in values.items()}
    return means


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.4f}"


def _millions(parameters: int | None) -> str:
    if not parameters:
        return "–"
    return f"{parameters / 1e6:.0f}M" if parameters >= 1e7 else f"{parameters / 1e6:.1f}M"


def _speaks(languages: str, code: str) -> str:
    return "–" if not languages else "yes" if code in languages or "about" in languages else "no"
