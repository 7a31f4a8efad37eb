"""The contrastive stage: pairs, triplets and ranked rows, each batch of one data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m3e.data.staging import TEXT_KIND
from m3e.training.cached_loss import EmbeddingLoss
from m3e.training.losses import DIRECTIONS
from m3e.training.named_losses import loss_named
from m3e.training.planned_run import Batches, Losses, chosen_sources, run_planned
from m3e.training.planned_vectors import encoder_for, planned_vectors
from m3e.training.sources import Source
from m3e.training.stages.stage import Ingredient, StageReport, StageWork
from m3e.training.text_vectors import TextVectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from m3e.training.recipe import ContrastiveStage
    from m3e.training.recipe_parts import Hold


def run(settings: ContrastiveStage, work: StageWork) -> StageReport:
    """Train the model before this stage on the rows of the data that have a query and a positive."""

    def losses(model: SentenceTransformer, batches: Batches) -> tuple[Losses, list[Ingredient]]:
        guide = _guide(settings, work, batches)
        both, one = (_loss(settings, model, guide, both=both) for both in (True, False))
        of_sets: dict[str, EmbeddingLoss] = {}
        if settings.directions == "auto":
            of_sets = {source.name: both for source in batches.sources if source.symmetric}
        if settings.hold is not None:
            assert guide is not None
            held = _holding(settings.hold, model, guide)
            of_sets |= dict.fromkeys(settings.hold.sets, held)
        return Losses(both if settings.directions == "both" else one, of_sets), []

    return run_planned(settings, work, _sources(settings, work), losses, settings.prompts)


def _sources(settings: ContrastiveStage, work: StageWork) -> list[Source]:
    """What is trained on: rows with a positive, and the sets that only hold the model where it is."""
    if settings.hold is None:
        return chosen_sources(work.data, settings.rows, settings.kinds, work.name)
    rows, names = settings.rows, settings.hold.sets
    others = rows.model_copy(
        update={"sets": tuple(name for name in rows.sets if name not in names), "without": (*rows.without, *names)}
    )
    held = rows.model_copy(update={"sets": names, "without": ()})
    trained = chosen_sources(work.data, others, settings.kinds, work.name)
    return [*trained, *chosen_sources(work.data, held, (*settings.kinds, TEXT_KIND), work.name)]


def _holding(hold: Hold, model: SentenceTransformer, start: TextVectors) -> EmbeddingLoss:
    """The loss that keeps vectors, and the similarities between them, where the starting model has them."""
    return loss_named(
        "distil", model, teacher=start, cosine=hold.cosine, contrast=0.0, relational=hold.relational, temperature=1.0
    )


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
    if settings.false_negative_margin is None and not settings.preserve and settings.hold is None:
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
