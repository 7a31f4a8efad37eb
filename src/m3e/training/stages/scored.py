"""The scored stage: pairs in the order of their labels, or ranked rows by a teacher's scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m3e.errors import DataError
from m3e.training.named_losses import loss_named
from m3e.training.planned_run import Batches, Losses, chosen_sources, run_planned
from m3e.training.recipe import BY_TEACHER
from m3e.training.stages.stage import Ingredient, StageReport, StageWork

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from m3e.training.recipe import ScoredStage


def run(settings: ScoredStage, work: StageWork) -> StageReport:
    """Train the model before this stage on scored pairs, or on ranked rows that ``m3e data score`` has scored."""

    def losses(model: SentenceTransformer, batches: Batches) -> tuple[Losses, list[Ingredient]]:
        if settings.loss in BY_TEACHER:
            _check_scores(batches, settings.loss)
        matryoshka = settings.matryoshka
        loss = loss_named(
            settings.loss,
            model,
            matryoshka=matryoshka.dims if matryoshka else (),
            matryoshka_weights=matryoshka.weights if matryoshka else None,
            **_options(settings),
        )
        return Losses(loss), []

    sources = chosen_sources(work.data, settings.rows, settings.kinds, work.name)
    return run_planned(settings, work, sources, losses, settings.prompts)


def _options(settings: ScoredStage) -> dict[str, Any]:
    if settings.loss == "margin_mse":
        return {}
    if settings.loss == "kl":
        return {"temperature": settings.temperature, "teacher_temperature": settings.teacher_temperature}
    return {"temperature": settings.temperature}


def _check_scores(batches: Batches, loss: str) -> None:
    unscored = [each.name for each in batches.store.sets if each.scores is None]
    if unscored:
        raise DataError(
            f"{', '.join(unscored)} has no teacher's scores, from which the loss {loss} learns; "
            "m3e data score adds them"
        )
