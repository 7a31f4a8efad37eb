"""Lookup and mean: the vectors of a static model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.inference.backends import Vectors
from m3e.inference.backends.lone import unit

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


class StaticBackend:
    """A backend for models whose first module is a ``StaticEmbedding``; one gather for all texts of a call."""

    name = "static"
    dtype = "fp32"
    packs = True
    token_budget = 65_536

    def __init__(self, model: SentenceTransformer) -> None:
        from sentence_transformers.base.modules import Normalize

        first: Any = model[0]
        model.eval()
        self._table: torch.Tensor = first.embedding.weight.detach().float()
        self._rest = list(model)[1:]
        self._normalises = [type(module) for module in self._rest] == [Normalize]
        self._rows = self._table.numpy() if self._table.device.type == "cpu" else None

    def __call__(self, ids: Sequence[Sequence[int]], prompt: int = 0) -> Vectors:
        """The mean of each text's rows, then the model's further modules; zeros for a text without tokens."""
        if len(ids) == 1 and self._rows is not None and self._normalises:
            return self._of_one(self._rows, ids[0])
        import torch

        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        flat = np.fromiter(chain.from_iterable(ids), dtype=np.int64, count=int(lengths.sum()))
        with torch.inference_mode():
            features: dict[str, Any] = {"sentence_embedding": self._means(flat, lengths)}
            for module in self._rest:
                features = module(features)
            return np.asarray(features["sentence_embedding"].float().cpu().numpy(), dtype=np.float32)

    def _means(self, flat: np.ndarray[Any, np.dtype[np.int64]], lengths: np.ndarray[Any, Any]) -> torch.Tensor:
        import torch

        ends = np.cumsum(lengths)
        if self._rows is None:
            device = self._table.device
            starts = torch.from_numpy(ends - lengths).to(device)
            return torch.nn.functional.embedding_bag(
                torch.from_numpy(flat).to(device), self._table, starts, mode="mean"
            )
        from scipy.sparse import csr_array

        # torch's threads go on spinning after such a short job, and take the processor from the tokenizer's
        ones = np.ones(len(flat), np.float32)
        words = csr_array((ones, flat, np.append(0, ends)), shape=(len(lengths), len(self._rows)))
        return torch.from_numpy((words @ self._rows) / np.maximum(lengths, 1)[:, None].astype(np.float32))

    def _of_one(self, rows: Vectors, ids: Sequence[int]) -> Vectors:
        """The same in numpy, whose calls cost a fraction of torch's: for one text they are all of the time."""
        if not ids:
            return np.zeros((1, rows.shape[1]), dtype=np.float32)
        return unit(rows[ids].mean(axis=0))
