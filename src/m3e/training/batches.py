"""The plan of a training run's batches, made before it starts: exact in length, the same for the same seed.

Each batch holds a fixed number of rows of one data set, no text twice. How many batches a set gives follows from its
size, its weight and the plan's options; every row is drawn at most once an epoch, and what is left out is counted.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from m3e.errors import DataError, SettingsError
from m3e.files import atomic_folder, hash_settings, read_json, read_marker, write_json, write_marker
from m3e.training.dealing import deal
from m3e.training.shares import batches_of_sets

STEP = "batches"


class PlannedSet(Protocol):
    """What a plan needs of a data set."""

    @property
    def name(self) -> str:
        """The set's name, once in a plan."""
        ...

    @property
    def weight(self) -> float:
        """How often its rows are drawn beside others'; 1 is as often."""
        ...

    @property
    def row_keys(self) -> NDArray[np.int64]:
        """Of shape (rows, texts a row): equal where texts are equal, 0 for no text."""
        ...


@dataclass(frozen=True)
class PlanOptions:
    """How batches are drawn.

    Attributes:
        batch_size: rows a batch, over all processes.
        alpha: sets are drawn in proportion to their rows to this power, 0..1: 1 gives every row the same chance, 0
            every set.
        cap: of a set with more rows than this, so many count, and no more are drawn in an epoch.
        caps: the same for single sets, by name.
        weights: factors on the sets' shares, by name, instead of the sets' own.
        steps: batches an epoch; ``None`` takes as many as there are with every set at its share: all rows where
            nothing weighs, else until the set that is drawn hardest is used up.
        epochs: passes; each draws and deals anew.
        seed: of all draws.
    """

    batch_size: int
    alpha: float = 1.0
    cap: int | None = None
    caps: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    steps: int | None = None
    epochs: int = 1
    seed: int = 42

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise SettingsError(f"a batch of {self.batch_size} row has no negatives; set batch_size to 2 or more")
        if not 0 <= self.alpha <= 1:
            raise SettingsError(f"alpha is {self.alpha}; it is a power between 0 and 1")
        for name, value in (("epochs", self.epochs), ("steps", self.steps), ("cap", self.cap), *self.caps.items()):
            if value is not None and value < 1:
                raise SettingsError(f"{name} is {value}; it must be at least 1")
        for name, weight in self.weights.items():
            if not weight >= 0 or math.isinf(weight):
                raise SettingsError(f"the weight of {name} is {weight}; it must be a number of at least 0")


@dataclass(frozen=True)
class SetShare:
    """What an epoch draws from a set.

    Attributes:
        rows: the set's rows.
        drawn: of them, in batches.
        kept_out: placed in a batch that this epoch does not draw, or beyond the cap.
        unplaced: rows that fit in no batch: their texts stand in all that are open to them, or too few were left.
        wanted: the share of batches that the options ask for, 0..1.
        share: the share it got.
    """

    name: str
    rows: int
    drawn: int
    kept_out: int
    unplaced: int
    wanted: float
    share: float


@dataclass(frozen=True)
class BatchPlan:
    """All batches of a run, in order.

    Attributes:
        rows: of shape (batches, batch size): row numbers within the batch's set.
        sets: of shape (batches,): each batch's place in ``names``.
        names: of the sets.
        epochs: the number of batches of each epoch.
        shares: what each epoch draws from each set.
    """

    rows: NDArray[np.uint32]
    sets: NDArray[np.uint16]
    names: tuple[str, ...]
    epochs: tuple[int, ...]
    shares: tuple[tuple[SetShare, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def batch_size(self) -> int:
        """Rows a batch."""
        return int(self.rows.shape[1])

    def lines(self) -> list[str]:
        """What a person should know of the first epoch's batches, a line each."""
        found = [
            f"{len(self)} batches of {self.batch_size} rows"
            + (f", {len(self.epochs)} epochs" if len(self.epochs) > 1 else "")
        ]
        for share in self.shares[0]:
            line = f"{share.name}: {share.drawn} of {share.rows} rows, {share.share:.1%} of the batches"
            if abs(share.share - share.wanted) > 0.005:
                line += f" ({share.wanted:.1%} asked)"
            if share.kept_out:
                line += f"; {share.kept_out} not drawn"
            if share.unplaced:
                line += f"; {share.unplaced} fit in no batch"
            found.append(line)
        return found

    def save(self, folder: Path, **identity: str) -> None:
        """Write the plan, atomically, with what it was made of in its marker."""
        with atomic_folder(folder) as temporary:
            np.save(temporary / "rows.npy", self.rows)
            np.save(temporary / "sets.npy", self.sets)
            shares = [[asdict(share) for share in epoch] for epoch in self.shares]
            write_json(temporary / "plan.json", {"names": self.names, "epochs": self.epochs, "shares": shares})
            write_marker(temporary, STEP, **identity)

    @classmethod
    def load(cls, folder: Path) -> BatchPlan:
        """A plan as it was saved; its rows stay on disk until they are read.

        Raises:
            DataError: the folder holds no plan that can be read.
        """
        try:
            facts = read_json(folder / "plan.json")
            rows = np.load(folder / "rows.npy", mmap_mode="r")
            sets = np.load(folder / "sets.npy")
            shares = tuple(tuple(SetShare(**share) for share in epoch) for epoch in facts["shares"])
            return cls(rows, sets, tuple(facts["names"]), tuple(facts["epochs"]), shares)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} holds no batches that can be read ({error}); remove it to plan again") from error


def plan_batches(sets: Sequence[PlannedSet], options: PlanOptions) -> BatchPlan:
    """The batches of all epochs.

    Raises:
        DataError: no set fills a batch.
        SettingsError: an option names a set that is not there.
    """
    _check_names(sets, options)
    epochs = [_plan_epoch(sets, options, epoch) for epoch in range(options.epochs)]
    rows, order, shares = zip(*epochs, strict=True)
    return BatchPlan(
        rows[0] if len(rows) == 1 else np.concatenate(rows),
        np.concatenate(order),
        tuple(each.name for each in sets),
        tuple(len(each) for each in order),
        tuple(shares),
    )


def planned(folder: Path, sets: Sequence[PlannedSet], options: PlanOptions, data: str) -> BatchPlan:
    """The plan in ``folder``; made and saved there first where it is not.

    Args:
        data: the hash of what ``sets`` hold.

    Raises:
        SettingsError: the folder holds the plan of other data or options.
    """
    identity = {"data": data, "settings": hash_settings(asdict(options))}
    marker = read_marker(folder)
    if marker is not None and marker["m3e"] == STEP:
        if {name: marker.get(name) for name in identity} != identity:
            raise SettingsError(f"{folder} holds the batches of other data or settings; remove it, or name another")
        return BatchPlan.load(folder)
    plan_batches(sets, options).save(folder, **identity)
    return BatchPlan.load(folder)


def _check_names(sets: Sequence[PlannedSet], options: PlanOptions) -> None:
    known = {each.name for each in sets}
    for table, names in (("weights", options.weights), ("caps", options.caps)):
        unknown = sorted(set(names) - known)
        if unknown:
            there = ", ".join(sorted(known))
            raise SettingsError(f"{table} names {unknown[0]!r}, which is no data set here; there are: {there}")


def _plan_epoch(
    sets: Sequence[PlannedSet], options: PlanOptions, epoch: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint16], tuple[SetShare, ...]]:
    dealt: list[NDArray[np.uint32]] = []
    sizes: list[int] = []
    capped: list[int] = []
    for each in sets:
        random = _random(options.seed, epoch, each.name)
        keys = each.row_keys
        cap = _cap(each.name, len(keys), options)
        sizes.append(len(keys))
        capped.append(len(keys) - cap)
        if cap < len(keys):
            chosen = np.sort(random.permutation(len(keys))[:cap]).astype(np.uint32)
            dealt.append(chosen[deal(keys[chosen], options.batch_size, random)])
        else:
            dealt.append(deal(keys, options.batch_size, random))
    available = [len(batches) for batches in dealt]
    if not any(available):
        largest = max(sizes, default=0)
        raise DataError(
            f"no data set fills a batch of {options.batch_size} rows without a text twice (the largest has {largest} "
            "rows); lower batch_size"
        )
    wanted = _wanted_shares(sets, sizes, available, options)
    counts = batches_of_sets(wanted, available, options.steps)
    total = sum(counts)
    order = np.repeat(np.arange(len(sets), dtype=np.uint16), counts)
    rows = np.concatenate([batches[:count] for batches, count in zip(dealt, counts, strict=True)])
    shuffle = _random(options.seed, epoch, "").permutation(total)
    shares = tuple(
        SetShare(
            name=each.name,
            rows=size,
            drawn=count * options.batch_size,
            kept_out=out + (found - count) * options.batch_size,
            unplaced=size - out - found * options.batch_size,
            wanted=share,
            share=count / total,
        )
        for each, size, out, found, count, share in zip(sets, sizes, capped, available, counts, wanted, strict=True)
    )
    return rows[shuffle], order[shuffle], shares


def _random(seed: int, epoch: int, name: str) -> np.random.Generator:
    """Random numbers of a set's own, so that adding another set changes none of its draws."""
    return np.random.Generator(np.random.PCG64([seed, epoch, zlib.crc32(name.encode())]))


def _cap(name: str, size: int, options: PlanOptions) -> int:
    cap = options.caps.get(name, options.cap)
    return size if cap is None else min(size, cap)


def _wanted_shares(
    sets: Sequence[PlannedSet], sizes: Sequence[int], available: Sequence[int], options: PlanOptions
) -> list[float]:
    """Each set's share of the batches; 0 for one that fills none."""
    forces = []
    for each, size, batches in zip(sets, sizes, available, strict=True):
        # with alpha 1 the rows that found a place count, so that an epoch uses them all
        counted = batches * options.batch_size if options.alpha == 1 else _cap(each.name, size, options)
        forces.append(options.weights.get(each.name, each.weight) * counted**options.alpha if batches else 0.0)
    total = sum(forces)
    if not total:
        raise SettingsError("every data set that fills a batch has weight 0; give one a weight above 0")
    return [force / total for force in forces]


def summary(plan: BatchPlan) -> dict[str, Any]:
    """The plan's length and shares as JSON values."""
    return {
        "batches": len(plan),
        "batch_size": plan.batch_size,
        "epochs": list(plan.epochs),
        "sets": [asdict(share) for share in plan.shares[0]],
        "unplaced": sum(share.unplaced for share in plan.shares[0]),
    }
