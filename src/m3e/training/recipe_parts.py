"""The tables that a recipe and its stages are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

Share = Annotated[float, Field(ge=0, le=1)]
Commercial = Literal["yes", "no", "unknown"]


class Part(BaseModel):
    """A table of a recipe: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Prompt(Part):
    """What is put before a data set's queries, and before its passages."""

    query: str = ""
    document: str = ""


class Shape(Part):
    """The size of a new model: layers, numbers a token, heads that divide them, and of the feed-forward part."""

    layers: PositiveInt
    hidden: PositiveInt
    heads: PositiveInt
    intermediate: PositiveInt | None = None


class Base(Part):
    """What training starts from.

    Attributes:
        model: a name (``e5-small``), a folder, a hub id, or ``scratch``: new weights after a ``tokenizer`` stage.
        revision: of a hub model.
        preset: the size of a model from scratch: ``tiny``, ``small``, ``base``.
        shape: its size in numbers, instead of a preset.
        pooling: where the model's own files say none: ``mean``, ``cls``, ``lasttoken``, …
        max_length: tokens a text.
        prompts: put before texts unless a stage says otherwise; saved with the model.
        licence: of the base, where its files say none; without any the model's own licence cannot be claimed.
        commercial: whether that licence allows commercial use.
    """

    model: str
    revision: str | None = None
    preset: Literal["tiny", "small", "base"] = "tiny"
    shape: Shape | None = None
    pooling: str | None = None
    max_length: PositiveInt | None = None
    prompts: Prompt | None = None
    licence: str | None = None
    commercial: Commercial = "unknown"


class Data(Part):
    """The data that all stages draw from.

    Attributes:
        folder: one that ``m3e data prepare`` wrote; without it the data are prepared by what follows.
        preset: of ``m3e data prepare``.
        sets: names, groups or files, instead of the preset's.
        max_rows: of a set, by its name.
        weights: how often a set is drawn beside others, by its name.
    """

    folder: Path | None = None
    preset: str | None = None
    sets: tuple[str, ...] = ()
    max_rows: dict[str, PositiveInt] = {}
    weights: dict[str, PositiveFloat] = {}

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        if self.folder is None and self.preset is None and not self.sets:
            raise ValueError("name a prepared folder, a preset of m3e data prepare, or sets")
        if self.folder is not None and (self.preset or self.sets or self.max_rows):
            raise ValueError("a prepared folder is taken as it is: leave out preset, sets and max_rows")
        return self


class Rows(Part):
    """Which of the prepared rows a stage takes.

    Attributes:
        sets: names; all that fit the stage by default.
        without: names that are left out.
        folder: another prepared folder than the recipe's.
        weights: how often a set is drawn beside others, by its name, instead of the data's own.
    """

    sets: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    folder: Path | None = None
    weights: dict[str, NonNegativeFloat] = {}


class Batch(Part):
    """How rows become batches: :class:`m3e.training.batches.PlanOptions`.

    Attributes:
        size: rows a batch, over all devices.
        max_length: tokens a text; the model's own by default.
        alpha: sets are drawn in proportion to their rows to this power.
        cap: of a set, so many rows an epoch.
        negatives: a row's at most.
        token_budget: tokens a mini-batch; what suits the device by default.
    """

    size: Annotated[int, Field(ge=2)] = 256
    max_length: PositiveInt | None = None
    alpha: Share = 1.0
    cap: PositiveInt | None = None
    caps: dict[str, PositiveInt] = {}
    negatives: Annotated[int, Field(ge=0)] = 7
    token_budget: PositiveInt | None = None


class Texts(Part):
    """How single texts become batches: each text once an epoch, whatever sets have it.

    Attributes:
        size: texts a batch at most, over all devices.
        max_length: tokens a text; the model's own by default.
        cap: of a set, so many texts an epoch.
        token_budget: tokens a mini-batch; what suits the device by default.
    """

    size: PositiveInt = 256
    max_length: PositiveInt | None = None
    cap: PositiveInt | None = None
    caps: dict[str, PositiveInt] = {}
    token_budget: PositiveInt | None = None


class Schedule(Part):
    """How long and how fast.

    Attributes:
        steps: batches an epoch at most; all by default.
        lr: the peak; what suits the number of trained weights by default.
        warmup: share of the steps.
    """

    epochs: PositiveInt = 1
    steps: PositiveInt | None = None
    lr: PositiveFloat | None = None
    kind: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Share = 0.05
    weight_decay: NonNegativeFloat = 1e-3
    max_grad_norm: PositiveFloat = 1.0


class Lora(Part):
    """Low-rank adapters on every linear layer instead of all weights; merged when the stage ends."""

    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: Share = 0.0


class Matryoshka(Part):
    """Also train the first numbers of each vector, for users that keep only those (arXiv:2205.13147)."""

    dims: tuple[PositiveInt, ...]
    weights: tuple[PositiveFloat, ...] | None = None

    @model_validator(mode="after")
    def _as_many(self) -> Matryoshka:
        if self.weights is not None and len(self.weights) != len(self.dims):
            raise ValueError(f"there are {len(self.dims)} dims and {len(self.weights)} weights")
        return self


class Hold(Part):
    """Data sets that do not train a model but hold it: their texts' vectors stay where the stage found them.

    Attributes:
        sets: names; of records of any kind with a positive, or of single texts.
        cosine: weight of one minus the cosine to a text's vector at the start.
        relational: weight of the change of the cosines between a batch's texts, squared, in units of their spread.
    """

    sets: Annotated[tuple[str, ...], Field(min_length=1)]
    cosine: NonNegativeFloat = 10.0
    relational: NonNegativeFloat = 1.0


class Watch(Part):
    """What is looked at while a stage trains.

    Attributes:
        every: steps between looks; at most ten looks a stage by default, 0 for none.
        tasks: evaluation sets of the data folder (``lcqmc.dev``), beside the general check that ships with m3e; the
            mean of all decides which weights are best.
        patience: stop after so many looks without a better one.
        keep_best: end with the best weights seen, the start among them, instead of the last.
        spike: a loss so many times the mean of its data set's last steps is a spike: its batch is skipped; 0 takes
            every loss.
        most_skipped: more batches in a row than this are no accident: the weights go back to the last good ones.
        log_with: ``tensorboard``, ``wandb``; empty for none.
    """

    every: Annotated[int, Field(ge=0)] | None = None
    tasks: tuple[str, ...] = ()
    patience: PositiveInt | None = None
    keep_best: bool = False
    spike: NonNegativeFloat = 10.0
    most_skipped: PositiveInt = 5
    log_with: tuple[Literal["tensorboard", "wandb"], ...] = ("tensorboard",)
