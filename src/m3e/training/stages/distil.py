"""The distil stage: texts' vectors by a teacher's, cached before training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m3e.files import read_marker
from m3e.training.base import teacher_ingredient
from m3e.training.named_losses import loss_named
from m3e.training.planned_run import Batches, Losses, chosen_sources, run_planned
from m3e.training.planned_vectors import encoder_for, planned_vectors
from m3e.training.stages.stage import Ingredient, StageReport, StageWork
from m3e.training.teacher_vectors import write_targets
from m3e.training.text_vectors import TextVectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from m3e.training.recipe import DistilStage


def run(settings: DistilStage, work: StageWork) -> StageReport:
    """Train the model before this stage to give texts the vectors that the teacher gives them."""

    def losses(model: SentenceTransformer, batches: Batches) -> tuple[Losses, list[Ingredient]]:
        teacher, ingredient = _teacher(settings, work, batches, int(model.get_embedding_dimension() or 0))
        matryoshka = settings.matryoshka
        loss = loss_named(
            "distil",
            model,
            matryoshka=matryoshka.dims if matryoshka else (),
            matryoshka_weights=matryoshka.weights if matryoshka else None,
            teacher=teacher,
            temperature=settings.temperature,
            cosine=settings.cosine,
            contrast=settings.contrast,
            relational=settings.relational,
        )
        return Losses(loss), [ingredient]

    return run_planned(settings, work, chosen_sources(work.data, settings.rows, settings.kinds, work.name), losses)


def _teacher(
    settings: DistilStage, work: StageWork, batches: Batches, dimension: int
) -> tuple[TextVectors, Ingredient]:
    """The teacher's vectors, centred and in the student's dimension, and what it is."""
    name = work.find_model(settings.teacher)
    encoder = encoder_for(name, work.device, settings.batch.max_length)
    ingredient = teacher_ingredient(settings.teacher, name, settings.licence, settings.commercial, encoder.model)
    folder = work.folder / "teacher"
    ids, vectors = planned_vectors(
        encoder,
        batches.sources,
        batches.store,
        batches.plan,
        folder,
        negatives=settings.batch.negatives,
        one_prompt=True,
        say=work.say,
    )
    identity = (read_marker(folder) or {}).get("hash", "")[:12]
    turned = None if vectors.shape[1] == dimension and settings.matryoshka is None else dimension
    targets = work.folder / f"targets-{turned or 'whole'}-{identity}.npy"
    if not targets.exists():
        kept = write_targets(vectors, targets, dimension=turned)
        if turned:
            work.say(f"the teacher's {vectors.shape[1]} numbers are turned to {turned}, which keep {kept:.1%} of them")
    return TextVectors(ids, np.load(targets, mmap_mode="r")), ingredient
