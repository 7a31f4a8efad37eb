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

_NARROW = 16
"""Up to this width fp32 products are faster than bf16: starting one takes longer than computing it."""

_MOST_SCORES = 1 << 20
"""Scores held at once: what a core's second cache takes."""


@dataclass(frozen=True)
class Group:
    """Texts beside each other that attend in one call.

    Attributes:
        rows: their tokens among all.
        count: texts.
        length: tokens of the longest.
        width: ``length``, rounded up to what the products like.
        places: for each of ``count * width`` places its token, counted from the group's first; ``None`` where all
            texts are equally long.
        taken: for each token its place among the ``count * width``; ``None`` likewise.
        bias: (count, 1, width), minus infinity where a text has ended; ``None`` where none ends early.
    """

    rows: slice
    count: int
    length: int
    width: int
    places: torch.Tensor | None
    taken: torch.Tensor | None
    bias: torch.Tensor | None


class FlashAttention:
    """torch's own attention, on texts of one length at a time."""

    def __init__(self, heads: int, size: int) -> None:
        self._heads, self._size = heads, size

    def plan(self, lengths: np.ndarray[Any, np.dtype[np.int64]]) -> list[Group]:
        """The groups of texts whose tokens lie one after the other."""
        return [
            Group(slice(start, stop), count, length, length, None, None, None)
            for start, stop, count, length in _runs(lengths, 1)
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

    def plan(self, lengths: np.ndarray[Any, np.dtype[np.int64]]) -> list[Group]:
        """The groups of texts whose tokens lie one after the other."""
        groups = []
        first = 0
        for start, _, count, width in _runs(lengths, _MULTIPLE):
            at_once = max(1, _MOST_SCORES // (self._heads * width * width))
            for text in range(first, first + count, at_once):
                own = lengths[text : min(text + at_once, first + count)]
                groups.append(self._group(start, own, width))
                start += int(own.sum())
            first += count
        return groups

    def _group(self, start: int, lengths: np.ndarray[Any, np.dtype[np.int64]], width: int) -> Group:
        import torch

        rows = slice(start, start + int(lengths.sum()))
        length = int(lengths.max())
        inside = np.arange(width) < lengths[:, None]
        places = taken = bias = None
        if int(lengths.min()) < length:
            counted = np.cumsum(inside).reshape(inside.shape) - 1
            places = torch.from_numpy(np.where(inside, counted, 0).ravel())
            taken = torch.from_numpy(np.flatnonzero(inside))
        if int(lengths.min()) < width:
            added = np.where(inside, np.float32(0), np.float32("-inf"))[:, None]
            bias = torch.from_numpy(added).to(self._kind(width)).repeat_interleave(self._heads, 0)
        return Group(rows, len(lengths), length, width, places, taken, bias)

    def __call__(self, qkv: torch.Tensor, groups: list[Group]) -> torch.Tensor:
        """The context of each token, (tokens, heads * size), of queries, keys and values (tokens, 3 * heads * size)."""
        context = qkv.new_empty((len(qkv), self._heads * self._size))
        for group in groups:
            self._attend(qkv[group.rows], group, context[group.rows])
        return context

    def _attend(self, qkv: torch.Tensor, group: Group, context: torch.Tensor) -> None:
        import torch

        heads, size = self._heads, self._size
        count, width = group.count, group.width
        q, k, v = self._spread(qkv, group).view(3, count * heads, width, size)
        if group.bias is None:
            scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=size**-0.5)
        else:
            scores = torch.baddbmm(group.bias, q, k.transpose(1, 2), alpha=size**-0.5)
        found = torch.bmm(torch.softmax(scores, -1), v).view(count, heads, width, size).transpose(1, 2)
        if group.taken is None:
            context.view(count, group.length, heads, size).copy_(found[:, : group.length])
        else:
            context.copy_(found.reshape(count * width, heads * size).index_select(0, group.taken))

    def _spread(self, qkv: torch.Tensor, group: Group) -> torch.Tensor:
        """Queries, keys and values apart, each text as wide as the group: (3, texts, heads, width, size)."""
        shape = (group.count, -1, 3, self._heads, self._size)
        if group.places is not None:
            qkv = qkv.index_select(0, group.places)
        apart = qkv.view(shape).permute(2, 0, 3, 1, 4)
        kind = self._kind(group.width)
        if apart.shape[3] == group.width:
            return apart.to(kind).contiguous()
        spread = qkv.new_zeros((3, group.count, self._heads, group.width, self._size), dtype=kind)
        spread[:, :, :, : group.length] = apart
        return spread

    def _kind(self, width: int) -> torch.dtype:
        import torch

        return torch.float32 if width <= _NARROW else self._dtype


def _runs(lengths: np.ndarray[Any, np.dtype[np.int64]], multiple: int) -> Iterator[tuple[int, int, int, int]]:
    """First token, token after the last, texts and width of texts beside each other that round up to one length."""
    widths = -(-lengths // multiple) * multiple
    ends = np.cumsum(lengths)
    first = 0
    for last in (*(np.flatnonzero(np.diff(widths)) + 1), len(widths)):
        if widths[first]:
            yield int(ends[first] - lengths[first]), int(ends[last - 1]), int(last - first), int(widths[first])
        first = last
