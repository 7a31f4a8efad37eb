"""One ranking of several: reciprocal ranks, which need no scores, or weighted scores brought to one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from m3e.errors import SettingsError

Method = Literal["rrf", "weighted"]
Scale = Literal["min-max", "max"]

RRF_K = 60


@dataclass(frozen=True)
class Fusion:
    """How a dense and a lexical ranking become one.

    Attributes:
        method: ``rrf`` (:func:`reciprocal_rank`) or ``weighted`` (:func:`weighted`).
        dense_weight: of the dense ranking, 0..1; the lexical one has the rest.
        scale: of ``weighted``.
        k: of ``rrf``.
        depth: how many documents of each ranking are looked at, at least; no fewer than are asked for.
    """

    method: Method = "rrf"
    dense_weight: float = 0.5
    scale: Scale = "min-max"
    k: int = RRF_K
    depth: int = 100

    def __post_init__(self) -> None:
        if self.method not in ("rrf", "weighted"):
            raise SettingsError(f"the fusion {self.method!r} is not known; choose rrf or weighted")
        if not 0 <= self.dense_weight <= 1:
            raise SettingsError(f"the dense weight must lie in 0..1, not be {self.dense_weight}")
        if self.scale not in ("min-max", "max"):
            raise SettingsError(f"the scale {self.scale!r} is not known; choose min-max or max")
        if self.k < 0 or self.depth < 1:
            raise SettingsError(f"k must be at least 0 and the depth at least 1, not {self.k} and {self.depth}")


def reciprocal_rank(
    rankings: Sequence[Sequence[str]], *, k: int = RRF_K, weights: Sequence[float] | None = None
) -> dict[str, float]:
    """Each id's sum over the rankings of weight / (k + rank), ranks from 1, in order from the greatest; ties by id.

    Cormack, Clarke and Büttcher, Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    Methods (2009). An id that a ranking lacks gets nothing from it.

    Args:
        weights: one a ranking; 1 each by default.
    """
    scores: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for rank, identifier in enumerate(dict.fromkeys(ranking), start=1):
            scores[identifier] = scores.get(identifier, 0.0) + weight / (k + rank)
    return _ordered(scores)


def weighted(
    scored: Sequence[Mapping[str, float]], weights: Sequence[float], *, scale: Scale = "min-max"
) -> dict[str, float]:
    """Each id's weighted sum of scaled scores, in order from the greatest; ties by id.

    Args:
        scored: scores by id, one mapping a ranking; an id that a mapping lacks gets 0 there after scaling.
        scale: ``min-max`` moves the lowest score of a mapping to 0 and the highest to 1 (where all are equal, to
            1); ``max`` divides by the highest and sets what is below 0 to 0, which keeps cosines nearly as they
            are and puts BM25, whose scores have no bound, beside them.
    """
    scores: dict[str, float] = {}
    for part, weight in zip(scored, weights, strict=True):
        for identifier, score in _scaled(part, scale).items():
            scores[identifier] = scores.get(identifier, 0.0) + weight * score
    return _ordered(scores)


def _scaled(scores: Mapping[str, float], scale: Scale) -> dict[str, float]:
    if not scores:
        return {}
    highest, lowest = max(scores.values()), min(scores.values())
    if scale == "max":
        return {key: max(0.0, value / highest) if highest > 0 else 0.0 for key, value in scores.items()}
    width = highest - lowest
    return {key: (value - lowest) / width if width else 1.0 for key, value in scores.items()}


def _ordered(scores: dict[str, float]) -> dict[str, float]:
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
