"""mteb tasks from files in our layout: which file, which rows, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3e.evaluation import mteb_tasks
from m3e.evaluation.local_collections import Collection, read_collection, read_pair_collection
from m3e.evaluation.local_files import (
    LocalFolder,
    Texts,
    content_hash,
    read_pairs,
    read_texts,
)
from m3e.evaluation.planned import Plan, Planned, some
from m3e.evaluation.task_cards import TaskCard
from m3e.evaluation.tasks import find_split


@dataclass(frozen=True)
class Files:
    """The files of one split of a set: one file, or a retrieval set's by part; and its training rows."""

    split: str
    single: Path | None = None
    parts: Mapping[str, Path] | None = None
    train: Path | None = None

    @property
    def revision(self) -> str:
        """``local-`` and a hash of their contents."""
        paths = [*self.parts.values()] if self.parts else [self.single, self.train]
        return f"local-{content_hash(path for path in paths if path is not None)}"


def add_local_task(made: Plan, card: TaskCard, folder: LocalFolder) -> str:
    """Add a card's task from local files; or say why it cannot be, and which file is wanted.

    Raises:
        DataError: the files are there and cannot be used.
    """
    split = find_split(card, folder)
    if split is None:
        return f"{card.stem} is not in {folder.path}"
    train_split = None
    if card.train:
        usable = [name for name in card.train if name != split and folder.single(card.files, name)]
        if not usable:
            return f"its training rows, {card.files}.{card.train[0]}, are not in {folder.path}"
        train_split = usable[0]
    official = card.complete and split == card.splits[0] and (train_split is None or train_split == card.train[0])
    train = folder.single(card.files, train_split) if train_split else None
    parts = folder.collection(card.files, split, card.corpus) if card.gathers else None
    files = Files(split, folder.single(card.files, split), parts, train)
    planned = fill_task(card, files, made.notes)
    planned.official = official
    if not official and (card.mteb or card.hub):
        rows = f"{card.files}.{split}" + (f" with training rows of {train_split}" if train_split else "")
        whose = "mteb's" if card.mteb else "the task's"
        made.notes.append(f"{card.key}: scored on {rows}, which is not {whose} protocol")
    made.tasks.append(planned)
    return ""


def fill_task(card: TaskCard, files: Files, notes: list[str]) -> Planned:
    """An mteb task with the rows of local files.

    Raises:
        DataError: the files cannot be used.
    """
    task = _task_of(card, files)
    split = mteb_tasks.mteb_split(task, files.split)
    rows = _fill(task, split, card, files, notes)
    return Planned(card.name, task, split, True, files.revision, rows, card.recipe)


def _task_of(card: TaskCard, files: Files) -> Any:
    if card.mteb is not None:
        import mteb

        return mteb.get_task(card.mteb)
    return mteb_tasks.own_task(
        card.name,
        card.kind,
        files.split,
        files.revision,
        language=card.language,
        is_code=card.is_code,
        experiments=card.experiments,
    )


def _fill(task: Any, split: str, card: TaskCard, files: Files, notes: list[str]) -> int:
    """Give the task its rows; returns how many are scored."""
    if card.gathers:
        collection = _collection(card, files)
        _note_left_out(card.name, collection, notes)
        mteb_tasks.fill_retrieval(task, split, collection)
        return len(collection.queries)
    assert files.single is not None
    if card.kind == "classification":
        assert files.train is not None
        rows, training = read_texts(files.single), read_texts(files.train)
        _note_dropped(card.name, rows.dropped + training.dropped, notes)
        _note_unseen(card.name, rows, training, notes)
        mteb_tasks.fill_classification(task, split, rows, training)
        return len(rows.texts)
    if card.kind == "clustering":
        texts = read_texts(files.single)
        _note_dropped(card.name, texts.dropped, notes)
        mteb_tasks.fill_clustering(task, split, texts)
        return min(len(texts.texts), mteb_tasks.CLUSTERED_AT_MOST)
    pairs = read_pairs(files.single, card.labels)
    _note_dropped(card.name, pairs.dropped, notes)
    mteb_tasks.fill_pairs(task, card.kind, split, pairs)
    return len(pairs.labels)


def _collection(card: TaskCard, files: Files) -> Collection:
    if files.parts:
        return read_collection(card.name, files.parts)
    assert files.single is not None
    return read_pair_collection(card.name, files.single, reverse=card.reverse)


def _note_left_out(name: str, collection: Collection, notes: list[str]) -> None:
    for ids, what in (
        (collection.unjudged, "queries without a relevant document were left out"),
        (collection.empty, "empty documents were left out"),
    ):
        if ids:
            notes.append(f"{name}: {len(ids)} {what}: {some(ids)}")
    if collection.dropped:
        notes.append(f"{name}: {collection.dropped} rows without two texts were left out")


def _note_dropped(name: str, count: int, notes: list[str]) -> None:
    if count:
        notes.append(f"{name}: {count} rows without a text or a label were left out")


def _note_unseen(name: str, rows: Texts, train: Texts, notes: list[str]) -> None:
    unseen = sorted(set(rows.labels) - set(train.labels))
    if unseen:
        notes.append(f"{name}: {len(unseen)} labels have no training rows and cannot be predicted: {some(unseen)}")
