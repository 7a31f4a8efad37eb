"""What a stage is given, and what it reports: the same for all stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3e.errors import SettingsError

if TYPE_CHECKING:
    from m3e.training.recipe_parts import Base

MODEL = "model"
"""The folder, inside a stage's own, that holds its model when it is done."""

CHECKPOINTS = "checkpoints"

OnStep = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Ingredient:
    """Something that went into a model beside its training rows: a base or a teacher.

    Attributes:
        role: ``base`` or ``teacher``.
        licence: as stated; empty where nothing states it.
        commercial: ``yes``, ``no`` or ``unknown``.
        fingerprint: of its weights.
    """

    role: str
    name: str
    licence: str
    commercial: str
    fingerprint: str


@dataclass(frozen=True)
class StageWork:
    """What a stage is given.

    Attributes:
        name: the stage's.
        folder: its own: its files lie there while it works, its model in :data:`MODEL` when it is done.
        model: the folder of the model before it; ``None`` where there is none yet (a model from scratch).
        base: the folder of the recipe's base model, as training started; ``None`` from scratch.
        data: the prepared data folder.
        models: folders of earlier stages' models, by the stages' names.
        from_scratch: the recipe's base where it is a new model: its preset, pooling, length and prompts.
        precision: ``auto``, ``fp32``, ``autocast`` or ``bf16``.
        checkpoint_steps: steps between checkpoints; every five minutes by default.
        resume: go on from the newest checkpoint in ``folder``, where there is one.
        say: prints one line.
        on_step: called after each step with its number, the total and its figures in a few words.
    """

    name: str
    folder: Path
    model: Path | None
    base: Path | None
    data: Path
    models: Mapping[str, Path] = field(default_factory=dict)
    from_scratch: Base | None = None
    seed: int = 42
    device: str | None = None
    precision: str = "auto"
    checkpoint_steps: int | None = None
    resume: bool = False
    say: Callable[[str], None] = print
    on_step: OnStep = lambda step, total, note: None

    @property
    def target(self) -> Path:
        """Where the stage's model goes."""
        return self.folder / MODEL

    def start(self) -> Path:
        """The model that the stage begins with.

        Raises:
            SettingsError: there is none.
        """
        if self.model is None:
            raise SettingsError(f"stage {self.name} needs a model to start from; put a tokenizer stage before it")
        return self.model

    def find_model(self, name: str) -> Path | str:
        """A model by what a recipe calls it: ``base``, ``previous``, an earlier stage, else a name or folder as it is.

        Raises:
            SettingsError: ``base`` or ``previous`` where there is none.
        """
        if name == "previous":
            return self.start()
        if name == "base":
            if self.base is None:
                raise SettingsError(f"stage {self.name} names base, but a model from scratch has none")
            return self.base
        return self.models.get(name, name)


@dataclass(frozen=True)
class StageReport:
    """What a stage did, for the log and the model card.

    Attributes:
        rows: drawn, over all epochs.
        steps: of the optimizer.
        tokens: trained on, each text of a batch once.
        losses: some ``[step, loss]`` along the way.
        looks: what was seen at steps along the way: ``{"step", "score", ...}``.
        ingredients: bases and teachers that the stage brought in.
        sets: rows drawn by data set.
        facts: other figures and settings for the card, by name.
        notes: lines that a person should see.
    """

    rows: int = 0
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: list[list[float]] = field(default_factory=list)
    looks: list[dict[str, Any]] = field(default_factory=list)
    ingredients: list[Ingredient] = field(default_factory=list)
    sets: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StageReport:
        """The inverse of :meth:`as_dict`."""
        ingredients = [Ingredient(**item) for item in values["ingredients"]]
        return cls(**{**values, "ingredients": ingredients})
