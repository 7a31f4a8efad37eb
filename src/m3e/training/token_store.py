"""Texts as token ids on disk, so that no training step waits for text: what :mod:`m3e.training.tokenise` writes.

Each data set has its texts' ids in one file, read through the page cache, and small arrays: where each text lies, its
key, and which texts make a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3e.errors import DataError
from m3e.files import read_json, read_marker
from m3e.training.packing import TextBatch

STEP = "tokens"
"""What the marker of a store says."""


@dataclass(frozen=True)
class TokenSet:
    """A data set in a store.

    Attributes:
        name, kind, symmetric, weight: the source's.
        ids: of all texts, one after the other, on disk.
        starts: where each text begins in ``ids``, and where the last one ends.
        keys: of each text: equal where texts are equal, never 0.
        slots: of shape (rows, columns): which texts make a row, -1 for none.
        labels: a number a row, of scored pairs; else ``None``.
        scores: a teacher's, of each row's positive and negatives; else ``None``.
        cut: texts that were longer than the maximum.
        prompt_tokens: of the query's and of the others' prompt, where the pooling leaves prompts out.
    """

    name: str
    kind: str
    symmetric: bool
    weight: float
    ids: NDArray[Any]
    starts: NDArray[np.int64]
    keys: NDArray[np.int64]
    slots: NDArray[np.int32]
    labels: NDArray[np.float32] | None
    scores: NDArray[np.float32] | None
    cut: int
    prompt_tokens: tuple[int, int] | None

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def row_keys(self) -> NDArray[np.int64]:
        """Of shape (rows, columns): the texts' keys, 0 for none."""
        return self._keys_of(self.slots)

    def _keys_of(self, slots: NDArray[np.int32]) -> NDArray[np.int64]:
        keys: NDArray[np.int64] = np.asarray(self.keys)[slots]
        keys[slots < 0] = 0
        return keys

    def row_tokens(self) -> NDArray[np.int64]:
        """Tokens of each row, all its texts together."""
        lengths = np.diff(self.starts)[self.slots]
        lengths[np.asarray(self.slots) < 0] = 0
        tokens: NDArray[np.int64] = lengths.sum(axis=1)
        return tokens

    def batch(self, rows: NDArray[Any]) -> TextBatch:
        """Some rows as a batch; a text that they share is in it once."""
        slots = np.asarray(self.slots[rows], np.int64)
        places, inverse = np.unique(slots, return_inverse=True)
        inverse = inverse.reshape(slots.shape)
        if len(places) and places[0] < 0:
            places, inverse = places[1:], inverse - 1
        starts = self.starts[places]
        lengths = self.starts[places + 1] - starts
        # places are in order, so reading goes forward through the file
        ids = np.concatenate([self.ids[start : start + length] for start, length in zip(starts, lengths, strict=True)])
        prompts = None
        if self.prompt_tokens is not None:
            prompts = np.full(len(places), self.prompt_tokens[1], np.int64)
            prompts[inverse[:, 0]] = self.prompt_tokens[0]
        return TextBatch(
            ids.astype(np.int32),
            lengths,
            inverse,
            self._keys_of(slots.astype(np.int32)),
            None if self.labels is None else np.asarray(self.labels[rows]),
            prompts,
            self.name,
            None if self.scores is None else np.asarray(self.scores[rows]),
        )


@dataclass(frozen=True)
class TokenStore:
    """The data sets of a store, and the hash of their texts, tokenizer and settings."""

    sets: tuple[TokenSet, ...]
    hash: str

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        """The store in a folder.

        Raises:
            DataError: the folder holds no store that can be read.
        """
        marker = read_marker(folder)
        if marker is None or marker["m3e"] != STEP:
            raise DataError(f"{folder} holds no token store; build_token_store writes one")
        try:
            sets = tuple(_open_set(folder / f"{number:03d}") for number in range(marker["sets"]))
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"the token store {folder} cannot be read ({error}); remove it to make it anew") from error
        return cls(sets, marker["hash"])

    @property
    def tokens(self) -> int:
        """Tokens of all texts."""
        return sum(int(each.starts[-1]) for each in self.sets)


def _open_set(folder: Path) -> TokenSet:
    facts = read_json(folder / "set.json")

    def array(name: str) -> Any:
        path = folder / f"{name}.npy"
        return np.load(path, mmap_mode="r") if path.exists() else None

    ids = np.memmap(folder / "ids.bin", dtype=facts["dtype"], mode="r") if facts["tokens"] else np.empty(0, np.uint16)
    prompt_tokens = facts["prompt_tokens"]
    return TokenSet(
        facts["name"],
        facts["kind"],
        facts["symmetric"],
        facts["weight"],
        ids,
        array("starts"),
        array("keys"),
        array("slots"),
        array("labels"),
        array("scores"),
        facts["cut"],
        None if prompt_tokens is None else (prompt_tokens[0], prompt_tokens[1]),
    )
