"""Texts of a batch in mini-batches: each once, within the budget, with little padding."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from m3e.training.packing import (
    TextBatch,
    as_text_batch,
    joined_mini_batches,
    padded_mini_batches,
    padding_share,
    spans_of_like_length,
)


def batch_of(lengths: list[int], prompts: list[int] | None = None) -> TextBatch:
    """Text number t is t+1 repeated: its tokens say where they belong."""
    count = len(lengths)
    ids = np.repeat(np.arange(1, count + 1), lengths).astype(np.int32)
    slots = np.arange(count)[:, None]
    return TextBatch(
        ids,
        np.asarray(lengths),
        slots,
        slots + 1,
        prompts=None if prompts is None else np.asarray(prompts),
    )


def mixed_lengths(count: int, seed: int = 0) -> list[int]:
    return np.clip(np.random.default_rng(seed).lognormal(4, 0.8, count).astype(int), 3, 512).tolist()


def test_padded_rows_hold_every_token_once() -> None:
    lengths = mixed_lengths(100)
    seen = []
    for mini in padded_mini_batches(batch_of(lengths), 2000, pad=0):
        assert mini.ids.size <= 2000
        for text, ids, mask in zip(mini.texts, mini.ids, mini.mask, strict=True):
            assert ids.tolist() == [text + 1] * lengths[text] + [0] * (len(ids) - lengths[text])
            assert mask.tolist() == [1] * lengths[text] + [0] * (len(ids) - lengths[text])
        seen += mini.texts.tolist()
    assert sorted(seen) == list(range(100))


def test_padding_before_the_text() -> None:
    (mini,) = padded_mini_batches(batch_of([4, *[5] * 9]), 100, pad=99, left=True)
    assert mini.ids[-1].tolist() == [99, 1, 1, 1, 1]
    assert mini.mask.tolist() == [[1] * 5] * 9 + [[0, 1, 1, 1, 1]]


@pytest.mark.parametrize("rows", [128, 512])
def test_padding_stays_under_five_in_a_hundred(rows: int) -> None:
    lengths = mixed_lengths(2 * rows)
    minis = list(padded_mini_batches(batch_of(lengths), 8192, pad=0))
    assert padding_share(sum(lengths), sum(mini.ids.size for mini in minis)) < 0.05
    assert len(minis) < 40
    joined = list(joined_mini_batches(batch_of(lengths), 4096))
    assert padding_share(sum(lengths), sum(mini.ids.size for mini in joined)) == 0


def test_joined_rows_hold_every_token_once() -> None:
    lengths = mixed_lengths(60)
    batch = batch_of(lengths)
    seen = []
    for mini in joined_mini_batches(batch, 1000):
        assert mini.ids.size <= 1000
        assert len(mini.starts) == len(mini.texts) + 1
        for text, start, end in zip(mini.texts, mini.starts, mini.starts[1:], strict=False):
            assert mini.ids[start:end].tolist() == [text + 1] * lengths[text]
            assert mini.positions[start:end].tolist() == list(range(lengths[text]))
        seen += mini.texts.tolist()
    assert sorted(seen) == list(range(60))


def test_filled_rows_have_one_shape_and_no_piece_longer_than_the_longest_text() -> None:
    minis = list(joined_mini_batches(batch_of([70, 60, 5, 4, 600]), 256, longest=100))
    assert [mini.texts.tolist() for mini in minis] == [[4], [0, 1, 2, 3]]
    assert [mini.ids.size for mini in minis] == [600, 256]
    assert minis[1].starts.tolist() == [0, 70, 130, 135, 139, 239, 256]
    assert minis[1].longest == 100
    assert minis[1].ids[139:].tolist() == [0] * 117


def test_a_text_beyond_the_budget_is_alone() -> None:
    assert [mini.texts.tolist() for mini in joined_mini_batches(batch_of([5, 50, 6]), 20)] == [[1], [2, 0]]
    assert [mini.texts.tolist() for mini in padded_mini_batches(batch_of([5, 50, 6]), 20, pad=0)] == [[1], [2, 0]]


def test_prompts_of_different_lengths_are_apart() -> None:
    batch = batch_of([8, 6, 8, 6], prompts=[2, 0, 2, 0])
    for minis in (padded_mini_batches(batch, 100, pad=0), joined_mini_batches(batch, 100)):
        assert [(mini.prompt, mini.texts.tolist()) for mini in minis] == [(0, [1, 3]), (2, [0, 2])]


def cost_of(spans: list[tuple[int, int]], lengths: np.ndarray, cost: int) -> int:
    return sum((end - begin) * int(lengths[begin]) + cost for begin, end in spans)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cost", [0, 4, 40])
def test_spans_are_the_best_there_are(seed: int, cost: int) -> None:
    lengths = np.sort(np.random.default_rng(seed).choice(np.arange(1, 60), 9, replace=False))[::-1]
    found = spans_of_like_length(lengths, cost, 1 << 20)
    cuts = [cut for size in range(9) for cut in itertools.combinations(range(1, 9), size)]
    best = min(cost_of(list(zip([0, *cut], [*cut, 9], strict=True)), lengths, cost) for cut in cuts)
    assert cost_of(found, lengths, cost) == best
    assert [begin for begin, _ in found] == [0, *(end for _, end in found[:-1])]


def test_another_collators_batch_is_named() -> None:
    with pytest.raises(TypeError, match="batches of a token store, not dict"):
        as_text_batch({"input_ids": [1]})
