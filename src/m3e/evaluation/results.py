"""What an evaluation returns, and how it is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from m3e.evaluation.published import Published, published_score
from m3e.files import json_safe


@dataclass(frozen=True)
class TaskScore:
    """One task's scores, 0..1 (correlations −1..1).

    Attributes:
        split: the split that was scored, by mteb's name where it is mteb's.
        metric: the task's main metric; ``score`` is its value.
        scores: all of the task's metrics that are finite numbers.
        ci95: 95 % bootstrap interval of ``score``; ``None`` where there are too few items.
        n: items scored: texts, pairs or queries.
        official_split: whether rows and splits are those of mteb's protocol, so that published scores compare.
        truncated: the share of the encoded texts that were longer than the model takes and were cut, 0..1;
            ``None`` for a model that does not say.
    """

    task: str
    split: str
    metric: str
    score: float
    scores: dict[str, float]
    ci95: tuple[float, float] | None
    n: int
    official_split: bool
    truncated: float | None = None


@dataclass(frozen=True)
class Results:
    """The scores of one model.

    Attributes:
        revision: hash of the model's weights, tokenizer and settings.
        missing: why a task has no score, by name.
        notes: what was left out or replaced, one line each.
    """

    model: str
    revision: str
    results: list[TaskScore]
    missing: dict[str, str]
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``m3e eval --json``; it holds no NaN."""
        fields = ("task", "split", "metric", "score", "scores", "ci95", "n", "truncated")
        rows = [{name: asdict(score)[name] for name in fields} for score in self.results]
        value: dict[str, Any] = json_safe({"model": self.model, "results": rows, "missing": self.missing})
        return value

    def published(self) -> dict[str, Published]:
        """Published scores of this model by task, only where the split was the official one."""
        found = {score.task: published_score(self.model, score.task) for score in self.results if score.official_split}
        return {task: item for task, item in found.items() if item is not None}


def finite_scores(subsets: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The metrics of mteb's record of one split that are finite numbers, averaged over its subsets."""
    means: dict[str, float] = {}
    for name in subsets[0]:
        values = [subset.get(name) for subset in subsets]
        numbers = [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]
        if len(numbers) == len(values):
            means[name] = sum(numbers) / len(numbers)
    return means
