"""Attention within each of several texts that lie one after the other, without padding between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

_MULTIPLE = 16
"""Products of bf16 matrices are up to three times faster where their sides are multiples of this."""

_NARROW = 32
"""Up to this width fp32 products are faster than bf16: starting one takes longer than computing it."""

_SHORT = 64
"""Up to this length torch's own attention is faster for a text alone: copying it apart takes longer than computing."""

_MOST_SCORES = 1 << 20
"""Scores held at once: what a core's second cache takes."""


Lengths = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Group:
    """Texts beside each other that attend in one call.

    Attributes:
        rows: their tokens among all.
        count: texts.
        length: tokens of the longest.
    """

    rows: slice
    count: int
    length: int


@dataclass(frozen=True)
class SpreadGroup(Group):
    """A group whose texts are copied apart, each to the same width, for batched products.

    Attributes:
        places: for each place of the texts side by side its token, counted from the group's first; ``None`` where all
            texts are equally long.
        taken: for each token its place; ``None`` likewise.
        bias: minus infinity where a text has ended: (texts and heads, 1, width), or (1, 1, width) where all are
            equally long; ``None`` where none ends early.
        apart: queries, keys and values: (3, texts, heads, width, size). What lies behind a text's end stays as it is.
        queries: (texts and heads, width, size), a view.
        keys: the same, turned.
        values: the same as queries.
    """

    places: torch.Tensor | None
    taken: torch.Tensor | None
    bias: torch.Tensor | None
    apart: torch.Tensor
    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor


class FlashAttention:
    """torch's own attention, on texts of one length at a time."""

    def __init__(self, heads: int, size: int) -> None:
        self._heads, self._size = heads, size

    def plan(self, lengths: Lengths) -> list[Group]:
        """The groups of texts whose tokens lie one after the other."""
        ends = np.cumsum(lengths)
        return [
            Group(slice(int(ends[first]) - width, int(ends[last - 1])), last - first, width)
            for first, last, width in _runs(lengths, 1)
        ]

    def __call__(self, qkv: torch.Tensor, groups: list[Group]) -> torch.Tensor:
        """The context of each token, (tokens, heads * size), of queries, keys and values (tokens, 3 * heads * size)."""
        from torch.nn.functional import scaled_dot_product_attention

        context = qkv.new_empty((len(qkv), self._heads * self._size))
        for group in groups:
            shape = (group.count, group.length, 3, self._heads, self._size)
            q, k, v = qkv[group.rows].view(shape).permute(2, 0, 3, 1, 4)
            found = scaled_dot_product_attention(q, k, v)
            context[group.rows].view(group.count, group.length, self._heads, self._size).copy_(found.transpose(1, 2))
        return context


class ProductAttention:
    """Attention as two batched products and a softmax: in bf16, on CPUs, twice as fast as torch's own."""

    def __init__(self, heads: int, size: int, dtype: torch.dtype) -> None:
        self._heads, self._size, self._dtype = heads, size, dtype

    def plan(self, lengths: Lengths) -> list[SpreadGroup] | list[Group]:
        """The groups of texts whose tokens lie one after the other."""
        if len(lengths) == 1 and 0 < lengths[0] <= _SHORT:
            return [Group(slice(0, int(lengths[0])), 1, int(lengths[0]))]
        if len(lengths) == 1:
            return [self._group(0, lengths, -(-int(lengths[0]) // _MULTIPLE) * _MULTIPLE)] if lengths[0] else []
        groups = []
        starts = np.cumsum(lengths) - lengths
        for first, last, width in _runs(lengths, _MULTIPLE):
            at_once = max(1, _MOST_SCORES // (self._heads * width * width))
            for text in range(first, last, at_once):
                own = lengths[text : min(text + at_once, last)]
                groups.append(self._group(int(starts[text]), own, width))
        return groups

    def _group(self, start: int, lengths: Lengths, width: int) -> SpreadGroup:
        import torch

        count, length, shortest = len(lengths), int(lengths.max()), int(lengths.min())
        kind = torch.float32 if width <= _NARROW else self._dtype
        places = taken = bias = None
        if shortest < length:
            inside = np.arange(width) < lengths[:, None]
            counted = np.cumsum(inside).reshape(inside.shape) - 1
            places = torch.from_numpy(np.where(inside, counted, 0).ravel())
            taken = torch.from_numpy(np.flatnonzero(inside))
            added = np.where(inside, np.float32(0), np.float32("-inf"))[:, None]
            bias = torch.from_numpy(added).to(kind).repeat_interleave(self._heads, 0)
        elif length < width:
            bias = torch.zeros((1, 1, width), dtype=kind)
            bias[:, :, length:] = float("-inf")
        apart = torch.zeros((3, count, self._heads, width, self._size), dtype=kind)
        q, k, v = apart.view(3, count * self._heads, width, self._size)
        rows = slice(start, start + int(lengths.sum()))
        return SpreadGroup(rows, count, length, places, taken, bias, apart, q, k.transpose(1, 2), v)

    def __call__(self, qkv: torch.Tensor, groups: list[Any]) -> torch.Tensor:
        """The context of each token, (tokens, heads * size), of queries, keys and values (tokens, 3 * heads * size)."""
        if len(groups) == 1:
            return self._attend(qkv, groups[0]) if isinstance(groups[0], SpreadGroup) else self._alone(qkv)
        context = qkv.new_empty((len(qkv), self._heads * self._size))
        for group in groups:
            context[group.rows] = self._attend(qkv[group.rows], group)
        return context

    def _alone(self, qkv: torch.Tensor) -> torch.Tensor:
        """The context of one short text."""
        from torch.nn.functional import scaled_dot_product_attention

        q, k, v = qkv.view(1, len(qkv), 3, self._heads, self._size).permute(2, 0, 3, 1, 4)
        return scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(len(qkv), self._heads * self._size)

    def _attend(self, qkv: torch.Tensor, group: SpreadGroup) -> torch.Tensor:
        import torch

        heads, size = self._heads, self._size
        if group.places is None:
            width = group.length
            group.apart[:, :, :, :width] = qkv.view(group.count, width, 3, heads, size).permute(2, 0, 3, 1, 4)
        else:
            spread = qkv.index_select(0, group.places).view(group.count, -1, 3, heads, size)
            group.apart.copy_(spread.permute(2, 0, 3, 1, 4))
        if group.bias is None:
            scores = torch.baddbmm(group.queries[0, 0, 0], group.queries, group.keys, beta=0, alpha=size**-0.5)
        else:
            scores = torch.baddbmm(group.bias, group.queries, group.keys, alpha=size**-0.5)
        found = torch.bmm(torch.softmax(scores, -1), group.values).view(group.count, heads, -1, size).transpose(1, 2)
        if group.taken is None:
            found = found[:, : group.length].reshape(-1, heads * size)
        else:
            found = found.reshape(-1, heads * size).index_select(0, group.taken)
        return found.to(self._dtype)


def _runs(lengths: Lengths, multiple: int) -> Iterator[tuple[int, int, int]]:
    """First text, text after the last, and width, of texts beside each other that round up to one width above 0."""
    widths = -(-lengths // multiple) * multiple
    first = 0
    for last in (*(np.flatnonzero(np.diff(widths)) + 1).tolist(), len(widths)):
        if widths[first]:
            yield first, last, int(widths[first])
        first = last
