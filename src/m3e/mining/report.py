"""What mining and scoring came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3e.files import json_safe
from m3e.mining.provenance import ModelFacts

_QUANTILES = {"p5": 0.05, "median": 0.5, "p95": 0.95}


@dataclass(frozen=True)
class SetReport:
    """What was done with one set.

    Attributes:
        rows_in: rows of the source, those included that could not be read.
        dropped: rows that are gone, by rule.
        queries: different ones.
        passages: different ones that were searched, a corpus's included.
        negatives: ``asked`` for each query, ``mined``, ``given`` (kept of those that were there),
            ``given_positives`` (were there, but are positives of the query), ``short`` rows for which fewer than
            asked were found, rows with ``none`` at all.
        skipped: passages in the range of ranks that were not taken, by rule.
        scores: of ``positives`` and ``negatives``: mean, 5th percentile, median, 95th percentile.
    """

    name: str
    kind: str
    rows_in: int
    rows_out: int
    dropped: dict[str, int]
    queries: int
    passages: int
    negatives: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    scores: dict[str, dict[str, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class MiningReport:
    """What a run wrote.

    Attributes:
        sets: that were worked on.
        copied: sets of a prepared folder that were taken over as they are.
        models: that made the data: name, fingerprint, licence, commercial.
        notes: lines that a person should see.
        reused: whether the output was there already, made of the same inputs with the same settings.
    """

    out: Path
    sets: list[SetReport]
    models: list[ModelFacts]
    copied: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reused: bool = False

    @property
    def rows_in(self) -> int:
        """Rows of the sets that were worked on."""
        return sum(item.rows_in for item in self.sets)

    @property
    def rows_out(self) -> int:
        """Of them, those written."""
        return sum(item.rows_out for item in self.sets)

    def total(self, name: str) -> dict[str, int]:
        """The sums over all sets of ``dropped``, ``negatives`` or ``skipped``."""
        counted: Counter[str] = Counter()
        for item in self.sets:
            counted.update(getattr(item, name))
        return dict(counted)

    @classmethod
    def of_dict(cls, value: Mapping[str, Any], out: Path) -> MiningReport:
        """The report of an earlier run, as it left it in its output."""
        sets = [SetReport(**item) for item in value["sets"]]
        models = [ModelFacts(**item) for item in value["models"]]
        return cls(out, sets, models, list(value["copied"]), list(value["notes"]), reused=True)

    def as_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        value: dict[str, Any] = json_safe(
            {
                "out": str(self.out),
                "rows_in": self.rows_in,
                "rows_out": self.rows_out,
                "dropped": self.total("dropped"),
                "negatives": self.total("negatives"),
                "skipped": self.total("skipped"),
                "models": [model.as_dict() for model in self.models],
                "sets": [asdict(item) for item in self.sets],
                "copied": self.copied,
                "notes": self.notes,
                "reused": self.reused,
            }
        )
        return value


def spread(values: Sequence[float] | NDArray[np.float32]) -> dict[str, float | None]:
    """Mean and quantiles of the numbers that are finite, to four decimals; ``None`` where there is none."""
    numbers = np.asarray(values, np.float32).reshape(-1)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return dict.fromkeys(("mean", *_QUANTILES))
    found = {"mean": float(numbers.mean(dtype=np.float64))}
    found |= {name: float(np.quantile(numbers, share)) for name, share in _QUANTILES.items()}
    return {name: round(value, 4) for name, value in found.items()}
