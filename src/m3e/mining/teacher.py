"""Cross encoders as teachers: a score for each pair of query and passage, in batches of like length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m3e.errors import ModelError
from m3e.inference.encoder import batches_by_tokens
from m3e.mining.provenance import facts_of_model
from m3e.models.fingerprint import fingerprint
from m3e.retrieval.reranking import load_cross_encoder

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

PairScorer = Callable[[Sequence[tuple[str, str]]], Sequence[float] | NDArray[np.float32]]
"""A score for each pair of query and passage, the greater the better the passage answers."""

_BATCH_TOKENS = 4096


class CrossEncoderScorer:
    """A :data:`PairScorer` of a sentence-transformers ``CrossEncoder`` with one output; scores are its ``predict``'s.

    Args:
        name: a folder, or a hub id.
        device: ``cpu``, ``cuda``, …; ``None`` chooses.
        batch_tokens: padded tokens a batch.

    Attributes:
        facts: which model it is.

    Raises:
        ModelError: it cannot be loaded, or scores more than one class.
        HubUnreachableError: the name can only be a hub id, and the hub does not answer.
    """

    def __init__(self, name: str, *, device: str | None = None, batch_tokens: int | None = None) -> None:
        self._model: CrossEncoder = load_cross_encoder(name, device=device)
        self._budget = batch_tokens or _BATCH_TOKENS
        self.facts = facts_of_model(name, fingerprint(self._model))
        self.settings: dict[str, Any] = {
            "model": self.facts.fingerprint,
            "max_length": self._limit,
            "batch_tokens": self._budget,
        }

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """The scores of ``pairs``, in their order."""
        scores = np.empty(len(pairs), np.float32)
        for batch in batches_by_tokens(self._lengths(pairs), self._budget):
            chosen = [pairs[index] for index in batch]
            scores[batch] = self._model.predict(chosen, batch_size=len(chosen), show_progress_bar=False)
        return scores

    @property
    def _limit(self) -> int | None:
        limit = self._model.max_seq_length
        return int(limit) if limit is not None and limit < 1 << 30 else None

    def _lengths(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Tokens of each pair as the model will see it."""
        if not pairs:
            return []
        queries, passages = zip(*pairs, strict=True)
        limit = self._limit
        options: dict[str, Any] = {"truncation": True, "max_length": limit} if limit else {}
        ids = self._model.tokenizer(list(queries), list(passages), padding=False, **options)["input_ids"]
        return [len(item) for item in ids]


def checked_scores(scorer: PairScorer, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
    """The scorer's scores of ``pairs``.

    Raises:
        ModelError: it gives another number of scores, or one that is not finite; names the pair.
    """
    scores = np.asarray(scorer(pairs), np.float32)
    if scores.shape != (len(pairs),):
        raise ModelError(f"the teacher gave scores of shape {scores.shape} for {len(pairs)} pairs")
    if not np.isfinite(scores).all():
        query, passage = pairs[int(np.argmin(np.isfinite(scores)))]
        raise ModelError(f"the teacher's score of {query!r:.60} and {passage!r:.60} is not a finite number")
    return scores
