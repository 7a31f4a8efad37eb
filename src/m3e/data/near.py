"""Near-duplicates by MinHash and locality-sensitive hashing (Broder, 1997; Mining of Massive Datasets, chapter 3).

A row has two sides, and both must be alike: many questions about one passage are not duplicates of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BANDS = 21
ROWS_A_BAND = 3
HASHES = BANDS * ROWS_A_BAND
_BAND_COLUMNS = [slice(start, start + ROWS_A_BAND) for start in range(0, HASHES, ROWS_A_BAND)]
GRAM = 3
THRESHOLD = 0.8
"""Rows whose sides both have at least this Jaccard similarity of 3-character shingles are near-duplicates."""

SHORT = 10
"""A side of fewer key characters is alike only where it is equal."""

_PAIRS_AT_ONCE = 16384
_LEADERS = 8
_MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


@dataclass(frozen=True)
class Signatures:
    """The MinHash signatures of a set's rows, on disk.

    ``bands.u64`` holds ``BANDS`` arrays of one 64-bit hash a row; ``minhash.u16`` a row's 2 x ``HASHES`` hashes,
    16 bits of each.
    """

    folder: Path
    rows: int

    @classmethod
    def create(cls, folder: Path, rows: int) -> Signatures:
        """Files of the right size, to be filled by :meth:`put`."""
        signatures = cls(folder, rows)
        for path, size in ((signatures._bands_path, BANDS * rows * 8), (signatures._hashes_path, rows * HASHES * 4)):
            with path.open("wb") as stream:
                stream.truncate(size)
        return signatures

    @property
    def _bands_path(self) -> Path:
        return self.folder / "bands.u64"

    @property
    def _hashes_path(self) -> Path:
        return self.folder / "minhash.u16"

    def put(
        self,
        rows: NDArray[np.int64],
        left: NDArray[np.uint32],
        right: NDArray[np.uint32],
        group: NDArray[np.uint64],
    ) -> None:
        """Write the signatures of some rows.

        Args:
            rows: their numbers.
            left: of shape (rows, HASHES).
            right: the same of the other side.
            group: rows of different groups (labels, say) are never duplicates.
        """
        hashes = np.concatenate((left.astype(np.uint16), right.astype(np.uint16)), axis=1)
        bands = [_band_hash(left[:, part], right[:, part], group) for part in _BAND_COLUMNS]
        # rows come in runs
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        runs = list(zip([0, *breaks.tolist()], [*breaks.tolist(), len(rows)], strict=True)) if len(rows) else []
        with self._hashes_path.open("r+b") as stream:
            for start, stop in runs:
                stream.seek(int(rows[start]) * hashes.shape[1] * hashes.itemsize)
                stream.write(hashes[start:stop].data)
        with self._bands_path.open("r+b") as stream:
            for band, values in enumerate(bands):
                for start, stop in runs:
                    stream.seek((band * self.rows + int(rows[start])) * values.itemsize)
                    stream.write(values[start:stop].data)

    def band(self, index: int) -> NDArray[np.uint64]:
        """One band's hash of every row."""
        with self._bands_path.open("rb") as stream:
            stream.seek(index * self.rows * 8)
            return np.fromfile(stream, np.uint64, self.rows)

    def hashes(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.uint16]:
        """The hashes of some rows, or of all: shape (rows, 2 x HASHES).

        They are read, not mapped: of a mapped file all that was ever touched, and more, counts as memory.
        """
        shape = (-1, 2 * HASHES)
        if rows is None:
            return np.fromfile(self._hashes_path, np.uint16).reshape(shape)
        each, places = np.unique(rows, return_inverse=True)
        size = 4 * HASHES
        found = bytearray()
        with self._hashes_path.open("rb", buffering=0) as stream:
            for row in each.tolist():
                stream.seek(row * size)
                found += stream.read(size)
        return np.frombuffer(found, np.uint16).reshape(shape)[places]


def near_duplicates(
    sets: Sequence[Signatures], order: NDArray[np.uint32], threshold: float = THRESHOLD
) -> NDArray[np.bool_]:
    """Which rows of all sets together are near-duplicates of a better row that stays.

    Rows are taken best first. A row goes where a row before it that stays is alike on both sides, so that of
    any two rows that stay none is (found to be) a near-duplicate of the other: a second run finds nothing.

    Args:
        sets: their rows are numbered on from set to set.
        order: the rows that take part, best first.
        threshold: of the estimated Jaccard similarity of either side.

    Returns:
        One flag a row of all sets.
    """
    total = sum(signatures.rows for signatures in sets)
    dropped = np.zeros(total, np.bool_)
    similar = _comparison(sets, threshold)
    rows = order
    while True:
        new, in_company = _one_pass(sets, rows, similar)
        if not new.any():
            return dropped
        dropped |= new
        rows = rows[in_company & ~dropped[rows]]


Comparison = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]
_NONE = np.uint32(0xFFFFFFFF)


def _one_pass(
    sets: Sequence[Signatures], rows: NDArray[np.uint32], similar: Comparison
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Rows that are alike to a row that comes before them and is not itself one of those.

    Returns:
        One flag a row of all sets, and one for each of ``rows`` that shares a band with any other of them: the
        rest need not be looked at again.
    """
    parent = np.full(len(rows), _NONE, np.uint32)  # both count positions in ``rows``
    in_company = np.zeros(len(rows), np.bool_)
    for band in range(BANDS):
        hashes = np.concatenate([signatures.band(band) for signatures in sets])[rows]
        shared = _shared(hashes)
        in_company[shared] = True
        free = shared[parent[shared] == _NONE]
        hashes = hashes[free]
        # equal hashes side by side, and among them the best row first
        by_hash = np.argsort(hashes, kind="stable")
        hashes = hashes[by_hash]
        same = np.flatnonzero(hashes[1:] == hashes[:-1])
        if len(same):
            _follow_leaders(free[by_hash].astype(np.uint32), same, rows, parent, similar)
    total = sum(signatures.rows for signatures in sets)
    return _resolve(rows, parent, total), in_company


def _shared(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The positions, rising, of all hashes that another may be equal to.

    The lower bits give way to the position: sorting plain numbers is many times as fast as sorting by them.
    """
    positions = np.uint64((1 << len(hashes).bit_length()) - 1)
    packed = (hashes & ~positions) | np.arange(len(hashes), dtype=np.uint64)
    packed.sort()
    equal = (packed[1:] ^ packed[:-1]) <= positions
    shared = np.zeros(len(hashes), np.bool_)
    shared[(packed[1:][equal] & positions).astype(np.int64)] = True
    shared[(packed[:-1][equal] & positions).astype(np.int64)] = True
    return np.flatnonzero(shared)


def _follow_leaders(
    members: NDArray[np.uint32],
    same: NDArray[np.int64],
    rows: NDArray[np.uint32],
    parent: NDArray[np.uint32],
    similar: Comparison,
) -> None:
    """Give each row of a bucket the first row of it that it is like as its parent; what is like none leads in turn.

    Args:
        members: positions, bucket after bucket.
        same: indices into ``members`` of those whose follower is in the same bucket.
    """
    followers = same + 1
    starts = np.setdiff1d(same, followers, assume_unique=True)  # the first of each bucket
    lengths = np.diff(np.append(np.searchsorted(followers, starts + 1), len(followers)))
    leaders = np.repeat(starts, lengths)
    for _ in range(_LEADERS):
        alike = similar(rows[members[leaders]].astype(np.int64), rows[members[followers]].astype(np.int64))
        parent[members[followers[alike]]] = members[leaders[alike]]
        leaders, followers = leaders[~alike], followers[~alike]
        if not len(followers):
            return
        # the first that is like no leader so far leads those after it
        first = np.flatnonzero(np.append(True, leaders[1:] != leaders[:-1]))
        group = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(leaders))))
        new_leaders = followers[first][group]
        rest = np.ones(len(followers), np.bool_)
        rest[first] = False
        leaders, followers = new_leaders[rest], followers[rest]


def _resolve(rows: NDArray[np.uint32], parent: NDArray[np.uint32], total: int) -> NDArray[np.bool_]:
    """Rows whose parent stays, in the order of rows; where the parent goes, its children wait for the next pass."""
    dropped = np.zeros(total, np.bool_)
    positions = np.flatnonzero(parent != _NONE)
    goes = np.zeros(len(rows), np.bool_)
    for position, above in zip(positions.tolist(), parent[positions].tolist(), strict=True):
        goes[position] = not goes[above]
    dropped[rows[goes]] = True
    return dropped


def _comparison(sets: Sequence[Signatures], threshold: float) -> Comparison:
    """Whether the rows of two arrays are alike, by their numbers over all sets."""
    bounds = np.cumsum([signatures.rows for signatures in sets])
    needed = int(np.ceil(threshold * HASHES))

    def hashes_of(rows: NDArray[np.int64]) -> NDArray[np.uint16]:
        owner = np.searchsorted(bounds, rows, side="right")
        found = np.empty((len(rows), 2 * HASHES), np.uint16)
        for index in np.unique(owner):
            mine = owner == index
            found[mine] = sets[index].hashes(rows[mine] - (bounds[index] - sets[index].rows))
        return found

    def similar(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
        alike = np.zeros(len(first), np.bool_)
        for start in range(0, len(first), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            equal = hashes_of(first[part]) == hashes_of(second[part])
            left, right = equal[:, :HASHES].sum(axis=1), equal[:, HASHES:].sum(axis=1)
            alike[part] = (left >= needed) & (right >= needed)
        return alike

    return similar


def _band_hash(left: NDArray[np.uint32], right: NDArray[np.uint32], group: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed = group.copy()
    for column, multiplier in enumerate(_MULTIPLIERS):
        mixed = (mixed ^ left[:, column].astype(np.uint64)) * multiplier
        mixed ^= mixed >> np.uint64(29)
        mixed = (mixed ^ right[:, column].astype(np.uint64)) * multiplier
        mixed ^= mixed >> np.uint64(32)
    return mixed
