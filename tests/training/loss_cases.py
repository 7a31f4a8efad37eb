"""Every loss as a recipe names it, with a kind of rows to try it on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from m3e.records import Kind
from m3e.training.guide import Guide
from m3e.training.named_losses import loss_named, loss_options
from m3e.training.text_vectors import TextVectors


@dataclass(frozen=True)
class LossCase:
    kind: Kind
    name: str
    options: dict[str, Any] = field(default_factory=dict)


WIDTHS = {"matryoshka": (24, 8), "matryoshka_weights": (1.0, 0.5)}
ONE_LOSS_EACH = {
    "pairs": LossCase(Kind.PAIR, "in_batch_softmax"),
    "triplets": LossCase(Kind.TRIPLET, "in_batch_softmax"),
    "ranked": LossCase(Kind.RANKED, "in_batch_softmax"),
    "one_way": LossCase(Kind.TRIPLET, "in_batch_softmax", {"directions": ["query_to_doc"], "own_margin": 0.02}),
    "guided": LossCase(Kind.TRIPLET, "in_batch_softmax", {"margin": 0.5, "preserve": 0.3}),
    "cosent": LossCase(Kind.SCORED_PAIR, "cosent"),
    "angle": LossCase(Kind.SCORED_PAIR, "angle"),
    "kl": LossCase(Kind.RANKED, "kl", {"teacher_temperature": 0.3}),
    "margin_mse": LossCase(Kind.RANKED, "margin_mse"),
    "distil": LossCase(Kind.TRIPLET, "distil", {"relational": 0.5}),
    "distil_scored": LossCase(Kind.SCORED_PAIR, "distil"),
}
CASES = ONE_LOSS_EACH | {
    f"{name}_at_widths": LossCase(case.kind, case.name, case.options | WIDTHS) for name, case in ONE_LOSS_EACH.items()
}


def loss_of(case: LossCase, model: Any, keys: Any, **more: Any) -> Any:
    """The loss; a guide or teacher is made up for the texts of these keys, a teacher for all but some."""
    options = case.options | {key: value for key, value in more.items() if key in loss_options(case.name)}
    ids = np.unique(np.asarray(keys)[np.asarray(keys) != 0])
    random = np.random.default_rng(len(ids))
    vectors = random.normal(size=(len(ids), model.get_embedding_dimension())) + 0.3
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    if "margin" in options:
        options["guide"] = Guide(torch.from_numpy(ids), torch.from_numpy(vectors))
    if case.name == "distil":
        known = np.arange(len(ids)) % 7 != 3
        options["teacher"] = TextVectors(ids[known], vectors[known])
    return loss_named(case.name, model, **options)
