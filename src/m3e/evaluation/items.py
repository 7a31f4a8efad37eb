"""The scores of single items, kept while mteb averages them: for intervals and paired tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from m3e.evaluation.failures import failure_columns
from m3e.evaluation.statistics import Interval, best_pair_interval, mean_interval, spearman_interval

PAIR_SIMILARITIES = {
    "similarity_scores": 1,
    "cosine_scores": 1,
    "manhattan_distances": -1,
    "euclidean_distances": -1,
    "dot_scores": 1,
}
"""The similarities that mteb classifies pairs by, and whether higher or lower is more alike."""

_QUERY_METRICS = {"ndcg_at_10": "ndcg_cut_10", "map_at_1000": "map_cut_1000", "recall_at_100": "recall_100"}


@dataclass
class Items:
    """What one task's score is made of.

    Attributes:
        columns: one row an item: a pair, a query, or an experiment of few-shot classification.
        interval: the 95 % interval of a metric, by name.
    """

    columns: dict[str, Sequence[Any]] = field(default_factory=dict)
    interval: Callable[[str], Interval | None] = lambda metric: None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


def watch(task: Any) -> Items | None:
    """Items that fill while mteb evaluates ``task``; ``None`` for a kind of task that is not watched."""
    import mteb.abstasks as kinds

    items = Items()
    if isinstance(task, kinds.AbsTaskRetrieval):
        _tap(task, "task_specific_scores", lambda *found, **where: _keep_queries(items, task, *found, **where))
    elif isinstance(task, kinds.AbsTaskSTS):
        _tap(task, "_calculate_scores", lambda found, labels, **_: _keep_scored_pairs(items, found, labels))
    elif isinstance(task, kinds.AbsTaskPairClassification):
        _tap(task, "_compute_metrics", lambda found, labels, **_: _keep_classified_pairs(items, found, labels))
    elif isinstance(task, kinds.AbsTaskClassification):
        _tap(task, "_calculate_avg_scores", lambda scores, **_: _keep_experiments(items, scores))
    else:
        return None
    return items


def _tap(task: Any, method: str, keep: Callable[..., None]) -> None:
    """Let ``keep`` see the arguments of a method of this one task object."""
    original = getattr(task, method)

    def tapped(*arguments: Any, **options: Any) -> Any:
        keep(*arguments, **options)
        return original(*arguments, **options)

    setattr(task, method, tapped)


def _keep_queries(
    items: Items,
    task: Any,
    scores: dict[str, dict[str, float]],
    relevant: dict[str, dict[str, int]],
    ranked: dict[str, dict[str, float]],
    *,
    hf_split: str,
    hf_subset: str,
) -> None:
    items.columns = {"query_id": list(scores)}
    for name, measure in _QUERY_METRICS.items():
        items.columns[name] = [found[measure] for found in scores.values()]
    metric = task.metadata.main_score if task.metadata.main_score in _QUERY_METRICS else "ndcg_at_10"
    by_query = dict(zip(scores, items.columns[metric], strict=True))
    items.columns |= failure_columns(task.dataset[hf_subset][hf_split], by_query, relevant, ranked)

    def interval(metric: str) -> Interval | None:
        return mean_interval(items.columns[metric]) if metric in items.columns else None

    items.interval = interval


def _keep_scored_pairs(items: Items, found: dict[str, list[float]], labels: Sequence[float]) -> None:
    items.columns |= {"cosine": found["cosine_scores"], "label": list(labels)}

    def interval(metric: str) -> Interval | None:
        return spearman_interval(found["cosine_scores"], labels) if metric == "cosine_spearman" else None

    items.interval = interval


def _keep_classified_pairs(items: Items, found: dict[str, list[float]], labels: Sequence[int]) -> None:
    items.columns |= {"cosine": found["cosine_scores"], "label": list(labels)}
    items.columns |= {name: found[name] for name in PAIR_SIMILARITIES if name != "cosine_scores"}

    def interval(metric: str) -> Interval | None:
        best, _, measure = metric.partition("_")
        if best != "max" or measure not in ("accuracy", "ap"):
            return None
        signed = [[sign * value for value in found[name]] for name, sign in PAIR_SIMILARITIES.items()]
        return best_pair_interval(signed, labels, measure)

    items.interval = interval


def _keep_experiments(items: Items, scores: Sequence[dict[str, float | None]]) -> None:
    names = [name for name, value in scores[0].items() if value is not None]
    items.columns["experiment"] = list(range(len(scores)))
    items.columns |= {name: [found[name] for found in scores] for name in names}

    def interval(metric: str) -> Interval | None:
        return mean_interval(items.columns[metric]) if metric in items.columns else None

    items.interval = interval
