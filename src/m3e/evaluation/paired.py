"""Two models on the same items: is one better, by how much, and could it be chance?

Where a score is a mean over items (queries), the interval is the paired bootstrap's and the p-value
that of a permutation test: under the hypothesis that the models are alike, each item's difference
may have either sign (Smucker et al., 2007). Where it is not (Spearman, average precision), both
models' scores are computed over the same resampled items, and the p-value is the bootstrap's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from m3e.errors import DataError, SettingsError, first_line
from m3e.evaluation.items import PAIR_SIMILARITIES
from m3e.evaluation.read_results import StoredResult, StoredResults, identity
from m3e.evaluation.results import TaskScore
from m3e.evaluation.statistics import (
    Interval,
    Statistic,
    best_pair_statistic,
    bootstrap_p,
    mean_statistic,
    percentile_interval,
    resampled,
    sign_flip_p,
    spearman_statistic,
)

_SURE = 0.05
_SAME_SCORE = 2e-4  # mteb rounds means to 5 decimals

Columns = Mapping[str, list[Any]]


@dataclass(frozen=True)
class PairedTest:
    """The second model against the first on one task.

    Attributes:
        difference: ``score_b`` less ``score_a``.
        n: items compared.
        unit: what an item is: ``queries``, ``pairs``, ``experiments``.
        ci95: 95 % interval of the difference; ``None`` where there are no items.
        p: two-sided; ``None`` where there are no items.
        method: ``sign flip``, ``bootstrap``, or ``none`` where there are no items.
        differences: one mapping an item with ``id``, ``a``, ``b`` and ``difference``, where the score is a mean.
    """

    task: str
    metric: str
    model_a: str
    model_b: str
    score_a: float
    score_b: float
    difference: float
    n: int
    unit: str = "items"
    ci95: Interval | None = None
    p: float | None = None
    method: str = "none"
    differences: list[dict[str, Any]] = field(default_factory=list)

    @property
    def clear(self) -> bool:
        """Whether neither the interval nor the p-value leaves room for chance."""
        return self.ci95 is not None and (self.p or 0) < _SURE and self.ci95[0] * self.ci95[1] > 0

    @property
    def sentence(self) -> str:
        """The finding in words; a point is a hundredth."""
        points = abs(self.difference) * 100
        better, worse = (self.model_b, self.model_a) if self.difference >= 0 else (self.model_a, self.model_b)
        if self.ci95 is None:
            return (
                f"{better} scores {points:.1f} points higher than {worse}; this task keeps no scores of single "
                "items, so whether that is chance cannot be said"
            )
        low, high = sorted(end * (100 if self.difference >= 0 else -100) for end in self.ci95)
        how = (
            f"(95 % interval {_signed(low)} to {_signed(high)}), n = {self.n:,} {self.unit}, {_probability(self.p)}"
            + (" by bootstrap" if self.method == "bootstrap" else "")
        )
        if self.unit == "experiments":
            how += "; experiments draw other training rows, the texts scored are always the same"
        if self.clear:
            return f"{better} is better by {points:.1f} points {how}"
        if self.difference == 0:
            return f"no difference {how}"
        return f"no clear difference: {better} is {points:.1f} points above {worse} {how}"

    def as_dict(self) -> dict[str, Any]:
        """All fields and the sentence."""
        return asdict(self) | {"clear": self.clear, "sentence": self.sentence}


@dataclass(frozen=True)
class Paired:
    """The comparison of two models.

    Attributes:
        refused: why a task that both have results of was not compared, by name.
    """

    model_a: str
    model_b: str
    tests: list[PairedTest]
    refused: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``m3e report --paired``."""
        tests = [test.as_dict() for test in self.tests]
        return {"model_a": self.model_a, "model_b": self.model_b, "tests": tests, "refused": self.refused}


def compare(stored: StoredResults, name_a: str, name_b: str) -> Paired:
    """The paired test of two models, with their prompts, on every task that both have results of.

    Args:
        name_a: a model's name, ``name@revision``, or its folder of results.
        name_b: the one that is compared with it: differences are b less a.

    Raises:
        SettingsError: no such model, one and the same model, or no task in common.
    """
    model_a, model_b = stored.find_model(name_a), stored.find_model(name_b)
    labels = stored.labels()
    if model_a == model_b:
        raise SettingsError(f"{name_a} and {name_b} are one model, {labels[model_a]}; a paired test wants two")
    of_a, of_b = (_by_task(stored, model) for model in (model_a, model_b))
    common = [task for task in of_a if task in of_b]
    if not common:
        raise SettingsError(f"{labels[model_a]} and {labels[model_b]} have results of no task in common")
    tests: list[PairedTest] = []
    refused: dict[str, str] = {}
    for task in common:
        same = [(a, b) for a in of_a[task] for b in of_b[task] if identity(a.score) == identity(b.score)]
        if not same:
            refused[task] = _what_differs(of_a[task][0].score, of_b[task][0].score)
        for a, b in same:
            try:
                tests.append(paired_test(a, b, labels[model_a], labels[model_b]))
            except DataError as error:
                refused[task] = str(error)
    return Paired(labels[model_a], labels[model_b], tests, refused)


def _by_task(stored: StoredResults, model: tuple[str, str]) -> dict[str, list[StoredResult]]:
    found: dict[str, list[StoredResult]] = {}
    for result in stored.results:
        if (result.model, result.revision) == model and result.score.prompts:
            found.setdefault(result.score.name, []).append(result)
    return found


def _what_differs(a: TaskScore, b: TaskScore) -> str:
    facts = {
        "split": (a.split, b.split),
        "data revision": (a.data_revision or "unknown", b.data_revision or "unknown"),
        "size": (f"{a.n:,}", f"{b.n:,}"),
        "recipe": (a.recipe or "mteb's", b.recipe or "mteb's"),
        "mteb's protocol": ("kept" if a.official_split else "not kept", "kept" if b.official_split else "not kept"),
    }
    parts = [f"the {name} differs ({left} and {right})" for name, (left, right) in facts.items() if left != right]
    return f"not the same data: {', '.join(parts)}"


def paired_test(a: StoredResult, b: StoredResult, name_a: str, name_b: str) -> PairedTest:
    """The test of one result against another on the same data.

    Raises:
        DataError: the two cannot be compared, or a file of items does not fit its score.
    """
    metric = a.score.metric
    if b.score.metric != metric:
        raise DataError(f"not the same metric: {metric} and {b.score.metric}")
    untested = PairedTest(
        task=a.score.name,
        metric=metric,
        model_a=name_a,
        model_b=name_b,
        score_a=a.score.score,
        score_b=b.score.score,
        difference=b.score.score - a.score.score,
        n=a.score.n,
    )
    left, right = _read_items(a), _read_items(b)
    if left is None or right is None:
        return untested
    unit, key = _unit(left)
    untested = replace(untested, n=len(left[key]), unit=unit)
    left, right = _aligned(left, right, key)
    if key != "label" and metric in left and metric in right:
        _check_score(a, float(np.mean(left[metric])))
        _check_score(b, float(np.mean(right[metric])))
        return _test_mean(untested, left[key], left[metric], right[metric])
    first, second = _statistic(metric, left), _statistic(metric, right)
    if first is None or second is None:
        return replace(untested, n=a.score.n, unit="items")
    whole = np.ones((1, len(left[key])))
    _check_score(a, float(first(whole)[0]))
    _check_score(b, float(second(whole)[0]))
    values = resampled(untested.n, lambda counts: np.asarray(second(counts) - first(counts)))
    return replace(untested, ci95=percentile_interval(values), p=bootstrap_p(values), method="bootstrap")


def _test_mean(untested: PairedTest, ids: list[Any], left: list[float], right: list[float]) -> PairedTest:
    gaps = (np.asarray(right, np.float64) - np.asarray(left, np.float64)).tolist()
    rows = [
        {"id": item, "a": a, "b": b, "difference": gap} for item, a, b, gap in zip(ids, left, right, gaps, strict=True)
    ]
    interval = percentile_interval(resampled(len(gaps), mean_statistic(gaps)))
    return replace(untested, ci95=interval, p=sign_flip_p(gaps), method="sign flip", differences=rows)


def _read_items(result: StoredResult) -> Columns | None:
    if result.items is None:
        return None
    try:
        columns: Columns = pq.read_table(result.items).to_pydict()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{result.items} cannot be read: {first_line(error)}") from error
    return columns if any(key in columns for key in ("query_id", "experiment", "label")) else None


def _unit(columns: Columns) -> tuple[str, str]:
    """What an item is, and the column that both models must have alike."""
    if "query_id" in columns:
        return "queries", "query_id"
    return ("experiments", "experiment") if "experiment" in columns else ("pairs", "label")


def _aligned(left: Columns, right: Columns, key: str) -> tuple[Columns, Columns]:
    """Both models' items in one order, whichever is named first.

    Raises:
        DataError: they hold other items.
    """
    if key not in right:
        raise DataError("not the same items: one has queries, the other has none")
    if key == "query_id":
        left, right = _sorted_by(left, key), _sorted_by(right, key)
    if left[key] == right[key]:
        return left, right
    if key == "label":
        raise DataError("not the same items: the pairs' labels differ")
    alone = sorted(set(left[key]) ^ set(right[key]), key=str)
    if not alone:
        raise DataError("not the same items: one holds a query twice")
    raise DataError(f"not the same items: {len(alone)} are in one only, the first is {alone[0]}")


def _sorted_by(columns: Columns, key: str) -> Columns:
    order = sorted(range(len(columns[key])), key=lambda index: str(columns[key][index]))
    return {name: [values[index] for index in order] for name, values in columns.items()}


def _statistic(metric: str, columns: Columns) -> Statistic | None:
    """A pair task's metric over its items; ``None`` where they do not hold what it is made of."""
    if metric == "cosine_spearman":
        return spearman_statistic(columns["cosine"], columns["label"])
    best, _, measure = metric.partition("_")
    names = {name: "cosine" if name == "cosine_scores" else name for name in PAIR_SIMILARITIES}
    if best != "max" or measure not in ("accuracy", "ap") or not all(name in columns for name in names.values()):
        return None
    signed = [[PAIR_SIMILARITIES[name] * value for value in columns[column]] for name, column in names.items()]
    return best_pair_statistic(signed, columns["label"], measure)


def _check_score(result: StoredResult, found: float) -> None:
    if abs(result.score.score - found) > _SAME_SCORE:
        raise DataError(
            f"{result.items} gives {found:.4f} where {result.file.name} says {result.score.score:.4f}; "
            f"evaluate {result.model} again"
        )


def _signed(value: float) -> str:
    return f"{0.0 if abs(value) < 0.05 else value:.1f}".replace("-", "−")


def _probability(p: float | None) -> str:
    if p is None:
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
