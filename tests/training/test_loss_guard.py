"""The loss guard: what is skipped, when weights go back, when it gives up."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from m3e.errors import TrainingDivergedError
from m3e.training.loss_guard import BatchName, LossGuard

BATCH = BatchName(3, "faq", list(range(20)))


@pytest.fixture
def model() -> Any:
    return torch.nn.Linear(2, 1, bias=False)


def test_a_batch_has_a_name() -> None:
    assert str(BATCH) == "batch 3 (faq, rows 0, 1, 2, 3, 4, 5, 6, 7 and 12 more)"
    assert str(BatchName(0, "a", [5])) == "batch 0 (a, rows 5)"


def test_spikes_are_skipped_only_once_the_mean_is_known(model: Any) -> None:
    lines: list[str] = []
    guard = LossGuard(model, spike=3.0, say=lines.append)
    assert guard.is_sound(100.0, BATCH)
    for _ in range(40):
        assert guard.is_sound(1.0, BATCH)
    model.weight.grad = torch.ones_like(model.weight)
    assert not guard.is_sound(50.0, BATCH)
    assert model.weight.grad is None
    assert guard.skipped == 1
    assert "times the mean of that set's steps before" in lines[0]
    assert "batch 3 (faq" in lines[0]
    assert guard.is_sound(1.2, BATCH)


def test_a_set_is_compared_with_itself(model: Any) -> None:
    guard = LossGuard(model, spike=10.0, say=lambda line: None)
    hard = BatchName(4, "hard", [1, 2])
    for _ in range(40):
        assert guard.is_sound(0.1, BATCH)
    for _ in range(10):
        assert guard.is_sound(2.5, hard)  # 25 times the other set's loss, from its first batch on
    assert not guard.is_sound(2.5, BATCH)
    assert not guard.is_sound(26.0, hard)
    assert guard.skipped == 2


def test_gradients_that_are_no_numbers(model: Any) -> None:
    guard = LossGuard(model, say=lambda line: None)
    model.weight.grad = torch.full_like(model.weight, float("inf"))
    assert not guard.is_sound(1.0, BATCH)
    assert model.weight.grad is None


def test_back_to_sound_weights_and_then_an_end(model: Any) -> None:
    optimizer = torch.optim.AdamW(model.parameters())
    guard = LossGuard(model, most_skipped=2, most_returns=1, say=lambda line: None)
    guard.keep()
    before = model.weight.detach().clone()
    model.weight.grad = torch.ones_like(model.weight)
    optimizer.step()
    assert not torch.equal(model.weight, before)
    assert not guard.is_sound(float("nan"), BATCH)
    assert not guard.must_return
    assert not guard.is_sound(float("nan"), BATCH)
    assert guard.must_return
    guard.go_back(optimizer, BATCH, 1e-3)
    assert torch.equal(model.weight, before)
    assert not optimizer.state
    with pytest.raises(TrainingDivergedError, match=r"batch 3 \(faq.*learning rate 0.001.*schedule.lr"):
        guard.go_back(optimizer, BATCH, 1e-3)


def test_a_resumed_run_knows_what_was(model: Any) -> None:
    first = LossGuard(model, spike=3.0, say=lambda line: None)
    for _ in range(30):
        first.is_sound(1.0, BATCH)
    second = LossGuard(model, spike=3.0, say=lambda line: None)
    second.resume(first.state())
    assert not second.is_sound(10.0, BATCH)
