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
        type: mteb's type of the task: ``STS``, ``Retrieval``, ….
        category: what of a model it tries: ``s2s``, ``s2p`` or ``s2c``.
        data_revision: of the data that was scored, the hub's or a hash of the local files.
        contamination: the share of the task's texts that the model was trained on; ``None`` where its folder
            has no ``texts.bloom``.
        texts_per_second: how fast texts became vectors; ``None`` where nothing was encoded.
        hardware: what the model ran on, since a speed means nothing without it; empty where nothing was encoded.
        prompts: whether the model's prompts were put before texts, where it has any.
        recipe: the protocol, where it is not mteb's: ``uniem``.
        truncated: the share of encoded texts that were cut to the model's length, 0..1; ``None`` where nobody
            counted.

    Where the data lay and how fast a machine was are no part of a score: two scores may be equal without them.
    """

    task: str
    split: str
    metric: str
    score: float
    scores: dict[str, float]
    ci95: tuple[float, float] | None
    n: int
    official_split: bool
    type: str = ""
    category: str = ""
    data_revision: str = field(default="", compare=False)
    contamination: float | None = None
    texts_per_second: float | None = field(default=None, compare=False)
    hardware: str = field(default="", compare=False)
    prompts: bool = True
    recipe: str = ""
    truncated: float | None = None

    @property
    def name(self) -> str:
        """The task's name; ``<task>@<recipe>`` where the protocol is not mteb's."""
        return f"{self.task}@{self.recipe}" if self.recipe else self.task


@dataclass(frozen=True)
class Results:
    """The scores of one model.

    Attributes:
        revision: hash of the model's weights, tokenizer and settings.
        missing: why a task has no score, by name.
        notes: what was left out or replaced, one line each.
        parameters: numbers in the model; ``None`` where they cannot be counted.
        dim: of its vectors; ``None`` for a model that only searches.
    """

    model: str
    revision: str
    results: list[TaskScore]
    missing: dict[str, str]
    notes: list[str] = field(default_factory=list)
    parameters: int | None = None
    dim: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``m3e eval --json``; it holds no NaN."""
        facts = {"model": self.model, "revision": self.revision, "parameters": self.parameters, "dim": self.dim}
        rows = [asdict(score) for score in self.results]
        value: dict[str, Any] = json_safe({**facts, "results": rows, "missing": self.missing})
        return value

    def published(self) -> dict[str, Published]:
        """Published scores of this model by :attr:`TaskScore.name`, only where the split was the official one."""
        official = [score for score in self.results if score.official_split and score.prompts]
        found = {score.name: published_score(self.model, score.task, score.recipe) for score in official}
        return {task: item for task, item in found.items() if item is not None}


def category_of(task_type: str, *, code: bool = False) -> str:
    """What a task of mteb's type tries: ``s2s`` like texts, ``s2p`` a passage for a query, ``s2c`` code for a text."""
    if "Retrieval" in task_type or "Reranking" in task_type:
        return "s2c" if code else "s2p"
    return "s2s"


def finite_scores(subsets: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The metrics of mteb's record of one split that are finite numbers, averaged over its subsets."""
    means: dict[str, float] = {}
    for name in subsets[0]:
        values = [subset.get(name) for subset in subsets]
        numbers = [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]
        if len(numbers) == len(values):
            means[name] = sum(numbers) / len(numbers)
    return means
