"""The plan of all batches: shares, caps, lengths, what is left out, and the folder it is kept in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from m3e.errors import DataError, SettingsError
from m3e.training.batches import BatchPlan, PlanOptions, plan_batches, planned, summary


@dataclass
class Set:
    name: str
    row_keys: np.ndarray
    weight: float = 1.0


def distinct(name: str, rows: int, weight: float = 1.0) -> Set:
    return Set(name, np.arange(1, 2 * rows + 1).reshape(rows, 2), weight)


def counts(plan: BatchPlan) -> dict[str, int]:
    found = np.bincount(plan.sets, minlength=len(plan.names)).tolist()
    return dict(zip(plan.names, found, strict=True))


def test_an_epoch_draws_every_row_that_fits_once() -> None:
    plan = plan_batches([distinct("a", 103), distinct("b", 41)], PlanOptions(10))
    assert counts(plan) == {"a": 10, "b": 4}
    for number, rows in ((0, 103), (1, 41)):
        drawn = plan.rows[plan.sets == number].ravel()
        assert len(np.unique(drawn)) == len(drawn)
        share = plan.shares[0][number]
        assert (share.drawn, share.unplaced, share.kept_out) == (len(drawn), rows - len(drawn), 0)


def test_batches_of_sets_are_mixed() -> None:
    plan = plan_batches([distinct("a", 400), distinct("b", 400)], PlanOptions(4))
    assert 60 < np.abs(np.diff(plan.sets.astype(int))).sum() < 140


def test_alpha_draws_in_proportion_to_a_power_of_the_rows() -> None:
    sets = [distinct("large", 40_000), distinct("small", 400)]
    plan = plan_batches(sets, PlanOptions(10, alpha=0.5))
    assert counts(plan) == {"large": 400, "small": 40}  # ten times the weight; all of the small one
    large = plan.shares[0][0]
    assert (large.drawn, large.kept_out, large.unplaced) == (4000, 36_000, 0)
    assert plan_batches(sets, PlanOptions(10, alpha=0)).shares[0][0].wanted == 0.5


def test_a_number_of_steps_is_kept_and_short_sets_give_all_they_have() -> None:
    sets = [distinct("large", 4000), distinct("small", 100), distinct("middle", 1000)]
    plan = plan_batches(sets, PlanOptions(10, alpha=0, steps=120))
    assert counts(plan) == {"large": 55, "small": 10, "middle": 55}
    assert len(plan) == 120
    assert len(plan_batches(sets, PlanOptions(10, steps=10_000))) == 510


def test_weights_and_caps() -> None:
    sets = [distinct("a", 1000, weight=2.0), distinct("b", 1000), distinct("c", 1000)]
    assert counts(plan_batches(sets, PlanOptions(10, steps=40))) == {"a": 20, "b": 10, "c": 10}
    weighed = plan_batches(sets, PlanOptions(10, steps=40, weights={"a": 1, "b": 0, "c": 3}))
    assert counts(weighed) == {"a": 10, "b": 0, "c": 30}
    capped = plan_batches(sets, PlanOptions(10, weights={"a": 1}, caps={"a": 200}, cap=500))
    assert counts(capped) == {"a": 20, "b": 50, "c": 50}
    assert capped.shares[0][0].kept_out == 800


def test_epochs_are_dealt_anew_and_counted() -> None:
    plan = plan_batches([distinct("a", 100)], PlanOptions(10, epochs=3))
    assert plan.epochs == (10, 10, 10)
    epochs = plan.rows.reshape(3, -1)
    assert all((np.sort(rows) == np.arange(100)).all() for rows in epochs)
    assert not (epochs[0] == epochs[1]).all()


def test_the_seed_decides_and_another_set_changes_no_draw() -> None:
    options = PlanOptions(10, seed=5)
    first, again = (plan_batches([distinct("a", 100)], options) for _ in range(2))
    assert (first.rows == again.rows).all()
    both = plan_batches([distinct("b", 50), distinct("a", 100)], options)
    of_a = {tuple(sorted(rows)) for rows in both.rows[both.sets == 1].tolist()}
    assert of_a == {tuple(sorted(rows)) for rows in first.rows.tolist()}
    assert not (first.rows == plan_batches([distinct("a", 100)], PlanOptions(10, seed=6)).rows).all()


def test_what_fits_in_no_batch_is_said() -> None:
    keys = np.stack([np.arange(1, 61), np.concatenate([np.full(30, 900), np.arange(1000, 1030)])], axis=1)
    plan = plan_batches([Set("faq", keys)], PlanOptions(10))
    share = plan.shares[0][0]
    assert share.drawn + share.unplaced == 60
    assert plan.lines()[1] == f"faq: 30 of 60 rows, 100.0% of the batches; {share.unplaced} fit in no batch"
    assert summary(plan)["unplaced"] == share.unplaced == 30


def test_a_set_too_small_for_a_batch_is_counted_and_no_set_at_all_refused() -> None:
    plan = plan_batches([distinct("a", 100), distinct("tiny", 3)], PlanOptions(10))
    assert plan.shares[0][1].unplaced == 3
    with pytest.raises(DataError, match=r"fills a batch of 10 rows .* lower batch_size"):
        plan_batches([distinct("tiny", 3)], PlanOptions(10))


def test_options_that_cannot_be() -> None:
    for options, message in (
        ({"batch_size": 1}, "no negatives"),
        ({"batch_size": 4, "alpha": 1.5}, "alpha is 1.5"),
        ({"batch_size": 4, "steps": 0}, "steps is 0"),
        ({"batch_size": 4, "weights": {"a": -1.0}}, "the weight of a"),
    ):
        with pytest.raises(SettingsError, match=message):
            PlanOptions(**options)
    with pytest.raises(SettingsError, match="weights names 'typo', which is no data set here; there are: a"):
        plan_batches([distinct("a", 100)], PlanOptions(10, weights={"typo": 2.0}))
    with pytest.raises(SettingsError, match="weight 0"):
        plan_batches([distinct("a", 100)], PlanOptions(10, weights={"a": 0.0}))


def test_a_plan_is_kept_and_mixed_with_no_other(tmp_path: Path) -> None:
    sets = [distinct("a", 100), distinct("b", 30)]
    made = planned(tmp_path / "plan", sets, PlanOptions(10), "data-1")
    read = planned(tmp_path / "plan", [], PlanOptions(10), "data-1")  # not made again: there is nothing to make it of
    assert (read.rows == made.rows).all()
    assert (read.sets == made.sets).all()
    assert (read.names, read.epochs, read.shares) == (made.names, made.epochs, made.shares)
    for options, data in ((PlanOptions(10, seed=1), "data-1"), (PlanOptions(10), "data-2")):
        with pytest.raises(SettingsError, match="other data or settings"):
            planned(tmp_path / "plan", sets, options, data)


def test_a_broken_plan_is_named(tmp_path: Path) -> None:
    plan_batches([distinct("a", 100)], PlanOptions(10)).save(tmp_path / "plan")
    (tmp_path / "plan" / "rows.npy").write_bytes(b"")
    with pytest.raises(DataError, match="plan holds no batches that can be read"):
        BatchPlan.load(tmp_path / "plan")
