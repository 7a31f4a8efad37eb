"""Recipes: one TOML file that says what a model is made of, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from m3e.data.staging import TEXT_KIND
from m3e.records import Kind
from m3e.training.recipe_parts import (
    Base,
    Batch,
    Commercial,
    Data,
    Hold,
    Lora,
    Matryoshka,
    Part,
    Prompt,
    Rows,
    Schedule,
    Share,
    Texts,
    Watch,
)

ALL_KINDS = (TEXT_KIND, *(kind.value for kind in Kind))
BY_TEACHER = ("kl", "margin_mse")
"""Losses that learn from a teacher's scores."""

SCRATCH = "scratch"


class Stage(Part):
    """What all stages have: their kind, and a name, by default the kind, once in a recipe."""

    stage: str
    name: str = ""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of records that the stage can use: all have texts."""
        return ALL_KINDS


class TrainedStage(Stage):
    """A stage that trains on planned batches."""

    rows: Rows = Rows()
    batch: Batch = Batch()
    schedule: Schedule = Schedule()
    lora: Lora | None = None
    watch: Watch = Watch()


class TokenizerStage(Stage):
    """A tokenizer trained on the data, and new weights for it of the base's preset.

    Attributes:
        kind: ``unigram`` (word pieces by likelihood, bytes for what is left) or ``wordpiece``.
        texts: trained on at most so many.
    """

    stage: Literal["tokenizer"]
    kind: Literal["unigram", "wordpiece"] = "unigram"
    vocabulary: Annotated[int, Field(ge=600)] = 27_000
    texts: PositiveInt = 400_000
    lower_case: bool = True
    rows: Rows = Rows()


class CutStage(Stage):
    """The vocabulary cut to what a corpus uses.

    Attributes:
        pieces: ``data`` counts over the data; ``m3e-small`` takes the pieces that ship for e5-small.
        least: a piece stays if it occurs so often.
        texts: counted in at most so many.
    """

    stage: Literal["cut"]
    pieces: Literal["data", "m3e-small"] = "data"
    least: PositiveInt = 3
    texts: PositiveInt = 2_000_000
    rows: Rows = Rows()


class PretrainingStage(Stage):
    """A stage that trains all weights on single texts, without prompts."""

    rows: Rows = Rows()
    batch: Texts = Texts()
    schedule: Schedule = Schedule()
    watch: Watch = Watch()


class MlmStage(PretrainingStage):
    """Pre-training by masked tokens (arXiv:1810.04805), whole words where the pieces show them.

    Attributes:
        masked: share of the words.
    """

    stage: Literal["mlm"]
    masked: Share = 0.3


class RetroMaeStage(PretrainingStage):
    """Pre-training by a weak decoder that rebuilds a text from its vector (RetroMAE, arXiv:2205.12035).

    Attributes:
        masked: share of the words that the encoder does not see.
        decoder_masked: share of the text that each of the decoder's positions does not see.
    """

    stage: Literal["retromae"]
    masked: Share = 0.3
    decoder_masked: Share = 0.5


class ContrastiveStage(TrainedStage):
    """Pairs, triplets and ranked rows: pick the positive among the batch's passages.

    Attributes:
        temperature: of the softmax over cosines.
        directions: ``both`` picks queries for passages too, ``one`` does not, ``auto`` does for symmetric sets.
        false_negative_margin: others that the starting model finds about as like as the positive are no negatives;
            see :func:`m3e.training.guide.likely_positives`.
        own_margin: others whose cosine by the model itself is so much above the positive's are no negatives.
        preserve: weight of a term that holds similarities that no row speaks of where the start has them.
        hold: data sets that hold the model where it is, beside those that it is trained on.
        prompts: of single data sets, by name; saved as the model's prompts.
    """

    stage: Literal["contrastive"]
    temperature: PositiveFloat = 0.02
    directions: Literal["auto", "both", "one"] = "auto"
    false_negative_margin: float | None = None
    own_margin: float | None = None
    preserve: NonNegativeFloat = 0.0
    hold: Hold | None = None
    prompts: dict[str, Prompt] = Field(default_factory=dict)
    matryoshka: Matryoshka | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Those with a query and a positive."""
        return (Kind.PAIR.value, Kind.TRIPLET.value, Kind.RANKED.value)


class ScoredStage(TrainedStage):
    """Scored pairs by the order of their labels, or ranked rows by a teacher's scores.

    Attributes:
        loss: ``cosent`` or ``angle`` for labels, ``kl`` or ``margin_mse`` for a teacher's scores.
        temperature: of the student's cosines.
        teacher_temperature: of the teacher's scores, for ``kl``; the student's by default.
    """

    stage: Literal["scored"]
    loss: Literal["cosent", "angle", "kl", "margin_mse"] = "cosent"
    temperature: PositiveFloat = 0.05
    teacher_temperature: PositiveFloat | None = None
    prompts: dict[str, Prompt] = Field(default_factory=dict)
    matryoshka: Matryoshka | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Scored pairs, or ranked rows where the loss learns from a teacher's scores."""
        return (Kind.RANKED.value,) if self.loss in BY_TEACHER else (Kind.SCORED_PAIR.value,)


class DistilStage(TrainedStage):
    """Texts' vectors by a teacher's.

    Attributes:
        teacher: a name, a folder, a hub id, ``base``, or the name of an earlier stage.
        licence, commercial: the teacher's, where its files say none.
        cosine, contrast, relational: weights of the loss's parts.
    """

    stage: Literal["distil"]
    teacher: str
    licence: str | None = None
    commercial: Commercial = "unknown"
    cosine: NonNegativeFloat = 2.0
    contrast: NonNegativeFloat = 0.1
    relational: NonNegativeFloat = 0.0
    temperature: PositiveFloat = 0.05
    matryoshka: Matryoshka | None = None


class StaticStage(Stage):
    """A lookup instead of an encoder: one vector a token, a text's is their mean; later stages train it on texts.

    Attributes:
        teacher: whose vectors of single tokens become the rows: a name, a folder, ``base``, ``previous``, an earlier
            stage.
        tokenizer: ``teacher`` takes its tokenizer, ``previous`` keeps that of the model before this stage, which then
            leaves out white space.
        dim: numbers a vector; the teacher's by default.
        licence, commercial: the teacher's, where its files say none.
    """

    stage: Literal["static"]
    teacher: str
    tokenizer: Literal["previous", "teacher"] = "teacher"
    dim: PositiveInt | None = None
    licence: str | None = None
    commercial: Commercial = "unknown"


class EncoderStage(Stage):
    """Layers of the base's preset over the rows of the static model before it, which is where its tokens start."""

    stage: Literal["encoder"]


class MergeStage(Stage):
    """The weighted average of models of one shape (Wortsman et al. 2022, arXiv:2203.05482).

    Attributes:
        models: weights by name: ``base``, ``previous``, an earlier stage, or a folder; they are made to sum to 1.
    """

    stage: Literal["merge"]
    models: Annotated[dict[str, PositiveFloat], Field(min_length=2)]


class Evaluation(Part):
    """How the finished model is judged; ``tasks`` and ``suite`` as ``m3e eval`` has them.

    Attributes:
        peers: other models that are judged on the same tasks, for the card.
    """

    tasks: tuple[str, ...] = ()
    suite: str | None = None
    peers: tuple[str, ...] = ()


class Output(Part):
    """What the run leaves beside the model folder.

    Attributes:
        adapter_rank: also write the difference to the base in so low a rank, with the base's fingerprint.
        languages: that the card names.
        licence: the model's own, which the licences of all that went in must allow.
    """

    adapter_rank: PositiveInt | None = None
    languages: tuple[str, ...] = ("zh", "en")
    licence: str = "apache-2.0"


AnyStage = Annotated[
    TokenizerStage
    | CutStage
    | MlmStage
    | RetroMaeStage
    | ContrastiveStage
    | ScoredStage
    | DistilStage
    | StaticStage
    | EncoderStage
    | MergeStage,
    Field(discriminator="stage"),
]


class Recipe(Part):
    """A model's recipe.

    Attributes:
        title: the model's name, and by default its folder's under ``runs/``.
        about: a sentence for the card.
        policy: ``commercial`` refuses every set, base or teacher whose terms do not say yes.
        precision: ``auto`` is bf16 where the hardware is fast in it, else fp32.
    """

    title: str
    about: str = ""
    policy: Literal["any", "commercial"] = "any"
    seed: int = 42
    precision: Literal["auto", "fp32", "autocast", "bf16"] = "auto"
    base: Base
    data: Data
    stages: Annotated[tuple[AnyStage, ...], Field(min_length=1)]
    evaluation: Evaluation = Evaluation()
    output: Output = Output()

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        names = self.stage_names
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated:
            raise ValueError(f"two stages are called {repeated!r}: give each a name of its own")
        reserved = next((name for name in names if name in ("base", "previous")), None)
        if reserved:
            raise ValueError(f"a stage cannot be called {reserved!r}, which means something else")
        first = self.stages[0]
        makes_weights = isinstance(first, TokenizerStage | StaticStage)
        if self.base.model == SCRATCH and not makes_weights:
            raise ValueError("a model from scratch begins with a tokenizer or a static stage")
        fresh = next((stage.stage for stage in self.stages if isinstance(stage, TokenizerStage | EncoderStage)), None)
        if self.base.model != SCRATCH and fresh:
            raise ValueError(f'a stage {fresh} makes new weights: set base.model to "{SCRATCH}"')
        for place, stage in enumerate(self.stages):
            _check_references(stage, names[:place])
        return self

    @property
    def stage_names(self) -> list[str]:
        """The stages' names, in order."""
        return [stage.name or stage.stage for stage in self.stages]


def _check_references(stage: Any, earlier: Sequence[str]) -> None:
    """Refuse a merge of a stage that has not run by then; folders and other names are checked when they are read."""
    if not isinstance(stage, MergeStage):
        return
    for name in stage.models:
        if name not in ("base", "previous", *earlier) and not Path(name).exists():
            raise ValueError(
                f"stage {stage.name or stage.stage!r} merges {name!r}, which is neither base, previous, an earlier "
                f"stage ({', '.join(earlier) or 'none'}) nor a folder"
            )
