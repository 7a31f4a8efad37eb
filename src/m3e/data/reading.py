"""From any user's file or object to typed records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from m3e.data.kinds import Layout
from m3e.data.sources import Source, open_source
from m3e.data.streams import Account, stream_tables
from m3e.errors import DataError
from m3e.records import Kind, Record, ScoredPair


@dataclass(frozen=True)
class RecordSet:
    """Records of one kind, and an account of how they were read.

    Attributes:
        kind: which of the four records.
        records: in the order of the source, texts as typed.
        dropped: rows that gave no record, by rule: ``empty_text``, ``not_text``, ``missing_label``, ``bad_label``.
        drops: the first 1000 of them, one line each: ``FILE, row N (line N): text_pos is empty``.
        mapping: record field to column, where the two names differ.
        notes: lines to print: an encoding other than UTF-8, the columns taken, the range of labels.
        label_range: the lowest and the highest label of scored pairs.
        source: a short name.
    """

    kind: Kind
    records: list[Record]
    dropped: dict[str, int]
    drops: list[str]
    mapping: dict[str, str]
    notes: list[str]
    label_range: tuple[float, float] | None
    source: str

    @property
    def rows(self) -> int:
        """How many records there are."""
        return len(self.records)


def read_records(source: Any, *, columns: Mapping[str, str] | None = None, name: str = "data") -> RecordSet:
    """The records of a file, a folder, a hub id, a data set, or a list of dicts or records.

    Args:
        source: jsonl, json, csv, tsv or parquet (text formats also with ``.gz``), a folder of them, a folder
            written by ``Dataset.save_to_disk``, a hub id (``org/name`` or ``org/name:config``), a Hugging Face
            data set, a data frame, or an iterable of dicts or objects. Of several splits ``train`` is read.
        columns: record field to column, where the file's names are not known ones.
        name: what messages call a source that has no name of its own.

    Raises:
        DataError: nothing usable; one line says where and what to do.
        HubUnreachableError: the source can only be a hub id, and the hub does not answer.
    """
    return _read(open_source(source, name).train, columns or {})


def read_splits(source: Any, *, columns: Mapping[str, str] | None = None) -> tuple[RecordSet, RecordSet | None]:
    """The training and the validation records of ``source``; the latter ``None`` where it has no such split.

    Validation is the split ``dev``, ``validation`` or ``val``, never ``test``; in a folder, the files
    that are named so beside files named ``train``.

    Args:
        source: as for :func:`read_records`.
        columns: record field to column, for both splits.

    Raises:
        DataError: as :func:`read_records`.
        HubUnreachableError: as :func:`read_records`.
    """
    splits = open_source(source, "data")
    train = _read(splits.train, columns or {})
    return train, _read(splits.validation, columns or {}) if splits.validation else None


def _read(source: Source, chosen: Mapping[str, str]) -> RecordSet:
    account = Account()
    account.note(*source.notes)
    seen: list[tuple[str, Layout]] = []

    def check(name: str, layout: Layout) -> None:
        seen.append((name, layout))
        _check_one_kind(source.name, seen[0], name, layout)

    records = [record for _, record in stream_tables(source.tables, dict(chosen), account, check)]
    if not records:
        raise DataError(_nothing_left(source.name, account.dropped, account.drops))
    label_range = _label_range(records)
    if label_range is not None:
        account.note(f"labels from {label_range[0]:g} to {label_range[1]:g}")
    return RecordSet(
        kind=seen[0][1].kind,
        records=records,
        dropped=dict(account.dropped),
        drops=account.drops,
        mapping=account.mapping,
        notes=account.notes,
        label_range=label_range,
        source=source.name,
    )


def _check_one_kind(source: str, first: tuple[str, Layout], name: str, layout: Layout) -> None:
    kind = first[1].kind
    if layout.kind is not kind:
        raise DataError(
            f"{source}: {name} holds {_plural(layout.kind)}, but {first[0]} holds {_plural(kind)}; "
            "a folder holds one kind of record"
        )


def _plural(kind: Kind) -> str:
    return {
        Kind.PAIR: "pairs",
        Kind.TRIPLET: "triplets",
        Kind.SCORED_PAIR: "scored pairs",
        Kind.RANKED: "ranked rows",
    }[kind]


def _nothing_left(source: str, dropped: Mapping[str, int], drops: list[str]) -> str:
    counts = ", ".join(f"{count} {rule}" for rule, count in sorted(dropped.items()))
    return f"{source} has no usable rows: all {sum(dropped.values())} were dropped ({counts}); first: {drops[0]}"


def _label_range(records: list[Record]) -> tuple[float, float] | None:
    labels = [record.label for record in records if isinstance(record, ScoredPair)]
    return (min(labels), max(labels)) if labels else None
