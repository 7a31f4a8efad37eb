"""sentence-transformers' trainer over planned batches: its schedule, logs, checkpoints and processes; our steps.

What it does not do is read, tokenise, pad or shuffle: the plan and the token store have done that. Checkpoints hold the
trained weights by name, the optimizer, the schedule and the random state, so that a stopped run goes on with the next
batch, and on a CPU ends in the same bits.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from m3e.files import read_json, write_json
from m3e.training.cached_loss import Work
from m3e.training.embedding import Precision
from m3e.training.flops import model_flops, peak_flops
from m3e.training.forward import training_form
from m3e.training.gather import mean_of_all, processes, sum_gradients, wait_for_all
from m3e.training.loop import Trainer
from m3e.training.loss_guard import BatchName, LossGuard
from m3e.training.packing import TextBatch, padding_share
from m3e.training.planned_loader import BATCH, NumberedBatches, planned_loader

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments

GUARD_NAME = "loss_guard.json"


class TextLoss(Protocol):
    """A loss of a batch of a token store, which counts its work: :class:`m3e.training.cached_loss.CachedTextLoss`."""

    work: Work
    precision: Precision

    def get_config_dict(self) -> dict[str, Any]:
        """Its settings."""
        ...


class PlannedTrainer(Trainer):
    """Trains on the batches of a plan, one after the other, each once.

    Args:
        batches: this process's part of the plan.
        compile_layers: let torch.compile fuse each encoder layer's small operations.
        guard: decides whether a step may be taken; without one every step is.
        **options: of sentence-transformers' trainer; ``args.num_train_epochs`` must be 1, as the plan has all epochs.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        args: SentenceTransformerTrainingArguments,
        loss: TextLoss,
        batches: NumberedBatches,
        *,
        compile_layers: bool = False,
        guard: LossGuard | None = None,
        **options: Any,
    ) -> None:
        self.batches = batches
        self.compile_layers = compile_layers
        self.guard = guard
        super().__init__(model=model, args=args, loss=loss, **options)
        self._since = time.perf_counter()

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The plan's batches; accelerate has no part in splitting them."""
        return planned_loader(self.batches, self.args.dataloader_num_workers)

    def train(self, *args: Any, **options: Any) -> Any:
        """Train, with the encoder in the form that computes least."""
        self._restart_clock()
        with training_form(self.model, compile_layers=self.compile_layers):
            return super().train(*args, **options)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """A line of the log, with tokens and rows a second, padding and MFU since the last one."""
        work = self.loss.work
        if "loss" in logs and work.tokens:
            if self.model.device.type == "cuda":
                torch.cuda.synchronize(self.model.device)
            seconds = max(time.perf_counter() - self._since, 1e-9)
            logs = {**logs, **figures(self.model, work, seconds, processes(), self.loss.precision)}
            self._restart_clock()
        super().log(logs, start_time)

    @property
    def work_done(self) -> Work:
        """All that was computed, or since the log was last written."""
        work: Work = self.loss.work
        return work

    def _restart_clock(self) -> None:
        self.loss.work = Work()
        self._since = time.perf_counter()

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a planned batch."""
        del model, num_items_in_batch  # the loss has the model itself: gradients are summed here, not by a wrapper
        loss = self.loss(inputs[BATCH])
        return (loss, {}) if return_outputs else loss

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward; gradients are those of all processes when a step of the optimizer follows."""
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        if processes() > 1 and self.accelerator.sync_gradients:
            sum_gradients(self.model.parameters())
        # all processes must take the step, or none: the last bits of their losses may differ
        if self.guard is not None and not self._is_sound(float(mean_of_all(loss)), inputs[BATCH]):
            return torch.zeros_like(loss)
        return loss

    def _is_sound(self, loss: float, batch: TextBatch) -> bool:
        """Whether the step may be taken; without gradients the optimizer leaves the weights alone."""
        assert self.guard is not None
        number = int(self.state.global_step)
        name = BatchName(number, batch.dataset, self.batches.rows_of(number))
        rate = float(self.optimizer.param_groups[0]["lr"])
        sound = self.guard.is_sound(loss, name)
        if self.guard.must_return:
            self.guard.go_back(self.optimizer, name, rate)
        return sound

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.guard is not None:
            write_json(Path(output_dir or self.args.output_dir) / GUARD_NAME, self.guard.state())

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        wait_for_all()  # the first process is about to say that the checkpoint is whole

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        super()._load_from_checkpoint(checkpoint_path)
        if self.guard is not None and (Path(checkpoint_path) / GUARD_NAME).is_file():
            self.guard.resume(read_json(Path(checkpoint_path) / GUARD_NAME))

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Nothing: :meth:`log` counts tokens, not padded positions."""
        del inputs
        return 0


def figures(model: SentenceTransformer, work: Work, seconds: float, world: int, precision: str) -> dict[str, float]:
    """The work of one process in ``seconds`` as figures of all processes.

    Returns:
        ``tokens``; ``tokens_per_second`` and ``rows_per_second``; ``padding``, the share of positions without a token;
        ``recomputed``, tokens that were computed twice, as a share; ``mfu``, the model's floating-point operations
        (without what is computed twice) as a share of the device's peak, where that is known.
    """
    found = {
        "tokens": world * work.tokens,
        "tokens_per_second": world * work.tokens / seconds,
        "rows_per_second": world * work.rows / seconds,
        "padding": padding_share(work.tokens, work.positions),
        "recomputed": work.recomputed / max(1, work.positions),
    }
    peak = peak_flops(model.device, precision)
    if peak is not None:
        found["mfu"] = model_flops(model, work.tokens, work.square) / seconds / peak
    return {name: round(value, 4) for name, value in found.items()}
