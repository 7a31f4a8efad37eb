"""Losses by record kind, on sentence-transformers' own.

Pairs, triplets and ranked rows take an in-batch softmax in both directions in which equal texts are
never each other's negatives; scored pairs take CoSENT. Both run with or without gradient caching.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from sentence_transformers.sentence_transformer.losses import CoSENTLoss, MultipleNegativesRankingLoss
from torch import Tensor, nn

from m3e.errors import SettingsError
from m3e.records import Kind
from m3e.training.guide import Guide, drift, likely_positives
from m3e.training.similarity import precise
from m3e.training.text_vectors import NO_TEXT

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Direction = Literal["query_to_doc", "doc_to_query"]
DIRECTIONS: tuple[Direction, ...] = ("query_to_doc", "doc_to_query")


class InBatchSoftmaxLoss(MultipleNegativesRankingLoss):
    """Cross-entropy of picking the positive among the batch's documents, and the query among its queries.

    With cosine s and temperature τ the loss of row i is the mean of two terms, or the first of them::

        query_to_doc:  -log( exp(s(q_i, d_i)/τ) / Σ_{j in D_i} exp(s(q_i, d_j)/τ) )
        doc_to_query:  -log( exp(s(q_i, d_i)/τ) / Σ_{j in Q_i} exp(s(q_j, d_i)/τ) )

    D_i holds all rows' positives and negatives, Q_i all rows' queries; both leave out what is known to be
    no negative of row i: the same text as its positive or its query, the positive of an equal query, the
    query of an equal positive.

    ``labels`` are text ids of shape (batch, columns), equal where texts are equal, :data:`NO_TEXT` for an
    empty slot. Without labels all other rows are negatives, whatever the options, as in sentence-transformers.

    With ``own_margin`` other rows' candidates whose cosine is above that of the row's own positive by more than so
    much are left out too: what the model itself finds closer by far is more likely right than wrong.
    With a ``guide`` other rows' candidates that the starting model finds about as like as the row's own positive
    are left out too (:func:`m3e.training.guide.likely_positives`): among questions of one kind, many are
    paraphrases of each other that no file says are. ``preserve`` adds so much of the mean of
    :func:`m3e.training.guide.drift`. A row's own negatives stay, whatever their cosines.

    Source: van den Oord et al. 2018 (arXiv:1807.03748); both directions: Günther et al. 2024
    (arXiv:2310.19923); ``own_margin``: Zhang et al. 2025, Qwen3 Embedding (arXiv:2506.05176), which takes 0.1.
    """

    wants = ("keys",)

    def __init__(
        self,
        model: SentenceTransformer,
        temperature: float = 0.05,
        guide: Guide | None = None,
        margin: float | None = None,
        preserve: float = 0.0,
        directions: Sequence[Direction] = DIRECTIONS,
        own_margin: float | None = None,
    ) -> None:
        if list(directions) not in (["query_to_doc"], list(DIRECTIONS)):
            raise SettingsError(f"directions are query_to_doc or {', '.join(DIRECTIONS)}, not {list(directions)}")
        super().__init__(model, scale=1 / temperature, directions=tuple(directions), partition_mode="per_direction")
        self.guide = guide
        self.margin = margin
        self.preserve = preserve
        self.own_margin = own_margin

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None) -> Tensor:
        """The batch's mean loss, a scalar.

        Args:
            embeddings: queries, positives, then one tensor a negative column, each (batch, dimension).
            labels: text ids (batch, columns), or ``None``.
        """
        if labels is None:
            unmasked: Tensor = super().compute_loss_from_embeddings(embeddings, labels)
            return unmasked
        return self.compute_loss_of_rows(embeddings, labels, 0, len(labels))

    def compute_loss_of_rows(self, embeddings: list[Tensor], labels: Tensor, start: int, stop: int) -> Tensor:
        """The part of the batch's loss that some of its rows make: the parts of all rows sum to the batch's loss.

        The memory is that of ``stop - start`` rows of scores, so a batch may be larger than its score matrix allows.
        """
        queries, positives, *negatives = [precise(column) for column in embeddings]
        not_document, not_query = false_negatives(labels, start, stop)
        if self.guide is not None and self.margin is not None:
            likely_document, likely_query = guided_false_negatives(labels, self.guide, self.margin, start, stop)
            not_document, not_query = not_document | likely_document, not_query | likely_query
        own = _own(labels, start, stop)
        to_documents = self.similarity_fct(queries[start:stop], torch.cat([positives, *negatives]))
        of_rows = self._softmax(to_documents, not_document, own.repeat(1, len(embeddings) - 1))
        if "doc_to_query" in self.directions:
            to_queries = self.similarity_fct(positives[start:stop], queries)
            of_rows = (of_rows + self._softmax(to_queries, not_query, own)) / 2
        if self.guide is not None and self.preserve:
            of_rows = of_rows + self.preserve * drift(embeddings, labels, self.guide, start, stop)
        loss: Tensor = of_rows.sum() / len(labels)
        return loss

    def _softmax(self, cosines: Tensor, left_out: Tensor, own: Tensor) -> Tensor:
        """The cross-entropy of each row's own candidate, the first that ``own`` marks, among those not left out."""
        positive = cosines.gather(1, own.to(torch.uint8).argmax(dim=1, keepdim=True))
        if self.own_margin is not None:
            left_out = left_out | ((cosines > positive + self.own_margin).detach() & ~own)
        logits = (cosines * self.scale).masked_fill(left_out, -torch.inf)
        of_rows: Tensor = torch.logsumexp(logits, dim=1) - positive[:, 0] * self.scale
        return of_rows


def false_negatives(ids: Tensor, start: int = 0, stop: int | None = None) -> tuple[Tensor, Tensor]:
    """What is no negative of a row: masks over its candidate documents and candidate queries.

    Args:
        ids: text ids (batch, columns): query, positive, negatives.
        start, stop: the rows that masks are wanted of; all by default.

    Returns:
        ``(rows, batch * (columns - 1))`` over positives then each negative column, and ``(rows, batch)``
        over queries; the row's own positive and own query are never masked.
    """
    batch = len(ids)
    query, positive = ids[start:stop, :1], ids[start:stop, 1:2]
    queries, positives = ids[:, 0][None], ids[:, 1][None]
    candidates = ids[:, 1:].T.reshape(1, -1)
    same_query = query == queries
    not_document = (candidates == positive) | (candidates == query) | (candidates == NO_TEXT)
    not_document[:, :batch] |= same_query
    not_query = same_query | (positive == positives) | (positive == queries)
    own = _own(ids, start, stop)
    not_document[:, :batch] &= ~own
    return not_document, not_query & ~own


def guided_false_negatives(
    ids: Tensor, guide: Guide, margin: float, start: int = 0, stop: int | None = None
) -> tuple[Tensor, Tensor]:
    """What the guide takes for no negative of a row: masks of the same shapes as :func:`false_negatives`."""
    own = _own(ids, start, stop)
    to_documents = guide.likeness(ids[start:stop, 0], ids[:, 1:].T.reshape(-1))
    to_queries = guide.likeness(ids[start:stop, 1], ids[:, 0])
    documents = likely_positives(to_documents, own.repeat(1, ids.shape[1] - 1), margin)
    return documents, likely_positives(to_queries, own, margin)


def _own(ids: Tensor, start: int, stop: int | None) -> Tensor:
    """Where a row meets itself: ``(rows, batch)``."""
    rows = torch.arange(len(ids), device=ids.device)
    return rows[start:stop, None] == rows


class CachedLoss(CachedLossMixin, nn.Module):
    """A loss on embeddings with gradient caching: the memory of ``mini_batch_size`` texts, the loss of the batch.

    Source: Gao et al. 2021, GradCache (arXiv:2101.06983).
    """

    def __init__(self, loss: InBatchSoftmaxLoss | CoSENTLoss, mini_batch_size: int) -> None:
        super().__init__()
        self.loss = loss
        self.model = loss.model
        self.mini_batch_size = mini_batch_size

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """The wrapped loss of the batch, back-propagated to the embeddings where asked."""
        embeddings = [torch.cat(parts) for parts in reps]
        loss: Tensor = cast(Any, self.loss).compute_loss_from_embeddings(embeddings, labels)
        if with_backward:
            loss.backward()  # type: ignore[no-untyped-call]
            loss = loss.detach()
        return loss

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None) -> Tensor:
        """The batch's loss; gradients are made mini-batch by mini-batch when it is back-propagated."""
        result: Tensor = cast(Any, self).forward_cached(list(sentence_features), labels)
        return result

    def get_config_dict(self) -> dict[str, Any]:
        """The wrapped loss's settings and the mini-batch size."""
        return {**cast(Any, self.loss).get_config_dict(), "mini_batch_size": self.mini_batch_size}


def loss_for(
    kind: Kind,
    model: SentenceTransformer,
    temperature: float,
    mini_batch_size: int | None,
    guide: Guide | None = None,
    margin: float | None = None,
    preserve: float = 0.0,
) -> InBatchSoftmaxLoss | CoSENTLoss | CachedLoss:
    """The loss of a record kind; with ``mini_batch_size`` its gradient-cached form."""
    if kind is Kind.SCORED_PAIR:
        loss: InBatchSoftmaxLoss | CoSENTLoss = CoSENTLoss(model, scale=1 / temperature)
    else:
        loss = InBatchSoftmaxLoss(model, temperature, guide, margin, preserve)
    return CachedLoss(loss, mini_batch_size) if mini_batch_size else loss
