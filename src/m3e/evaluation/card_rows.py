"""The M3E card's table of models, with those of given results before its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m3e.evaluation.published import CARD_CLASSIFICATION, CARD_RETRIEVAL, CARD_SOURCE, card_models

if TYPE_CHECKING:
    from m3e.evaluation.comparison import KindTable
    from m3e.evaluation.read_results import StoredResult


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


def card_rows(given: Mapping[str, Sequence[StoredResult]], tables: Sequence[KindTable]) -> tuple[CardRow, ...]:
    """The rows of given results, by label, and of the card.

    Args:
        given: the results of each model; runs without prompts leave no row where there are others.
        tables: of the same models' scores.
    """
    means = _category_means(given, tables)
    with_prompts = {label: items for label, items in given.items() if any(item.score.prompts for item in items)}
    rows = [_row_of_results(label, items, means[label]) for label, items in (with_prompts or given).items()]
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


def _row_of_results(label: str, items: Sequence[StoredResult], means: dict[str, str]) -> CardRow:
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
