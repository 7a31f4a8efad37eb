"""Any loss at several widths of the embedding at once, so that its first numbers serve alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from m3e.errors import SettingsError
from m3e.training.cached_loss import EmbeddingLoss
from m3e.training.similarity import unit_rows


class MatryoshkaLoss(nn.Module):
    """The weighted sum of a loss on the first d numbers of the embeddings, over some widths d.

    ``Σ_d w_d · loss(x_{1..d} / |x_{1..d}|)``; the whole width is always one of them.

    Args:
        loss: the loss at each width; it is given what it wants, and is taken some rows at a time where it allows that.
        dimension: the whole width.
        dims: the widths beside it.
        weights: of ``dims``, 1 by default; the whole width has 1 unless it is among ``dims``.

    Raises:
        SettingsError: a width is not within the embedding, or is named twice, or the weights are not one a width.

    Source: Kusupati et al. 2022, Matryoshka Representation Learning (arXiv:2205.13147).
    """

    def __init__(
        self, loss: EmbeddingLoss, dimension: int, dims: Sequence[int], weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        beyond = [dim for dim in dims if not 0 < dim <= dimension]
        if beyond:
            raise SettingsError(f"Matryoshka widths must lie within 1 and {dimension}, the model's, not {beyond}")
        if weights is not None and len(weights) != len(dims):
            raise SettingsError(f"{len(weights)} weights for {len(dims)} Matryoshka widths; give one for each")
        self.weights = dict(zip(dims, weights or [1.0] * len(dims), strict=True))
        if len(self.weights) != len(dims):
            raise SettingsError(f"a Matryoshka width is named twice: {list(dims)}")
        self.weights.setdefault(dimension, 1.0)
        self.loss = loss
        if hasattr(loss, "wants"):
            self.wants = loss.wants
        self._of_rows = getattr(loss, "compute_loss_of_rows", None)
        if self._of_rows is not None:
            self.compute_loss_of_rows = self._loss_of_rows

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Any) -> Tensor:
        """The batch's loss, a scalar; ``labels`` as the wrapped loss takes them."""
        return self._sum(embeddings, lambda cut: self.loss.compute_loss_from_embeddings(cut, labels))

    def _loss_of_rows(self, embeddings: list[Tensor], labels: Any, start: int, stop: int) -> Tensor:
        of_rows = self._of_rows
        assert of_rows is not None
        return self._sum(embeddings, lambda cut: of_rows(cut, labels, start, stop))

    def _sum(self, embeddings: list[Tensor], loss_at: Callable[[list[Tensor]], Tensor]) -> Tensor:
        losses = [
            weight * loss_at([unit_rows(column[:, :dim]) for column in embeddings])
            for dim, weight in self.weights.items()
        ]
        return torch.stack(losses).sum()

    def get_config_dict(self) -> dict[str, Any]:
        """The wrapped loss's settings, and the widths with their weights."""
        inner: dict[str, Any] = getattr(self.loss, "get_config_dict", dict)()
        return {**inner, "matryoshka": self.weights}
