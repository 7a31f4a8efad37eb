"""Losses by the names that recipes give them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sentence_transformers.sentence_transformer.losses import CoSENTLoss

from m3e.errors import SettingsError
from m3e.training.angle_loss import AngleLoss
from m3e.training.cached_loss import EmbeddingLoss
from m3e.training.distillation_loss import DistillationLoss
from m3e.training.losses import InBatchSoftmaxLoss
from m3e.training.matryoshka_loss import MatryoshkaLoss
from m3e.training.teacher_scores import MarginMSELoss, ScoreKLLoss

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from m3e.training.text_vectors import TextVectors


def _cosent(model: SentenceTransformer, temperature: float = 0.05) -> Any:
    loss = CoSENTLoss(model, scale=1 / temperature)
    loss.wants = ("labels",)
    return loss


def _kl(model: SentenceTransformer, temperature: float = 0.05, teacher_temperature: float | None = None) -> ScoreKLLoss:
    del model
    return ScoreKLLoss(temperature, teacher_temperature)


def _margin_mse(model: SentenceTransformer, scale: float = 1.0) -> MarginMSELoss:
    del model
    return MarginMSELoss(scale)


def _distil(
    model: SentenceTransformer,
    teacher: TextVectors,
    temperature: float = 0.05,
    cosine: float = 2.0,
    contrast: float = 0.1,
    relational: float = 0.0,
) -> DistillationLoss:
    return DistillationLoss(teacher, _dimension(model), temperature, cosine, contrast, relational)


LOSSES: Mapping[str, Callable[..., Any]] = {
    "in_batch_softmax": InBatchSoftmaxLoss,
    "cosent": _cosent,
    "angle": AngleLoss,
    "kl": _kl,
    "margin_mse": _margin_mse,
    "distil": _distil,
}
"""What makes each loss, of a model and the loss's own options."""


def loss_named(
    name: str,
    model: SentenceTransformer,
    *,
    matryoshka: Sequence[int] = (),
    matryoshka_weights: Sequence[float] | None = None,
    **options: Any,
) -> EmbeddingLoss:
    """The loss that a recipe names.

    Args:
        name: one of :data:`LOSSES`.
        matryoshka: widths of the embedding at which the loss is taken too
            (:class:`~m3e.training.matryoshka_loss.MatryoshkaLoss`).
        matryoshka_weights: one a width, 1 by default.
        options: the loss's own, such as its ``temperature``; ``distil`` needs a ``teacher``.

    Raises:
        SettingsError: no loss has this name, or this one lacks an option or does not know one.
    """
    if name not in LOSSES:
        raise SettingsError(f"no loss is named {name}; there are {', '.join(LOSSES)}")
    allowed = loss_options(name)
    if unknown := [key for key in options if key not in allowed]:
        raise SettingsError(f"the loss {name} has no option {unknown[0]}; it has {', '.join(allowed)}")
    if lacking := [key for key, needed in allowed.items() if needed and key not in options]:
        raise SettingsError(f"the loss {name} needs {', '.join(lacking)}")
    loss: EmbeddingLoss = LOSSES[name](model, **options)
    return MatryoshkaLoss(loss, _dimension(model), matryoshka, matryoshka_weights) if matryoshka else loss


def loss_options(name: str) -> dict[str, bool]:
    """The options of a loss by name, and whether each must be given."""
    parameters = inspect.signature(LOSSES[name]).parameters
    return {key: each.default is each.empty for key, each in parameters.items() if key != "model"}


def _dimension(model: SentenceTransformer) -> int:
    return int(model.get_embedding_dimension() or 0)
