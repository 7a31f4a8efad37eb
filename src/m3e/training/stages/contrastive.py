"""The contrastive stage: pairs, triplets and ranked rows, each batch of one data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m3e.records import Kind
from m3e.training.cached_loss import EmbeddingLoss
from m3e.training.losses import DIRECTIONS
from m3e.training.named_losses import loss_named
from m3e.training.planned_run import Batches, Losses, run_planned
from m3e.training.planned_vectors import encoder_for, planned_vectors
from m3e.training.stages.stage import Ingredient, StageReport, StageWork
from m3e.training.text_vectors import TextVectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from m3e.training.recipe import ContrastiveStage

KINDS = (Kind.PAIR.value, Kind.TRIPLET.value, Kind.RANKED.value)


def run(settings: ContrastiveStage, work: StageWork) -> StageReport:
    """Train the model before this stage on the rows of the data that have a query and a positive."""

    def losses(model: SentenceTransformer, batches: Batches) -> tuple[Losses, list[Ingredient]]:
        guide = _guide(settings, work, batches)
        both, one = (_loss(settings, model, guide, both=both) for both in (True, False))
        if settings.directions != "auto":
            return Losses(both if settings.directions == "both" else one), []
        return Losses(one, {source.name: both for source in batches.sources if source.symmetric}), []

    return run_planned(settings, work, KINDS, losses, settings.prompts)


def _loss(
    settings: ContrastiveStage, model: SentenceTransformer, guide: TextVectors | None, *, both: bool
) -> EmbeddingLoss:
    matryoshka = settings.matryoshka
    return loss_named(
        "in_batch_softmax",
        model,
        matryoshka=matryoshka.dims if matryoshka else (),
        matryoshka_weights=matryoshka.weights if matryoshka else None,
        temperature=settings.temperature,
        directions=DIRECTIONS if both else DIRECTIONS[:1],
        guide=guide,
        margin=settings.false_negative_margin,
        own_margin=settings.own_margin,
        preserve=settings.preserve,
    )


def _guide(settings: ContrastiveStage, work: StageWork, batches: Batches) -> TextVectors | None:
    """What the starting model thinks of the texts, where the loss asks for it."""
    if settings.false_negative_margin is None and not settings.preserve:
        return None
    ids, vectors = planned_vectors(
        encoder_for(work.start(), work.device, settings.batch.max_length),
        batches.sources,
        batches.store,
        batches.plan,
        work.folder / "start-vectors",
        negatives=settings.batch.negatives,
        say=work.say,
    )
    return TextVectors(ids, vectors)
