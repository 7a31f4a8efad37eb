"""Labels read at once: mteb reads them one by one, and ``datasets`` looks each of them up in its table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class _Lists:
    """As much of a split as mteb's sampling and scoring use, with columns that are lists."""

    def __init__(self, split: Any) -> None:
        self._split = split

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, column: str) -> list[Any]:
        values: list[Any] = self._split[column][:]
        return values

    def select(self, rows: Sequence[int]) -> Any:
        return self._split.select(rows)


def read_labels_at_once(task: Any) -> None:
    """Give this one classification task object its labels as lists, for drawing training rows and for scoring.

    The scores stay the same; with a light model the reading was most of a classification task's time. Tasks of other
    kinds, and those that draw or score in a way of their own, are left alone.
    """
    from mteb.abstasks import AbsTaskClassification

    if getattr(type(task), "_undersample_data", None) is AbsTaskClassification._undersample_data:
        draw = task._undersample_data
        task._undersample_data = lambda split, *more, **options: draw(_Lists(split), *more, **options)
    if getattr(type(task), "_run_experiment", None) is AbsTaskClassification._run_experiment:
        score = task._run_experiment
        task._run_experiment = lambda train, test, *more, **options: score(
            _Lists(train), _Lists(test), *more, **options
        )
