"""Lookup and mean: the vectors of a static model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.inference.backends import Vectors

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


class StaticBackend:
    """A backend for models whose first module is a ``StaticEmbedding``; one gather for all texts of a call."""

    name = "static"
    dtype = "fp32"
    token_budget = 65_536

    def __init__(self, model: SentenceTransformer) -> None:
        first: Any = model[0]
        model.eval()
        self._table: torch.Tensor = first.embedding.weight.detach()
        self._rest = list(model)[1:]

    def __call__(self, ids: Sequence[Sequence[int]], prompt: int = 0) -> Vectors:
        """The mean of each text's rows, then the model's further modules; zeros for a text without tokens."""
        import torch
        from torch.nn.functional import embedding_bag

        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        flat = np.fromiter(chain.from_iterable(ids), dtype=np.int64, count=int(lengths.sum()))
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        device = self._table.device
        with torch.inference_mode():
            means = embedding_bag(
                torch.from_numpy(flat).to(device), self._table, torch.from_numpy(starts).to(device), mode="mean"
            )
            features: dict[str, Any] = {"sentence_embedding": means}
            for module in self._rest:
                features = module(features)
            return np.asarray(features["sentence_embedding"].float().cpu().numpy(), dtype=np.float32)
