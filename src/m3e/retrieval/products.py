"""Approximate scores of all pairs, and how far they may lie from the exact ones.

A document can be left out only where its approximate score proves that it is not among the best. With
q̃, c̃ the vectors as they are multiplied, Cauchy and Schwarz give for every pair

    |q̃·c̃ − q·c| ≤ |q̃ − q| |c̃| + |q| |c̃ − c|,

to which come the additions in fp32 and the rounding of the product itself, at most one part in 256 in bf16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.retrieval.blocks import BF16_HALF_STEP, Block

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, np.dtype[Any]]


class Fp32Products:
    """Scores in fp32."""

    def __init__(self, queries: torch.Tensor) -> None:
        import torch

        self.exact_queries = queries
        self.queries = queries
        self.lengths = torch.linalg.vector_norm(queries, dim=1)
        self.lost = torch.zeros(len(queries))
        self.corpus = queries[:0]
        self.error = self.lost
        self._scores: torch.Tensor | None = None

    def load(self, block: Block, exact: torch.Tensor) -> None:
        """Take the next block: as stored, and in fp32."""
        self.corpus = exact
        additions = exact.shape[1] * 2.0**-23  # of this product and of the exact one
        self.error = self.lost * (block.longest * (1 + BF16_HALF_STEP)) + self.lengths * (
            self._rounding(block) + additions * block.longest
        )

    def _rounding(self, block: Block) -> float:
        return 0.0

    def scores(self, tile: slice, cut: torch.Tensor) -> torch.Tensor:
        """Scores of a tile of queries with the block, as numbers to compare with ``cut``; valid until the next call."""
        import torch

        queries = self.queries[tile]
        shape = (len(queries), len(self.corpus))
        if self._scores is None or self._scores.numel() < shape[0] * shape[1]:
            self._scores = torch.empty(shape[0] * shape[1], dtype=queries.dtype)
        out = self._scores[: shape[0] * shape[1]].view(shape)
        torch.mm(queries, self.corpus.T, out=out)
        return out

    def below(self, scores: torch.Tensor, tile: slice) -> torch.Tensor:
        """The least exact score of a document with this approximate one, and the other way round."""
        return scores - self.error[tile]

    def cut(self, floor: torch.Tensor, tile: slice) -> torch.Tensor:
        """A number that every document with an exact score of at least ``floor`` lies above."""
        import torch

        return torch.nextafter(self.below(floor, tile), torch.tensor(-torch.inf))

    def decode(self, numbers: torch.Tensor) -> torch.Tensor:
        """The scores behind numbers that ``scores`` returned for a cut below zero."""
        return numbers


class Bf16Products(Fp32Products):
    """Scores in bf16, read as 16-bit integers: their greatest of many are found several times faster."""

    def __init__(self, queries: torch.Tensor) -> None:
        import torch

        super().__init__(queries)
        self.queries = queries.bfloat16()
        self.lost = torch.linalg.vector_norm(self.queries.float() - queries, dim=1)
        self._rounded: torch.Tensor | None = None

    def load(self, block: Block, exact: torch.Tensor) -> None:
        """Take the next block: as stored, and in fp32."""
        import torch

        super().load(block, exact)
        if block.vectors.dtype == torch.bfloat16:
            self.corpus = block.vectors
            return
        if self._rounded is None or len(self._rounded) < len(exact):
            self._rounded = torch.empty(exact.shape, dtype=torch.bfloat16)
        self.corpus = self._rounded[: len(exact)].copy_(exact)

    def _rounding(self, block: Block) -> float:
        return block.rounding

    def scores(self, tile: slice, cut: torch.Tensor) -> torch.Tensor:
        """Scores of a tile of queries with the block, as numbers to compare with ``cut``; valid until the next call."""
        import torch

        numbers = super().scores(tile, cut).view(torch.int16)
        # as integers the positive scores sort right and the negative ones lie below zero, which is enough for a
        # cut above zero; for another the negative ones are turned round
        return _turn(numbers) if bool((cut < 0).any()) else numbers

    def below(self, scores: torch.Tensor, tile: slice) -> torch.Tensor:
        """The least exact score of a document with this approximate one, and the other way round."""
        return super().below(scores, tile) - BF16_HALF_STEP * 1.02 * scores.abs()

    def cut(self, floor: torch.Tensor, tile: slice) -> torch.Tensor:
        """A number that every document with an exact score of at least ``floor`` lies above."""
        import torch

        nearest = self.below(floor, tile).bfloat16().view(torch.int16)
        return _turn(nearest) - 2  # the nearest may lie one step too high

    def decode(self, numbers: torch.Tensor) -> torch.Tensor:
        """The scores behind numbers that ``scores`` returned for a cut below zero."""
        import torch

        return _turn(numbers.clone()).view(torch.bfloat16).float()


def _turn(numbers: torch.Tensor) -> torch.Tensor:
    """Turn round the order of negative numbers, in place; twice is none."""
    numbers ^= (numbers >> 15) & 0x7FFF
    return numbers
