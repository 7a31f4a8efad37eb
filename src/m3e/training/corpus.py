"""Texts of a prepared folder, for what is made from text alone: vocabularies, pre-training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from m3e.errors import DataError
from m3e.training.shares import batches_of_sets
from m3e.training.sources import Source, shard_rows
from m3e.training.tokenise import text_ids


def sample_texts(sources: Sequence[Source], most: int, *, seed: int) -> tuple[list[str], dict[str, int]]:
    """At most ``most`` different texts, in random order that ``seed`` decides, and how many each set gave.

    Where there are more, sets give in proportion to their texts and weights; a text that several sets have counts for
    the first.

    Raises:
        DataError: no set has a text.
    """
    orders = _orders(sources, seed)
    sizes = [len(order) for order in orders]
    if not sum(sizes):
        raise DataError(f"{', '.join(source.name for source in sources)}: there is no text in them")
    wanted = [size * source.weight for size, source in zip(sizes, sources, strict=True)]
    quotas = batches_of_sets(wanted, sizes, min(most, sum(sizes)))
    found: list[tuple[int, str]] = []
    for source, order, quota in zip(sources, orders, quotas, strict=True):
        if not quota:
            continue
        taken = np.sort(np.partition(order, quota - 1)[:quota])
        found += _texts_of(source, taken, seed)
    found.sort()
    return [text for _, text in found], {
        source.name: quota for source, quota in zip(sources, quotas, strict=True) if quota
    }


def _orders(sources: Sequence[Source], seed: int) -> list[NDArray[np.uint64]]:
    """Of each set's different texts that no earlier set has: numbers that put them in random order."""
    orders: list[NDArray[np.uint64]] = []
    for source in sources:
        parts = [
            np.unique(_shuffled(text_ids(_kept(rows.texts)), seed))
            for shard in source.shards
            for rows in shard_rows(shard, source.kind)
        ]
        own = np.unique(np.concatenate(parts)) if parts else np.empty(0, np.uint64)
        for earlier in orders:
            own = np.setdiff1d(own, earlier, assume_unique=True)
        orders.append(own)
    return orders


def _texts_of(source: Source, taken: NDArray[np.uint64], seed: int) -> list[tuple[int, str]]:
    """The set's texts with these numbers, each once."""
    found: dict[int, str] = {}
    for shard in source.shards:
        for rows in shard_rows(shard, source.kind):
            texts = _kept(rows.texts)
            order = _shuffled(text_ids(texts), seed)
            places = np.minimum(np.searchsorted(taken, order), len(taken) - 1)
            for index in np.flatnonzero(taken[places] == order).tolist():
                found.setdefault(int(order[index]), texts[index])
    return list(found.items())


def _kept(texts: Sequence[str]) -> list[str]:
    return [text for text in texts if text.strip()]


def _shuffled(ids: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """Different numbers for different ids, whose order looks random: the finaliser of SplitMix64, on ids and seed."""
    values = ids.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) % (1 << 64))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))
