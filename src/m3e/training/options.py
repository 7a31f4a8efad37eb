"""The settings of a fine-tune, validated once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from m3e.errors import SettingsError
from m3e.training.strategies import FullTraining, Strategy

Schedule = Literal["linear", "cosine"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

TEMPERATURE = 0.05


@dataclass(frozen=True)
class FineTuneOptions:
    """How to fine-tune.

    Attributes:
        epochs: passes over the training rows.
        batch_size: rows a step; every other row of the batch is a negative.
        lr: peak learning rate; ``None`` takes :func:`suggested_lr`.
        max_length: tokens a text; ``None`` keeps the model's own.
        temperature: of the softmax over cosines, and of CoSENT; ``None`` takes :data:`TEMPERATURE`, and for rows whose
            sides look alike half the spread of the starting model's own cosines.
        preserve: for rows whose sides look alike: weight of the term that holds similarities which no row speaks of
            where the starting model has them (:func:`m3e.training.guide.drift`); 0 leaves it out.
        false_negative_margin: for rows whose sides look alike: others in the batch that the starting model finds
            nearly as like as the row's positive are none of its negatives; ``None`` takes them all. See
            :func:`m3e.training.guide.likely_positives`.
        weight_decay: of AdamW, not applied to biases and layer norms.
        warmup: steps, or a fraction of all steps where below 1.
        schedule: what the learning rate does after warm-up.
        strategy: what is trained.
        gradient_accumulation_steps: batches a step; negatives stay those of one batch.
        max_grad_norm: gradients are clipped to it.
        precision: of the computation; ``auto`` is bf16 where the hardware has it, else fp32.
        mini_batch_size: texts at a time under gradient caching; ``None`` decides by estimated memory.
        evaluations: how often the guard looks during training; the start and the end come on top.
        merge: weight of the starting model in the average that is saved, 0..1; ``None`` saves what was trained.
        shuffle: draw rows in random order.
        drop_last: leave out a last, smaller batch.
        checkpoint_steps: steps between checkpoints; ``None`` saves one every two minutes.
        keep_checkpoints: how many are kept.
        num_workers: processes that tokenise ahead.
        log_with: trackers of transformers' ``report_to``.
    """

    epochs: float = 3
    batch_size: int = 64
    lr: float | None = None
    max_length: int | None = None
    temperature: float | None = None
    preserve: float = 1.0
    false_negative_margin: float | None = 0.2
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: Schedule = "linear"
    strategy: Strategy = field(default_factory=FullTraining)
    gradient_accumulation_steps: int = 1
    max_grad_norm: float = 1.0
    precision: Precision = "auto"
    mini_batch_size: int | None = None
    evaluations: int = 5
    merge: float | None = None
    shuffle: bool = True
    drop_last: bool = False
    checkpoint_steps: int | None = None
    keep_checkpoints: int = 1
    num_workers: int = 0
    log_with: tuple[str, ...] = ()
    seed: int = 42

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            SettingsError: names the option, what it was and what it may be.
        """
        if self.batch_size < 2:
            raise SettingsError(
                f"batch size {self.batch_size} cannot train: in-batch losses need other rows; use at least 2"
            )
        _positive("epochs", self.epochs)
        _positive("temperature", self.temperature)
        _positive("lr (the learning rate)", self.lr)
        _at_least_one("max_length", self.max_length)
        _at_least_one("gradient_accumulation_steps", self.gradient_accumulation_steps)
        _at_least_one("mini_batch_size", self.mini_batch_size)
        _at_least_one("checkpoint_steps", self.checkpoint_steps)
        _at_least_one("keep_checkpoints", self.keep_checkpoints)
        if self.merge is not None and not 0 <= self.merge <= 1:
            raise SettingsError(f"merge is {self.merge}; it is the starting model's share, between 0 and 1")
        if self.preserve < 0:
            raise SettingsError(f"preserve is {self.preserve}; it is a weight of at least 0")
        if self.false_negative_margin is not None and not 0 <= self.false_negative_margin <= 1:
            raise SettingsError(f"false_negative_margin is {self.false_negative_margin}; it is a share between 0 and 1")
        if self.schedule not in ("linear", "cosine"):
            raise SettingsError(f"schedule {self.schedule!r} is not known; choose linear or cosine")
        if self.precision not in ("auto", "fp32", "bf16", "fp16"):
            raise SettingsError(f"precision {self.precision!r} is not known; choose auto, fp32, bf16 or fp16")
        if self.warmup < 0:
            raise SettingsError(f"warmup is {self.warmup}; give steps, or a fraction below 1")

    def as_dict(self) -> dict[str, Any]:
        """JSON values by name; the strategy by its name and settings."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["strategy"] = {"name": self.strategy.name, **vars(self.strategy)}
        return values


def _positive(name: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise SettingsError(f"{name} is {value}; it must be above 0")


def _at_least_one(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise SettingsError(f"{name} is {value}; it must be at least 1")


def suggested_lr(parameters: int, strategy: Strategy, *, static: bool) -> float:
    """A peak learning rate that suits the number of trained parameters; small sets need less, not more.

    uniem's thresholds with lower values: its 1e-4 made several users' losses explode.
    """
    if static:
        return 1e-3
    if strategy.name in ("lora", "bitfit", "prefix"):
        return {"lora": 5e-4, "bitfit": 1e-3, "prefix": 1e-2}[strategy.name]
    if parameters <= 80_000_000:
        return 5e-5
    return 2e-5 if parameters <= 200_000_000 else 8e-6
