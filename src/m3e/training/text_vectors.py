"""Vectors of texts, found by the texts' ids: what a guide or a teacher knows about a batch."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NO_TEXT = 0
"""The text id of a slot without a text (a row with fewer negatives than others): has no vector."""

_SAMPLED = 2000


class TextVectors:
    """A table of vectors by text id.

    Args:
        ids: text ids (:func:`m3e.training.rows.text_id`), each once, in any order.
        vectors: of shape (texts, dimension), of length 1, in the order of ``ids``; may be mapped from a file, and only
            the rows that are looked up are read.
    """

    def __init__(self, ids: NDArray[np.int64], vectors: NDArray[Any]) -> None:
        if len(ids) != len(vectors):
            raise ValueError(f"{len(ids)} ids for {len(vectors)} vectors")
        self._order = np.argsort(ids, kind="stable")
        self._ids = np.asarray(ids)[self._order]
        self.vectors = vectors

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def dimension(self) -> int:
        """Numbers a vector."""
        return int(self.vectors.shape[1])

    @cached_property
    def spread(self) -> float:
        """Standard deviation of the cosines between different texts: 0.02 for some models, 0.1 for others.

        At least 0.001. Of those that come first by id, which is a hash: neighbours in a file are often about one thing.
        """
        sample = torch.from_numpy(np.asarray(self.vectors[self._order[:_SAMPLED]], np.float32))
        cosines = sample @ sample.T
        others = ~torch.eye(len(sample), dtype=torch.bool)
        return max(0.001, float(cosines[others].std())) if len(sample) > 2 else 0.1

    def places(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Which row of the table each text has, and whether it has one; without, the row is any."""
        if not len(self):
            return np.zeros(ids.shape, np.int64), np.zeros(ids.shape, bool)
        found = np.minimum(np.searchsorted(self._ids, ids), len(self) - 1)
        return self._order[found], (self._ids[found] == ids) & (ids != NO_TEXT)

    def look_up(self, ids: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """The vectors of some texts, on the device of ``ids``, zeros for unknown ones; and which are known."""
        places, known = self.places(ids.cpu().numpy())
        vectors = torch.zeros(len(ids), self.dimension)
        vectors[torch.from_numpy(known)] = torch.from_numpy(np.asarray(self.vectors[places[known]], np.float32))
        return vectors.to(ids.device, dtype), torch.from_numpy(known).to(ids.device)

    def likeness(self, first: Tensor, second: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Cosines of all pairs of two lists of text ids, shape (first, second); unknown texts are like nothing."""
        product: Tensor = self.look_up(first, dtype)[0] @ self.look_up(second, dtype)[0].T
        return product
