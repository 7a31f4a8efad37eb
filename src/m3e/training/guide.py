"""What the starting model thinks of the training texts.

Which in-batch negatives are likely none, how wide it spreads its cosines, and how far training has moved
similarities that no row says anything about.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from m3e.evaluation.measures import unit
from m3e.inference import Encoder
from m3e.training.rows import Example, text_id
from m3e.training.similarity import unit_rows
from m3e.training.text_vectors import NO_TEXT, TextVectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MOST_TEXTS = 400_000
"""Beyond so many different texts their vectors would take too much memory, and no guide is made."""


class Guide(TextVectors):
    """Vectors of training texts by the model as it was before training.

    Args:
        ids: text ids, each once.
        vectors: of shape (texts, dimension), of length 1; kept in fp16.
    """

    def __init__(self, ids: Tensor, vectors: Tensor) -> None:
        super().__init__(ids.numpy(), vectors.half().numpy())

    @classmethod
    def of(cls, model: SentenceTransformer, rows: Iterable[Example], prompt: str) -> Guide | None:
        """The guide for some rows, all texts after one prompt; ``None`` where they have too many texts."""
        texts = {text_id(text): text for row in rows for text in row.texts}
        if len(texts) > MOST_TEXTS:
            return None
        vectors = Encoder(model).encode(list(texts.values()), prompt=prompt)
        return cls(torch.tensor(list(texts)), torch.from_numpy(unit(vectors)))


def likely_positives(likeness: Tensor, own: Tensor, margin: float) -> Tensor:
    """Which other rows' candidates are about as like a row's text as its own positive is.

    Those above ``p - margin * (p - m)``, with ``p`` the likeness of the row's positive and ``m`` the mean of all
    others: a margin that does not depend on how wide a model spreads its cosines.

    Args:
        likeness: of shape (rows, candidates).
        own: of the same shape, true for the row's own candidates, which are never marked; the first of them
            is its positive.
        margin: the share of the gap between positive and mean, 0..1.

    Source: after GISTEmbed (Solatorio 2024, arXiv:2402.16829), with the starting model as the guide.
    """
    positive = likeness.gather(1, own.to(torch.uint8).argmax(dim=1, keepdim=True))
    others = ~own
    mean = (likeness * others).sum(dim=1, keepdim=True) / others.sum(dim=1, keepdim=True).clamp(min=1)
    return (likeness > positive - margin * (positive - mean)) & others


def drift(embeddings: list[Tensor], ids: Tensor, guide: TextVectors, start: int = 0, stop: int | None = None) -> Tensor:
    """How far some rows' similarities to the batch's other texts have moved from the starting model's: shape (rows,).

    A row's mean of ``((s - s0) / spread)²`` over all pairs of one of its texts and one of another row's that it shares
    no text with. In-batch negatives say only that texts differ; pushing all of them apart, a model forgets by how much.

    Args:
        embeddings: one tensor a column, each (batch, dimension).
        ids: text ids (batch, columns).
        start, stop: the rows that are wanted; all by default.

    Source: relational knowledge distillation (Park et al. 2019, arXiv:1904.05068), with the starting model as teacher.
    """
    rows, columns = ids[start:stop], range(ids.shape[1])
    vectors = [unit_rows(column) for column in embeddings]
    linked = _share_a_text(rows, ids)
    moved = vectors[0].new_zeros(len(rows))
    pairs = torch.zeros_like(moved)
    for own in columns:
        for other in columns:
            free = ~linked & (rows[:, own, None] != NO_TEXT) & (ids[None, :, other] != NO_TEXT)
            similarity = vectors[own][start:stop] @ vectors[other].T
            change = (similarity - guide.likeness(rows[:, own], ids[:, other], similarity.dtype)) / guide.spread
            moved = moved + (change.square() * free).sum(dim=1)
            pairs = pairs + free.sum(dim=1)
    return moved / pairs.clamp(min=1)


def _share_a_text(rows: Tensor, ids: Tensor) -> Tensor:
    """Whether two rows have a query or positive in common, shape (rows, batch); each row with itself."""
    return (rows[:, None, :2, None] == ids[None, :, None, :2]).flatten(2).any(dim=2)
