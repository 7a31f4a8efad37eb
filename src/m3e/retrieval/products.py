"""Approximate scores of all pairs, and how far they may lie from the exact ones.

A document can be left out only where its approximate score proves that it is not among the best. With
q̃, c̃ the vectors as they are multiplied, Cauchy and Schwarz give for every pair

    |q̃·c̃ − q·c| ≤ |q̃ − q| |c̃| + |q| |c̃ − c|,

to which come the additions in fp32. The rounding of the product to bf16 keeps the order of the products: a product
above a threshold is never rounded below the rounded threshold. Where all documents point to one side, as those of
many models do, their mean is taken off first: it shifts all scores of a query alike, and less is lost on the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.machine import machine
from m3e.retrieval.blocks import BF16_HALF_STEP, Block

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, np.dtype[Any]]

ADDITION = 2.0**-22
"""Times the dimension: what the fp32 additions of an approximate and an exact product may lose, relatively."""
_LINEAR = "_linear_pointwise"
CENTRED = 0.25
"""The squared length of the mean, as a part of the vectors', from which it is taken off."""


class Fp32Products:
    """Scores in fp32."""

    def __init__(self, queries: torch.Tensor) -> None:
        import torch

        self.exact_queries = queries
        self.queries = queries
        self.lengths: torch.Tensor = torch.linalg.vector_norm(queries, dim=1)
        self.by_onednn = _onednn_is_faster()
        self.corpus = queries[:0]
        self.error: torch.Tensor = self.lengths
        self._scores: torch.Tensor | None = None

    def load(self, block: Block, exact: torch.Tensor) -> None:
        """Take the next block: as stored, and in fp32."""
        self.corpus = exact
        self.error = self.lengths * (block.longest * exact.shape[1] * ADDITION)

    def scores(self, tile: slice) -> torch.Tensor:
        """Scores of a tile of queries with the block as numbers that sort like them; valid until the next call."""
        import torch

        queries = self.queries[tile]
        if self.by_onednn and queries.dtype == torch.float32:
            product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(queries, self.corpus, None, "none", [], "")
            return product
        shape = (len(queries), len(self.corpus))
        if self._scores is None or self._scores.numel() < shape[0] * shape[1]:
            self._scores = torch.empty(shape[0] * shape[1], dtype=queries.dtype)
        out = self._scores[: shape[0] * shape[1]].view(shape)
        torch.mm(queries, self.corpus.T, out=out)
        return out

    def least(self, scores: torch.Tensor, tile: slice) -> torch.Tensor:
        """The least exact score of a document with this approximate one."""
        return scores - self.error[tile]

    def cut(self, floor: torch.Tensor, tile: slice) -> torch.Tensor:
        """A number that every document with an exact score of at least ``floor`` lies above."""
        import torch

        lowest = floor - self.error[tile]
        return torch.nextafter(lowest, torch.full_like(lowest, -torch.inf))

    def turn(self, numbers: torch.Tensor) -> bool:
        """Make numbers below zero sort right, too, in place; whether they did not before."""
        return False

    def decode(self, numbers: torch.Tensor) -> torch.Tensor:
        """The scores behind numbers that sort right."""
        return numbers


class Bf16Products(Fp32Products):
    """Scores in bf16, read as 16-bit integers: their greatest of many are found several times faster."""

    def __init__(self, queries: torch.Tensor) -> None:
        import torch

        super().__init__(queries)
        self.queries = queries.bfloat16()
        self.lost = torch.linalg.vector_norm(self.queries.float() - queries, dim=1)
        self.centre: torch.Tensor | None = None
        self.shift = torch.zeros(len(queries))
        self._loaded = False
        self._rounded = torch.empty((0, queries.shape[1]), dtype=torch.bfloat16)
        self._centred = torch.empty((0, queries.shape[1]))

    def load(self, block: Block, exact: torch.Tensor) -> None:
        """Take the next block: as stored, and in fp32."""
        import torch

        super().load(block, exact)
        if not self._loaded:
            self._choose_centre(exact)
        longest, rounding = block.longest, block.rounding
        if self.centre is None and block.vectors.dtype == torch.bfloat16:
            self.corpus = block.vectors
        elif self.centre is None:
            self.corpus = _reuse(self._rounded, exact).copy_(exact)
        else:
            centred = torch.sub(exact, self.centre, out=_reuse(self._centred, exact))
            longest = float(torch.linalg.vector_norm(centred, dim=1).max())
            rounding = BF16_HALF_STEP * longest
            self.corpus = _reuse(self._rounded, exact).copy_(centred)
        self.error = self.error + self.lost * (longest * (1 + BF16_HALF_STEP)) + self.lengths * rounding

    def _choose_centre(self, exact: torch.Tensor) -> None:
        """The mean of the first block, where it is the larger part of the vectors."""
        self._loaded = True
        mean = exact.mean(dim=0)
        if float(mean @ mean) > CENTRED * float((exact[:1024] ** 2).sum(dim=1).mean()):
            self.centre = mean
            self.shift = self.exact_queries @ mean

    def scores(self, tile: slice) -> torch.Tensor:
        """As integers positive scores sort right; the negative ones lie below zero, and sort right when turned."""
        import torch

        return super().scores(tile).view(torch.int16)

    def turn(self, numbers: torch.Tensor) -> bool:
        """Make numbers below zero sort right, too, in place; whether they did not before."""
        _turn(numbers)
        return True

    def least(self, scores: torch.Tensor, tile: slice) -> torch.Tensor:
        """The least exact score of a document with this approximate one."""
        import torch

        half_step = 1.001 * 2.0 ** (torch.frexp(scores).exponent - 9)
        return super().least(scores - half_step, tile) + self.shift[tile]

    def cut(self, floor: torch.Tensor, tile: slice) -> torch.Tensor:
        """A number that every document with an exact score of at least ``floor`` lies above."""
        import torch

        return _turn((floor - self.shift[tile] - self.error[tile]).bfloat16().view(torch.int16)) - 1

    def decode(self, numbers: torch.Tensor) -> torch.Tensor:
        """The scores behind numbers that sort right."""
        import torch

        return _turn(numbers.clone()).view(torch.bfloat16).float()


def _onednn_is_faster() -> bool:
    """On AMD's processors MKL, which torch asks for fp32 products, leaves half of their width unused."""
    import torch

    onednn: Any = torch.backends.mkldnn
    return "AMD" in machine().cpu and bool(onednn.is_available()) and hasattr(torch.ops.mkldnn, _LINEAR)


@contextmanager
def full_precision() -> Iterator[None]:
    """Products of fp32 numbers in fp32 inside the block, whatever ``set_float32_matmul_precision`` allows."""
    import torch

    onednn: Any = torch.backends.mkldnn
    settings = onednn.matmul
    before = settings.fp32_precision
    settings.fp32_precision = "ieee"
    try:
        yield
    finally:
        settings.fp32_precision = before


def _reuse(buffer: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """As many rows of the buffer as ``like`` has; it grows where it is too short."""
    if len(buffer) < len(like):
        buffer.resize_(like.shape)
    return buffer[: len(like)]


def _turn(numbers: torch.Tensor) -> torch.Tensor:
    """Turn round the order of negative numbers, in place; twice is none."""
    numbers ^= (numbers >> 15) & 0x7FFF
    return numbers
