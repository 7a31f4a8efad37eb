"""A plan's batches as a data loader: the same for any number of workers, an even part of each for each process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from torch.utils.data import DataLoader, Dataset, Sampler

from m3e.errors import SettingsError
from m3e.training.batches import BatchPlan
from m3e.training.packing import TextBatch
from m3e.training.token_store import TokenSet

BATCH = "batch"
"""Under what key the trainer finds the batch in its inputs."""


class NumberedBatches(Protocol):
    """Batches by number, and what a person would call a batch's rows."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> TextBatch: ...

    def rows_of(self, number: int) -> list[int]:
        """Numbers of the batch's rows in its data set, or of its texts."""
        ...


class PlannedBatches(Dataset[TextBatch]):
    """A plan's batches by number; of several processes each has its own rows of every batch.

    Args:
        sets: the plan's data sets, in its order.
        rank: which process this is.
        world: how many there are.

    Raises:
        SettingsError: a batch cannot be split evenly.
    """

    def __init__(self, plan: BatchPlan, sets: Sequence[TokenSet], rank: int = 0, world: int = 1) -> None:
        if plan.batch_size % world:
            raise SettingsError(
                f"batches of {plan.batch_size} rows cannot be split evenly over {world} processes; "
                f"set batch_size to a multiple of {world}"
            )
        if tuple(each.name for each in sets) != plan.names:
            raise SettingsError(f"the batches were planned for {', '.join(plan.names)}; plan them again for these sets")
        self.plan = plan
        self.sets = sets
        share = plan.batch_size // world
        self._own = slice(rank * share, (rank + 1) * share)

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: int) -> TextBatch:
        chosen: TokenSet = self.sets[int(self.plan.sets[number])]
        return chosen.batch(self.plan.rows[number][self._own])

    def rows_of(self, number: int) -> list[int]:
        """Numbers of all the batch's rows in its data set."""
        rows: list[int] = self.plan.rows[number].tolist()
        return rows


class _InOrder(Sampler[list[int]]):
    """Each batch's number, alone in a list: what lets a trainer skip batches without reading them."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.batch_size = 1
        self.drop_last = False

    def __iter__(self) -> Iterator[list[int]]:
        return iter([number] for number in range(self.count))

    def __len__(self) -> int:
        return self.count


def _only(batches: list[TextBatch]) -> dict[str, Any]:
    return {BATCH: batches[0]}


def planned_loader(batches: NumberedBatches, workers: int = 0) -> DataLoader[TextBatch]:
    """The batches in the plan's order, as the trainer's inputs.

    Args:
        workers: processes that read ahead; a store on a local disk needs none.
    """
    dataset: Any = batches  # torch asks for its own class, and needs no more than numbers and a length
    return DataLoader(
        dataset,
        batch_sampler=_InOrder(len(batches)),
        collate_fn=_only,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
