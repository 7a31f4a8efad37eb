"""Texts of a batch as mini-batches of similar lengths: padded rows, or one row without padding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

MINI_BATCH_COST = 128
"""Tokens that could be trained in the time that one more mini-batch takes: weights are read, gradients added."""

LARGEST_PADDING = 0.05
"""The share of positions that may hold no token."""


@dataclass(frozen=True)
class TextBatch:
    """A batch of rows whose texts are token ids, each text once.

    Attributes:
        ids: all texts' token ids, one text after the other.
        lengths: tokens of each text.
        slots: of shape (rows, columns): which text is the row's query, positive, negatives; -1 for none.
        keys: of the same shape: ids that are equal where texts are equal, 0 for none; what losses take as labels.
        labels: a number a row, for scored pairs; else ``None``.
        prompts: tokens of the prompt before each text, for poolings that leave it out; else ``None``.
        dataset: the name of the data set that all rows are of.
        scores: a teacher's, of each row's positive and negatives; else ``None``.
    """

    ids: NDArray[np.int32]
    lengths: Integers
    slots: Integers
    keys: Integers
    labels: NDArray[np.float32] | None = None
    prompts: Integers | None = None
    dataset: str = ""
    scores: NDArray[np.float32] | None = None

    @property
    def starts(self) -> Integers:
        """Where each text begins in ``ids``, and where the last one ends."""
        return np.concatenate(([0], np.cumsum(self.lengths)))


@dataclass(frozen=True)
class PaddedTexts:
    """A mini-batch of texts in rows of one width.

    Attributes:
        texts: which texts of the batch.
        ids: of shape (texts, width).
        mask: of the same shape: 1 at tokens, 0 at padding.
        prompt: tokens of the prompt of each, where the pooling leaves it out.
    """

    texts: Integers
    ids: Integers
    mask: Integers
    prompt: int | None = None


@dataclass(frozen=True)
class JoinedTexts:
    """A mini-batch of texts in one row, none padded.

    Attributes:
        texts: which texts of the batch.
        ids: of shape (positions,); what follows the last text is filling, and belongs to no text.
        positions: of each token in its text.
        starts: where each text begins, where the last ends, and where the filling ends: int32.
        longest: tokens that no text has more of.
        prompt: tokens of the prompt of each, where the pooling leaves it out.
    """

    texts: Integers
    ids: Integers
    positions: Integers
    starts: NDArray[np.int32]
    longest: int
    prompt: int | None = None


def padded_mini_batches(batch: TextBatch, budget: int, pad: int, *, left: bool = False) -> Iterator[PaddedTexts]:
    """The batch's texts, longest first, in mini-batches of like lengths and at most ``budget`` padded tokens.

    Args:
        pad: the padding's token id.
        left: pad before the text.
    """
    starts = batch.starts
    for prompt, group in _groups_by_prompt(batch):
        order = group[np.argsort(-batch.lengths[group], kind="stable")]
        for begin, end in _spans_of_little_padding(batch.lengths[order], budget):
            texts = order[begin:end]
            lengths = batch.lengths[texts]
            width = max(1, int(lengths.max()))
            columns = np.arange(width)
            is_token = columns >= width - lengths[:, None] if left else columns < lengths[:, None]
            ids = np.full((len(texts), width), pad, np.int64)
            ids[is_token] = batch.ids[_numbers(starts[texts], lengths)]
            yield PaddedTexts(texts, ids, is_token.astype(np.int64), prompt)


def joined_mini_batches(batch: TextBatch, budget: int, *, longest: int | None = None) -> Iterator[JoinedTexts]:
    """The batch's texts, longest first, in rows of at most ``budget`` tokens; a longer text has a row of its own.

    Args:
        longest: fill every row up to exactly ``budget`` positions, and say that no text has more tokens than this, so
            that compiled code meets one shape only.
    """
    starts = batch.starts
    for prompt, group in _groups_by_prompt(batch):
        order = group[np.argsort(-batch.lengths[group], kind="stable")]
        ends = np.cumsum(batch.lengths[order])
        begin = 0
        while begin < len(order):
            before = int(ends[begin - 1]) if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, before + budget, side="right")))
            texts = order[begin:end]
            yield _joined(
                batch, texts, starts, budget if longest else 0, longest or int(batch.lengths[order[0]]), prompt
            )
            begin = end


def _joined(
    batch: TextBatch, texts: Integers, starts: Integers, size: int, longest: int, prompt: int | None
) -> JoinedTexts:
    lengths = batch.lengths[texts]
    used = int(lengths.sum())
    filling = max(0, size - used)
    # the filling is cut into pieces no longer than the longest text, which attention relies on
    pieces = [longest] * (filling // longest) + ([filling % longest] if filling % longest else [])
    bounds = np.concatenate(([0], np.cumsum([*lengths, *pieces]))).astype(np.int32)
    ids = np.zeros(used + filling, np.int64)
    ids[:used] = batch.ids[_numbers(starts[texts], lengths)]
    positions = np.zeros(used + filling, np.int64)
    positions[:used] = _numbers(np.zeros(len(texts), np.int64), lengths)
    return JoinedTexts(texts, ids, positions, bounds, longest, prompt)


def spans_of_like_length(lengths: Integers, cost: int, budget: int) -> list[tuple[int, int]]:
    """Neighbours that are padded to one width: the spans that take the fewest tokens in all, padding included.

    Found by dynamic programming over the different lengths, as optimal histograms are.

    Args:
        lengths: of texts, longest first.
        cost: tokens that one more span is worth.
        budget: padded tokens a span, which has at least one text.
    """
    widths, counts = np.unique(-lengths, return_counts=True)
    widths = np.maximum(1, -widths)
    before = np.concatenate(([0], np.cumsum(counts)))
    best = np.zeros(len(before))
    cut_at = np.zeros(len(before), np.int64)
    for end in range(1, len(before)):
        tokens = (before[end] - before[:end]) * widths[:end]
        total = best[:end] + tokens + cost * np.ceil(tokens / budget)
        cut_at[end] = int(total.argmin())
        best[end] = total[cut_at[end]]
    spans: list[tuple[int, int]] = []
    end = len(before) - 1
    while end:
        begin = int(cut_at[end])
        spans[:0] = _within_budget(int(before[begin]), int(before[end]), int(widths[begin]), budget)
        end = begin
    return spans


def _spans_of_little_padding(lengths: Integers, budget: int) -> list[tuple[int, int]]:
    """Spans that are worth their cost; more of them where padding would exceed what is allowed."""
    cost = MINI_BATCH_COST
    while True:
        spans = spans_of_like_length(lengths, cost, budget)
        positions = sum((end - begin) * int(lengths[begin]) for begin, end in spans)
        if cost == 0 or padding_share(int(lengths.sum()), positions) < LARGEST_PADDING:
            return spans
        cost //= 2


def _within_budget(begin: int, end: int, width: int, budget: int) -> list[tuple[int, int]]:
    """A span in even parts of at most so many tokens."""
    parts = -(-(end - begin) // max(1, budget // width))
    bounds = [begin + (end - begin) * part // parts for part in range(parts + 1)]
    return list(itertools.pairwise(bounds))


def _groups_by_prompt(batch: TextBatch) -> Iterator[tuple[int | None, Integers]]:
    everything = np.arange(len(batch.lengths))
    if batch.prompts is None:
        yield None, everything
        return
    for prompt in np.unique(batch.prompts):
        yield int(prompt), everything[batch.prompts == prompt]


def _numbers(starts: Integers, lengths: Integers) -> Integers:
    """The numbers ``start .. start + length - 1`` of each span, one span after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    numbers: Integers = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return numbers


def padding_share(tokens: int, positions: int) -> float:
    """The share of computed positions that hold no token, 0..1."""
    return 1 - tokens / positions if positions else 0.0


def as_text_batch(value: Any) -> TextBatch:
    """``value``, which must be a batch of the token store; a wrong collator is named rather than guessed."""
    if not isinstance(value, TextBatch):
        raise TypeError(f"the loss takes batches of a token store, not {type(value).__name__}")
    return value
