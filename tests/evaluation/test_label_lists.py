"""Labels read at once: the same draws and scores, without a look into the table for each label."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mteb", reason="wants mteb: pip install 'm3e[eval]'")

from datasets.arrow_dataset import Column
from mteb.abstasks import AbsTaskClassification, AbsTaskSTS

from m3e.evaluation.label_lists import read_labels_at_once
from m3e.evaluation.local_files import Texts
from m3e.evaluation.mteb_tasks import fill_classification, own_task

LABELS = ["甲", "乙", "丙"]


@pytest.fixture
def task() -> Any:
    made = own_task("Mine", "classification", "test", "1")
    rows = Texts([f"文{number}" for number in range(150)], [LABELS[number % 3] for number in range(150)], 0)
    fill_classification(made, "test", rows, rows)
    return made


def experiment(task: Any) -> tuple[list[int], Any, list[float]]:
    """The drawn rows, the scores and what was predicted, of vectors that are mostly noise."""
    from mteb.timing import TimingStack

    split = task.dataset["test"]
    vectors = np.random.default_rng(0).normal(size=(len(split), 8)) + np.arange(len(split))[:, None] % 3
    chosen, _, drawn = task._undersample_data(split, 0)
    scores, predicted = task._run_experiment(chosen, split, vectors[drawn], vectors, timer=TimingStack())
    return drawn, scores, predicted


def test_draws_and_scores_stay_and_no_label_is_read_alone(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = experiment(task)
    assert 0.4 < expected[1]["accuracy"] < 1
    assert len(expected[0]) == 96
    real = Column.__getitem__

    def whole(column: Any, key: Any) -> Any:
        assert isinstance(key, slice), f"{key} was read alone"
        return real(column, key)

    def one_by_one(column: Any) -> Any:
        raise AssertionError("a column was read row by row")

    monkeypatch.setattr(Column, "__getitem__", whole)
    monkeypatch.setattr(Column, "__iter__", one_by_one)
    changed = copy.copy(task)
    read_labels_at_once(changed)
    assert experiment(changed) == expected
    with pytest.raises(AssertionError, match="read"):
        experiment(task)


def test_other_tasks_and_ways_of_their_own_are_left_alone(task: Any) -> None:
    class Drawn(AbsTaskClassification):
        metadata = task.metadata

        def _undersample_data(self, *given: Any) -> Any:
            return given

    class Pairs(AbsTaskSTS):
        metadata = own_task("Pairs", "sts", "test", "1").metadata

    drawn, pairs = Drawn(), Pairs()
    for other in (drawn, pairs):
        read_labels_at_once(other)
    assert drawn._undersample_data("split") == ("split",)
    assert "_run_experiment" in drawn.__dict__
    assert "_undersample_data" not in drawn.__dict__
    assert not {"_run_experiment", "_undersample_data"} & pairs.__dict__.keys()
