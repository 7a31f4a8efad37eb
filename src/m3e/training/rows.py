"""Records to the trainer's rows, and the split that holds some out.

A row has one column a text and, for contrastive kinds, the ids of those texts: equal ids, equal texts.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.data.keys import key_hash
from m3e.records import Kind, Pair, Record, ScoredPair, Triplet

if TYPE_CHECKING:
    from datasets import Dataset

NEGATIVES_A_ROW = 7
LARGEST_HELD_OUT = 1000
FEWEST_ROWS_TO_SPLIT = 8
_SYMMETRIC_RATIO = 1.6


@dataclass(frozen=True)
class Example:
    """A training row: its texts (query, positive, negatives, or two sentences) and its label."""

    texts: tuple[str, ...]
    label: float | None = None


def examples(records: Iterable[Record]) -> Iterator[Example]:
    """Training rows of records; a ranked record gives one row a positive."""
    for record in records:
        if isinstance(record, ScoredPair):
            yield Example((record.sentence1, record.sentence2), record.label)
        elif isinstance(record, Pair):
            yield Example((record.text, record.text_pos))
        elif isinstance(record, Triplet):
            yield Example((record.text, record.text_pos, *record.negatives[:NEGATIVES_A_ROW]))
        else:
            yield from (Example((record.query, positive, *record.neg[:NEGATIVES_A_ROW])) for positive in record.pos)


def record_texts(record: Record) -> list[str]:
    """Every text of a record."""
    if isinstance(record, ScoredPair):
        return [record.sentence1, record.sentence2]
    if isinstance(record, Pair):
        return [record.text, record.text_pos]
    if isinstance(record, Triplet):
        return [record.text, record.text_pos, *record.negatives]
    return [record.query, *record.pos, *record.neg]


def to_dataset(rows: Sequence[Example], kind: Kind) -> Dataset:
    """The rows as columns in the order that losses expect, with ``label`` last.

    Rows with fewer negatives than others get empty slots, which the loss leaves out.
    """
    from datasets import Dataset

    width = max(len(row.texts) for row in rows)
    names = ["sentence1", "sentence2"] if kind is Kind.SCORED_PAIR else column_names(width)
    columns: dict[str, Any] = {
        name: [row.texts[at] if at < len(row.texts) else "" for row in rows] for at, name in enumerate(names)
    }
    if kind is Kind.SCORED_PAIR:
        columns["label"] = [row.label for row in rows]
    else:
        columns["label"] = [[text_id(text) for text in row.texts] + [0] * (width - len(row.texts)) for row in rows]
    return Dataset.from_dict(columns)


def column_names(width: int) -> list[str]:
    """``text``, ``text_pos`` and as many negatives as make ``width`` columns."""
    negatives = [f"text_neg_{number}" for number in range(1, width - 1)]
    return ["text", "text_pos", *negatives]


def text_id(text: str) -> int:
    """A positive 63-bit id, equal for texts that are equal but for case, width, spaces and punctuation."""
    return (key_hash(text) >> 1) | 1


def is_symmetric(rows: Sequence[Example]) -> bool:
    """Whether both sides look like the same kind of text: mean lengths within a factor of 1.6."""
    left = float(np.mean([len(row.texts[0]) for row in rows]))
    right = float(np.mean([len(row.texts[1]) for row in rows]))
    return max(left, right) <= _SYMMETRIC_RATIO * max(1.0, min(left, right))


def hold_out(records: Sequence[Record], seed: int) -> tuple[list[Record], list[Record]]:
    """Training and held-out records; records that share a text stay on one side.

    A fifth of up to 200 records is held out, a tenth of more, at most 1,000. Nothing is held out of
    fewer than 8 records, nor where all hang together by shared texts.
    """
    if len(records) < FEWEST_ROWS_TO_SPLIT:
        return list(records), []
    wanted = min(LARGEST_HELD_OUT, max(2, round(len(records) * (0.2 if len(records) <= 200 else 0.1))))
    groups = connected(records)
    order = list(range(len(groups)))
    random.Random(seed).shuffle(order)
    chosen: set[int] = set()
    taken = 0
    for index in order:
        # a group far larger than what is wanted would leave too little to train on
        if taken + len(groups[index]) > 2 * wanted:
            continue
        chosen.update(groups[index])
        taken += len(groups[index])
        if taken >= wanted:
            break
    if taken < 2:
        return list(records), []
    train = [record for index, record in enumerate(records) if index not in chosen]
    return train, [records[index] for index in sorted(chosen)]


def connected(records: Sequence[Record]) -> list[list[int]]:
    """Indices of records grouped so that two records which share a text, by its key, are in one group."""
    parent = list(range(len(records)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first_with: dict[int, int] = {}
    for index, record in enumerate(records):
        for text in record_texts(record):
            other = first_with.setdefault(text_id(text), index)
            parent[root(index)] = root(other)
    groups: dict[int, list[int]] = {}
    for index in range(len(records)):
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())
