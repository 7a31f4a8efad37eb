"""The training loop: sentence-transformers' trainer with our guard, our checkpoints and our messages."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerControl, TrainerState

from m3e.errors import TrainingDivergedError
from m3e.files import read_json
from m3e.training.guard import Guard, load_trained, trained_weights
from m3e.training.options import FineTuneOptions

SECONDS_BETWEEN_CHECKPOINTS = 120
FEWEST_STEPS_BETWEEN_LOOKS = 10
CHECKPOINT_PREFIX = "checkpoint-"
WEIGHTS_NAME = "trained.safetensors"


class Trainer(SentenceTransformerTrainer):
    """sentence-transformers' trainer without a model card, whose checkpoints hold the trained weights by name.

    Its own checkpoints are model folders, which cannot be put back into a model that is wrapped with adapters.
    """

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(trained_weights(self.model), folder / WEIGHTS_NAME)

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        load_trained(self.model, load_file(Path(checkpoint_path) / WEIGHTS_NAME))

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Leave it out: the card is ours."""


class OrderedTrainer(Trainer):
    """Rows in the order of the file, for ``shuffle=False``."""

    def get_batch_sampler(self, dataset: Dataset, batch_size: int, drop_last: bool, **_: Any) -> BatchSampler:
        """Batches of neighbouring rows."""
        return BatchSampler(SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last)


class Watch(TrainerCallback):
    """Calls the guard, saves checkpoints, records the loss and stops a run whose loss broke."""

    def __init__(
        self,
        guard: Guard,
        options: FineTuneOptions,
        lr: float,
        on_step: Callable[[int, int, float | None], None],
    ) -> None:
        self._guard = guard
        self._options = options
        self._lr = lr
        self._on_step = on_step
        self._last_save = time.monotonic()

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Stop at the first loss or gradient that is not a finite number."""
        logs = logs or {}
        for name in ("loss", "grad_norm"):
            value = logs.get(name)
            if value is not None and not math.isfinite(value):
                raise TrainingDivergedError(
                    f"the {name.replace('_', ' ')} became {value} at step {state.global_step} with learning rate "
                    f"{self._lr:g}; try a learning rate ten times lower"
                )
        if "loss" in logs:
            self._on_step(state.global_step, state.max_steps, float(logs["loss"]))

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look at even distances, and at the end; save when it is time."""
        if is_time_to_look(state.global_step, state.max_steps, self._options.evaluations):
            self._guard.look(state.global_step)
        if self._is_time_to_save(state):
            control.should_save = True
            self._last_save = time.monotonic()

    def _is_time_to_save(self, state: TrainerState) -> bool:
        if state.global_step >= state.max_steps:
            return False
        if self._options.checkpoint_steps:
            return int(state.global_step) % self._options.checkpoint_steps == 0
        return time.monotonic() - self._last_save > SECONDS_BETWEEN_CHECKPOINTS


def is_time_to_look(step: int, total: int, evaluations: int) -> bool:
    """Whether the guard looks after ``step`` of ``total``: at the end, and at even distances of 10 or more."""
    if step >= total:
        return True
    return evaluations > 0 and step % max(FEWEST_STEPS_BETWEEN_LOOKS, math.ceil(total / (evaluations + 1))) == 0


class EpochEnd(TrainerCallback):
    """Calls uniem-style functions with the trainer after each epoch."""

    def __init__(self, functions: list[Callable[[Any], None]]) -> None:
        self.functions = functions
        self.trainer: Any = None

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Call each function."""
        for function in self.functions:
            function(self.trainer)


def train(
    model: SentenceTransformer,
    dataset: Dataset,
    loss: Any,
    options: FineTuneOptions,
    *,
    lr: float,
    precision: str,
    prompts: dict[str, str],
    guard: Guard,
    folder: Path,
    checkpoint: Path | None,
    on_step: Callable[[int, int, float | None], None],
    epoch_end: list[Callable[[Any], None]],
) -> list[float]:
    """Train ``model`` in place and return the loss of every step.

    Args:
        prompts: what is put before the texts of each column.
        folder: where checkpoints go.
        checkpoint: one to go on from.

    Raises:
        TrainingDivergedError: a loss or gradient is not a finite number.
    """
    watch = Watch(guard, options, lr, on_step)
    after_epoch = EpochEnd(epoch_end)
    trainer_class = Trainer if options.shuffle else OrderedTrainer
    trainer = trainer_class(
        model=model,
        args=_arguments(model, options, lr, precision, prompts, folder),
        train_dataset=dataset,
        loss=loss,
        callbacks=[watch, after_epoch],
    )
    after_epoch.trainer = trainer
    for unwanted in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(unwanted)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]


def _arguments(
    model: SentenceTransformer,
    options: FineTuneOptions,
    lr: float,
    precision: str,
    prompts: dict[str, str],
    folder: Path,
) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        learning_rate=lr,
        weight_decay=0.0 if options.strategy.name == "prefix" else options.weight_decay,
        warmup_steps=options.warmup,
        lr_scheduler_type=options.schedule,
        max_grad_norm=options.max_grad_norm,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=model.device.type == "cpu",
        seed=options.seed,
        data_seed=options.seed,
        dataloader_drop_last=options.drop_last,
        dataloader_num_workers=options.num_workers,
        dataloader_pin_memory=model.device.type == "cuda",
        prompts=prompts or None,
        logging_steps=1,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_strategy="no",
        save_total_limit=options.keep_checkpoints,
        eval_strategy="no",
        report_to=list(options.log_with) or "none",
        disable_tqdm=True,
        log_level="error",
    )


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the most steps whose ``trainer_state.json`` can be read.

    transformers writes checkpoints file by file, that one last, so a killed save leaves it out or unreadable.
    """
    found = []
    for path in folder.glob(f"{CHECKPOINT_PREFIX}*"):
        try:
            step = int(read_json(path / "trainer_state.json")["global_step"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.append((step, path))
    return max(found)[1] if found else None
