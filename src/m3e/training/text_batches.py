"""Single texts of a token store as batches: each text once an epoch, in an order that the seed decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from m3e.errors import DataError, SettingsError
from m3e.training.packing import TextBatch
from m3e.training.token_store import TokenSet


class TextBatches(Dataset[TextBatch]):
    """The texts of some sets in random batches of one size, give or take one text.

    A text that several rows or sets have is taken once. Of several processes each has its own part of every batch.

    Args:
        size: texts a batch at most, over all processes.
        epochs: passes over all texts.
        steps: batches an epoch at most.
        cap: of a set, so many texts an epoch, others in each; ``caps`` for single sets by name.

    Raises:
        DataError: there is no text.
        SettingsError: a batch is smaller than the number of processes, or ``caps`` names a set that is not there.
    """

    def __init__(
        self,
        sets: Sequence[TokenSet],
        size: int,
        *,
        epochs: int = 1,
        steps: int | None = None,
        cap: int | None = None,
        caps: Mapping[str, int] | None = None,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.sets = sets
        self._rank, self._world = rank, world
        unknown = next((name for name in caps or {} if name not in {each.name for each in sets}), None)
        if unknown is not None:
            raise SettingsError(f"batch.caps names {unknown!r}; the sets are {', '.join(each.name for each in sets)}")
        texts = _different_texts(sets)
        limits = [(caps or {}).get(each.name, cap) for each in sets]
        if not any(len(each) for each in texts):
            raise DataError(f"{', '.join(each.name for each in sets)}: there is no text to train on")
        self._order: list[NDArray[np.int64]] = []
        for epoch in range(epochs):
            random = np.random.default_rng([seed, epoch])
            self._order += _dealt(texts, limits, size, steps, random)
        fewest = min(map(len, self._order))
        if fewest < world:
            raise SettingsError(f"batches of {fewest} texts cannot be split over {world} processes; set a larger size")

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, number: int) -> TextBatch:
        return _joined([self._texts(place, own) for place, own in self._own(number)])

    @property
    def texts(self) -> int:
        """Texts of all batches."""
        return sum(map(len, self._order))

    def texts_by_set(self, steps: int) -> dict[str, int]:
        """How many texts of each set the first batches have."""
        drawn = np.concatenate([order >> _BITS for order in self._order[:steps]]) if steps else np.empty(0, np.int64)
        counts = np.bincount(drawn, minlength=len(self.sets))
        return {each.name: int(count) for each, count in zip(self.sets, counts, strict=True)}

    def rows_of(self, number: int) -> list[int]:
        """Numbers of the batch's texts, each in its set."""
        rows: list[int] = (self._order[number] & _MASK).tolist()
        return rows

    def _own(self, number: int) -> list[tuple[int, NDArray[np.int64]]]:
        """Of this process: each set's place, and its texts in the batch."""
        own = np.sort(self._order[number][self._rank :: self._world])
        places = own >> _BITS
        return [(int(place), own[places == place] & _MASK) for place in np.unique(places)]

    def _texts(self, place: int, texts: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
        """Ids, lengths and keys of some texts of a set."""
        chosen = self.sets[place]
        starts, ends = chosen.starts[texts], chosen.starts[texts + 1]
        ids = [chosen.ids[start:end] for start, end in zip(starts, ends, strict=True)]
        return np.concatenate(ids).astype(np.int32), ends - starts, np.asarray(chosen.keys[texts])


_BITS = 32
_MASK = (1 << _BITS) - 1
"""A text is its set's place and its number there, in one integer."""


def _different_texts(sets: Sequence[TokenSet]) -> list[NDArray[np.int64]]:
    """Of each set, the texts that stand nowhere before."""
    keys = np.concatenate([np.asarray(each.keys) for each in sets]) if sets else np.empty(0, np.int64)
    first = np.sort(np.unique(keys, return_index=True)[1])
    ends = np.cumsum([len(each.keys) for each in sets])
    parts = np.split(first, np.searchsorted(first, ends[:-1]))
    offsets = [0, *ends[:-1].tolist()]
    return [(part - offset) | (place << _BITS) for place, (part, offset) in enumerate(zip(parts, offsets, strict=True))]


def _dealt(
    texts: Sequence[NDArray[np.int64]],
    limits: Sequence[int | None],
    size: int,
    steps: int | None,
    random: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """An epoch's batches."""
    drawn = np.concatenate([random.permutation(part)[:limit] for part, limit in zip(texts, limits, strict=True)])
    drawn = random.permutation(drawn)
    return np.array_split(drawn, -(-len(drawn) // size))[:steps]


def _joined(parts: Sequence[tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]]) -> TextBatch:
    ids, lengths, keys = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return TextBatch(ids, lengths, np.arange(len(lengths))[:, None], keys[:, None], dataset="texts")
