"""What is going to be evaluated, and what a reader should be told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from m3e.evaluation.items import Items

_NAMED_AT_MOST = 5


@dataclass
class Planned:
    """An mteb task to run.

    Attributes:
        task: mteb's object; it holds its data unless that comes from the hub.
        split: by mteb's name.
        revision: hash of the local files; empty for the hub's.
        rows: texts, pairs or queries, where the data is here.
        recipe: the protocol, where it is not mteb's.
    """

    name: str
    task: Any
    split: str
    official: bool
    revision: str = ""
    rows: int | None = None
    recipe: str = ""

    def size(self, items: Items | None) -> int:
        """The number of items scored."""
        if self.rows is not None:
            return self.rows
        dataset = self.task.dataset
        found = dataset.get(self.split) if hasattr(dataset, "get") else None
        return len(found) if found is not None else len(items or ())


@dataclass
class Plan:
    """Tasks to run, reasons for those that cannot be, and lines for the reader."""

    tasks: list[Planned] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
