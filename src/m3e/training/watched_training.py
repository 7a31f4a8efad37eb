"""A training as it is watched: looks, checkpoints, the loss guard, the log, and what came of it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerControl, TrainerState

from m3e.files import read_json, write_json
from m3e.machine import machine
from m3e.training.embedding import Precision, encoder_of, precision_of
from m3e.training.gather import from_first_process, processes
from m3e.training.looks import Looks
from m3e.training.loop import newest_checkpoint
from m3e.training.loss_guard import LossGuard
from m3e.training.planned_loader import NumberedBatches
from m3e.training.planned_trainer import PlannedTrainer, TextLoss
from m3e.training.stages.stage import CHECKPOINTS, StageReport, StageWork

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments

    from m3e.training.recipe import PretrainingStage, TrainedStage

PRECISION = "precision.json"
"""The file of a stage's folder that says what the stage computes in."""

SECONDS_BETWEEN_CHECKPOINTS = 300
SECONDS_BETWEEN_LINES = 60
POINTS_OF_A_CURVE = 200


@dataclass(frozen=True)
class Course:
    """How a training went.

    Attributes:
        log: what was logged at each step.
        facts: settings and figures for the card; ``None`` where there is none.
    """

    steps: int
    log: Sequence[Mapping[str, Any]]
    looks: Sequence[dict[str, Any]]
    facts: Mapping[str, Any]

    def report(self, *, rows: int, seconds: float, sets: dict[str, int], facts: Mapping[str, Any]) -> StageReport:
        """The stage's report, with further facts."""
        return StageReport(
            rows=rows,
            steps=self.steps,
            tokens=int(sum(entry.get("tokens", 0) for entry in self.log)),
            seconds=seconds,
            losses=_curve(self.log),
            looks=list(self.looks),
            sets=sets,
            facts={name: value for name, value in {**facts, **self.facts}.items() if value is not None},
        )


def stage_precision(model: SentenceTransformer, work: StageWork) -> Precision:
    """What a stage computes in: in all its processes the same, and after a stop what it began in.

    On processors the choice is a measurement, which a busy moment can turn; the weights must not depend on one.
    """

    def choose() -> Precision:
        kept = work.folder / PRECISION
        began: Precision | None = None
        if work.precision == "auto" and model.device.type == "cpu" and kept.is_file():
            began = read_json(kept)["precision"]
            if began == "fp32" or machine().bf16 != "none":
                return began
        now = precision_of(model, work.precision)
        if began is not None:
            work.say(f"the stage began in {began}, in which this processor is slow; it goes on in {now}")
        write_json(kept, {"precision": now})
        return now

    return from_first_process(choose)


def train_watched(
    model: SentenceTransformer,
    settings: TrainedStage | PretrainingStage,
    loss: TextLoss,
    batches: Callable[[int, int], NumberedBatches],
    rate: float,
    work: StageWork,
) -> Course:
    """Train ``model`` in place on all batches, watched, with checkpoints in the stage's folder; resumed where asked.

    Args:
        loss: of a batch, whose backward pass fills the gradients.
        batches: of a process, by its rank and their number.
        rate: the learning rate's peak.

    Raises:
        TrainingDivergedError: the loss broke and could not be mended; names the batch and its rows.
    """
    args = _arguments(model, settings, rate, work)
    own = batches(args.process_index, args.world_size)
    looks = Looks(model, settings.watch, work.folder, len(own), work.say)
    guard = LossGuard(model, spike=settings.watch.spike, most_skipped=settings.watch.most_skipped, say=work.say)
    checkpoint = newest_checkpoint(work.folder / CHECKPOINTS) if work.resume else None
    with _log_folder(work.folder / "log"):
        trainer = PlannedTrainer(model, args, loss, own, guard=guard)
        watcher = _Watcher(looks, guard, work, trainer.log)
        trainer.add_callback(watcher)
        for unwanted in (ProgressCallback, PrinterCallback):
            trainer.remove_callback(unwanted)
        if checkpoint is None:
            watcher.first_look()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    best = looks.restore_best()
    if best is not None:
        work.say(f"the weights of step {best} were the best and are kept")
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    facts = {
        "learning rate": rate,
        "schedule": settings.schedule.kind,
        "epochs": settings.schedule.epochs,
        "precision": loss.precision,
        "maximum length": model.max_seq_length if encoder_of(model) is not None else None,
        "loss": _loss_facts(loss),
        "tokens a second": _mean(log, "tokens_per_second"),
        "padding": _mean(log, "padding"),
        "mfu": _mean(log, "mfu"),
        "skipped steps": guard.skipped or None,
        "kept step": best,
        "processes": processes(),
    }
    return Course(int(trainer.state.global_step), log, looks.seen, facts)


def progress_note(logs: Mapping[str, Any]) -> str:
    """A step's figures in a few words: loss, learning rate, tokens a second, MFU where it is known."""
    parts = [f"loss {float(logs['loss']):.4f}", f"lr {float(logs.get('learning_rate', 0)):.2g}"]
    if "tokens_per_second" in logs:
        parts.append(f"{float(logs['tokens_per_second']):,.0f} tokens/s")
    if "mfu" in logs:
        parts.append(f"MFU {float(logs['mfu']):.0%}")
    return ", ".join(parts)


class _Watcher(TrainerCallback):
    """Looks at the model when it is time, saves checkpoints, draws the bar.

    Args:
        log: writes figures where the loss is written.
    """

    def __init__(
        self, looks: Looks, guard: LossGuard, work: StageWork, log: Callable[[dict[str, float]], None]
    ) -> None:
        self._looks = looks
        self._guard = guard
        self._work = work
        self._log = log
        self._last_save = self._last_line = time.monotonic()
        self._start = (0, self._last_line)

    def first_look(self) -> None:
        """What the model is before its first step."""
        if self._looks.is_time(0):
            self._look(0)

    def _look(self, step: int) -> None:
        seen = self._looks.look(step)
        self._log({f"eval_{name}": value for name, value in seen.items() if name not in ("step", "seconds")})

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take up what was seen before a resumed run stopped."""
        if state.global_step:
            self._looks.resume(int(state.global_step))
        self._start = (int(state.global_step), time.monotonic())
        self._last_line = time.monotonic()

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Show how it goes: at every step to a bar, now and then as a line."""
        if not logs or "loss" not in logs:
            return
        note = progress_note(logs)
        self._work.on_step(int(state.global_step), int(state.max_steps), note)
        now = time.monotonic()
        if now - self._last_line > SECONDS_BETWEEN_LINES:
            done, total = int(state.global_step), int(state.max_steps)
            left = (total - done) * (now - self._start[1]) / max(1, done - self._start[0])
            self._work.say(f"step {done} of {total}: {note}; about {left / 60:.0f} min left")
            self._last_line = now

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look, and save, at the plan's own pace."""
        step = int(state.global_step)
        if self._looks.is_time(step):
            logs = control.should_log
            self._look(step)
            control.should_log = logs  # the step's own loss, which is still to come, would be taken for logged
            self._guard.keep()
            if self._looks.is_out_of_patience:
                self._work.say(f"no better for {len(self._looks.seen)} looks: stopped at step {step}")
                control.should_training_stop = True
        every = self._work.checkpoint_steps
        late = time.monotonic() - self._last_save > SECONDS_BETWEEN_CHECKPOINTS
        if step < state.max_steps and (step % every == 0 if every else late):
            control.should_save = True
            self._last_save = time.monotonic()


def _arguments(
    model: SentenceTransformer, settings: TrainedStage | PretrainingStage, rate: float, work: StageWork
) -> SentenceTransformerTrainingArguments:
    from sentence_transformers import SentenceTransformerTrainingArguments

    schedule = settings.schedule
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(work.folder / CHECKPOINTS),
        num_train_epochs=1,  # the plan has all epochs
        learning_rate=rate,
        lr_scheduler_type=schedule.kind if schedule.kind != "constant" else "constant_with_warmup",
        warmup_steps=schedule.warmup,
        weight_decay=schedule.weight_decay,
        max_grad_norm=schedule.max_grad_norm,
        dataloader_drop_last=True,  # of whole batches nothing is dropped; otherwise each process warns
        use_cpu=model.device.type == "cpu",
        seed=work.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        save_total_limit=2,
        eval_strategy="no",
        optim="adamw_torch_fused" if model.device.type in ("cpu", "cuda") else "adamw_torch",
        report_to=_log_targets(settings, work),
        run_name=work.name,
        disable_tqdm=True,
        log_level="error",
    )
    arguments.ddp_broadcast_buffers = None  # what sentence-transformers sets here is deprecated, and each process warns
    return arguments


def _log_targets(settings: TrainedStage | PretrainingStage, work: StageWork) -> list[str]:
    """Where the log goes; what is not installed is said, not an error."""
    from importlib.util import find_spec

    found: list[str] = []
    for name in settings.watch.log_with:
        if find_spec(name) is None:
            extra = {"tensorboard": "watch", "wandb": "wandb"}[name]
            work.say(f"{name} is not installed, so nothing is logged to it: pip install 'm3e[{extra}]'")
        else:
            found.append(name)
    return found or ["none"]


@contextlib.contextmanager
def _log_folder(folder: Path) -> Iterator[None]:
    """Where the TensorBoard callback of a trainer that is made meanwhile writes; it takes no other word for it."""
    before = os.environ.get("TENSORBOARD_LOGGING_DIR")
    os.environ["TENSORBOARD_LOGGING_DIR"] = before or str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["TENSORBOARD_LOGGING_DIR"]


def _loss_facts(loss: TextLoss) -> dict[str, Any]:
    return {name: value for name, value in loss.get_config_dict().items() if isinstance(value, str | int | float)}


def _mean(log: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [float(entry[name]) for entry in log if name in entry]
    return round(sum(values) / len(values), 4) if values else None


def _curve(log: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """At most some hundred points of the loss, each the mean of its neighbours."""
    size = max(1, -(-len(log) // POINTS_OF_A_CURVE))
    points = []
    for start in range(0, len(log), size):
        part = log[start : start + size]
        points.append([float(part[-1]["step"]), sum(float(entry["loss"]) for entry in part) / len(part)])
    return points
