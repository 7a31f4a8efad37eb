"""What a run does when its loss breaks: name the batch and its rows, skip it, go back to sound weights, or give up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from m3e.errors import TrainingDivergedError
from m3e.training.guard import load_trained, trained_weights

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_MEMORY = 0.98
_STEPS_TO_KNOW = 5
_LEAST_MEAN = 1e-6
_ROWS_NAMED = 8


@dataclass(frozen=True)
class BatchName:
    """Which batch it is: its number in the plan, its data set, its rows in the set's shards."""

    number: int
    dataset: str
    rows: Sequence[int]

    def __str__(self) -> str:
        named = ", ".join(str(row) for row in self.rows[:_ROWS_NAMED])
        more = f" and {len(self.rows) - _ROWS_NAMED} more" if len(self.rows) > _ROWS_NAMED else ""
        return f"batch {self.number} ({self.dataset}, rows {named}{more})"


class LossGuard:
    """Watches every step's loss and gradient.

    A step whose loss or gradient is not finite, or whose loss is ``spike`` times the running mean of its own data set,
    is not taken: one set's usual loss may be many times another's. After ``most_skipped`` such steps in a row the
    weights go back to the last sound ones and the optimizer forgets its momenta; when that happens a third time the run
    ends with an error.

    Args:
        spike: 0 takes every finite loss.
        say: prints one line.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        spike: float = 10.0,
        most_skipped: int = 5,
        most_returns: int = 2,
        say: Callable[[str], None] = print,
    ) -> None:
        self._model = model
        self._spike = spike
        self._most_skipped = most_skipped
        self._most_returns = most_returns
        self._say = say
        self._usual: dict[str, tuple[float, int]] = {}  # of each data set: the mean loss, of so many steps
        self._in_a_row = 0
        self._returns = 0
        self.skipped = 0
        self._sound: dict[str, torch.Tensor] | None = None

    def keep(self) -> None:
        """Remember the weights as they are now as sound, unless steps are being skipped."""
        if self._in_a_row == 0:
            self._sound = trained_weights(self._model)

    def is_sound(self, loss: float, batch: BatchName) -> bool:
        """Whether the step may be taken; if not, its gradients are gone."""
        if self._sound is None:
            self.keep()
        fault = self._fault(loss, batch.dataset)
        if fault is None:
            mean, steps = self._usual.get(batch.dataset, (0.0, 0))
            memory = min(_MEMORY, 1 - 1 / (steps + 1))
            self._usual[batch.dataset] = (memory * mean + (1 - memory) * loss, steps + 1)
            self._in_a_row = 0
            return True
        self.skipped += 1
        self._in_a_row += 1
        self._model.zero_grad(set_to_none=True)
        self._say(f"{fault} at {batch}: the step is skipped")
        return False

    @property
    def must_return(self) -> bool:
        """Whether so many steps were skipped in a row that the weights themselves are at fault."""
        return self._in_a_row >= self._most_skipped

    def go_back(self, optimizer: Any, batch: BatchName, learning_rate: float) -> None:
        """Put the last sound weights back and clear the optimizer's memory.

        Raises:
            TrainingDivergedError: that was done before, to no avail.
        """
        if self._returns >= self._most_returns:
            raise TrainingDivergedError(
                f"the loss broke again and again, last at {batch}, with learning rate {learning_rate:g}; try "
                "schedule.lr ten times lower, a higher temperature, or leave out that data set"
            )
        self._returns += 1
        self._in_a_row = 0
        assert self._sound is not None
        load_trained(self._model, self._sound)
        inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
        inner.state.clear()
        self._say(f"{self._most_skipped} steps in a row were skipped: back to the last sound weights")

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs to know, JSON values."""
        return {
            "usual": self._usual,
            "in_a_row": self._in_a_row,
            "returns": self._returns,
            "skipped": self.skipped,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Take up the state of a checkpoint, whose weights the model has."""
        self._usual = {name: (float(mean), int(steps)) for name, (mean, steps) in state["usual"].items()}
        self._in_a_row, self._returns = int(state["in_a_row"]), int(state["returns"])
        self.skipped = int(state["skipped"])
        self._sound = trained_weights(self._model)

    def _fault(self, loss: float, dataset: str) -> str | None:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        mean, steps = self._usual.get(dataset, (0.0, 0))
        times = loss / max(mean, _LEAST_MEAN)
        if self._spike and steps >= _STEPS_TO_KNOW and times > self._spike:
            return f"the loss is {loss:.4g}, {times:.0f} times the mean of that set's steps before,"
        if not self._gradients_are_finite():
            return "a gradient is not finite"
        return None

    def _gradients_are_finite(self) -> bool:
        gradients = [value.grad for value in self._model.parameters() if value.grad is not None]
        if not gradients:
            return True
        return bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients)))
