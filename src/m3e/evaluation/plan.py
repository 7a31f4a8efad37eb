"""What to evaluate: names to mteb tasks that hold their data, and reasons for those that cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m3e.catalogue.local import TRAINING_SPLITS
from m3e.errors import SettingsError
from m3e.evaluation import mteb_tasks
from m3e.evaluation.items import Items
from m3e.evaluation.local_collections import Collection, read_collection
from m3e.evaluation.local_files import (
    Kind,
    LocalFolder,
    Texts,
    content_hash,
    kind_of_file,
    read_pairs,
    read_texts,
)
from m3e.evaluation.tasks import (
    CARDS,
    LOCAL_SUITE,
    TaskCard,
    card_of,
    check_names,
    did_you_mean,
    find_split,
    found_tasks,
    suite_tasks,
)

_NAMED_AT_MOST = 5


@dataclass
class Planned:
    """An mteb task to run.

    Attributes:
        task: mteb's object; it holds its data unless that comes from the hub.
        split: by mteb's name.
        revision: hash of the local files; empty for the hub's.
        rows: texts, pairs or queries, where the data is here.
    """

    name: str
    task: Any
    split: str
    official: bool
    revision: str = ""
    rows: int | None = None

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


def plan(tasks: Sequence[str] | None, suite: str | None, data: Path | None, train: Path | None) -> Plan:
    """Everything to run, its data read and checked.

    Raises:
        SettingsError: an unknown name, or nothing to evaluate.
        DataError: local files that cannot be used.
    """
    folder = LocalFolder.open(data) if data is not None else None
    if train is not None and suite != LOCAL_SUITE:
        raise SettingsError("training rows of your own go with suite local; mteb's tasks have their own")
    if suite == LOCAL_SUITE:
        return _plan_local(_needed(folder), list(tasks) if tasks else None, train)
    return _plan_named(_names(tasks, suite, folder), folder)


def _needed(folder: LocalFolder | None) -> LocalFolder:
    if folder is None:
        raise SettingsError("suite local evaluates the files of a folder; name it with --data")
    return folder


def _names(tasks: Sequence[str] | None, suite: str | None, folder: LocalFolder | None) -> list[str]:
    if isinstance(tasks, str):
        raise SettingsError(f"tasks takes a list of names; write [{tasks!r}]")
    if tasks is None and suite is None:
        if folder is None:
            raise SettingsError("nothing to evaluate: name tasks, a suite or a data folder")
        found = found_tasks(folder)
        if not found:
            expected = ", ".join(f"{card.files}.{card.splits[0]}" for card in CARDS[:3])
            raise SettingsError(
                f"{folder.path} holds the files of no known task ({expected}, …); for files of your own use suite local"
            )
        return found
    names = [*(tasks or ()), *(suite_tasks(suite) if suite else ())]
    if not names:
        raise SettingsError("nothing to evaluate: the list of tasks is empty")
    check_names(names, [] if folder is None else [f"{name}.{split}" for name, split in folder.splits()])
    return list(dict.fromkeys(names))


def _plan_named(names: list[str], folder: LocalFolder | None) -> Plan:
    made = Plan()
    hub = _Hub()
    for name in names:
        card = card_of(name)
        reason = "it has no local files"
        if card is not None:
            reason = _add_card(made, card, folder)
        if reason and (unreached := hub.add(made, name, card)):
            made.missing[name] = f"{reason}, and {unreached}"
    return made


def _add_card(made: Plan, card: TaskCard, folder: LocalFolder | None) -> str:
    """Add a task from local files; or say why it cannot be."""
    split = find_split(card, folder) if folder is not None else None
    if folder is None:
        return "no data folder was given"
    if split is None:
        return f"{card.files}.{card.splits[0]} is not in {folder.path}"
    train_split = None
    if card.train:
        usable = [name for name in card.train if name != split and folder.single(card.files, name)]
        if not usable:
            return f"its training rows, {card.files}.{card.train[0]}, are not in {folder.path}"
        train_split = usable[0]
    official = card.complete and split == card.splits[0] and (train_split is None or train_split == card.train[0])
    train = folder.single(card.files, train_split) if train_split else None
    planned = _filled(card.name, card.kind, card, folder, (card.files, split), train, made.notes)
    planned.official = official
    if not official and card.mteb is not None:
        rows = f"{card.files}.{split}" + (f" with training rows of {train_split}" if train_split else "")
        made.notes.append(f"{card.name}: scored on {rows}, which is not mteb's protocol")
    made.tasks.append(planned)
    return ""


def _filled(
    name: str,
    kind: Kind,
    card: TaskCard | None,
    folder: LocalFolder,
    source: tuple[str, str],
    train: Path | None,
    notes: list[str],
) -> Planned:
    """An mteb task with the rows of local files."""
    parts = folder.collection(*source) or {}
    single = folder.single(*source)
    paths = list(parts.values()) if kind in ("retrieval", "reranking") else [single, train]
    revision = f"local-{content_hash(path for path in paths if path is not None)}"
    if card is not None and card.mteb is not None:
        import mteb

        task = mteb.get_task(card.mteb)
    else:
        task = mteb_tasks.own_task(name, kind, source[1], revision)
    split = mteb_tasks.mteb_split(task, source[1])
    if kind in ("retrieval", "reranking"):
        collection = read_collection(name, parts)
        _note_left_out(name, collection, notes)
        mteb_tasks.fill_retrieval(task, split, collection)
        return Planned(name, task, split, True, revision, len(collection.queries))
    assert single is not None
    if kind == "classification":
        assert train is not None
        rows = read_texts(single)
        training = read_texts(train)
        _note_dropped(name, rows.dropped + training.dropped, notes)
        _note_unseen(name, rows, training, notes)
        mteb_tasks.fill_classification(task, split, rows, training)
        return Planned(name, task, split, True, revision, len(rows.texts))
    pairs = read_pairs(single, card.labels if card else None)
    _note_dropped(name, pairs.dropped, notes)
    mteb_tasks.fill_pairs(task, kind, split, pairs)
    return Planned(name, task, split, True, revision, len(pairs.labels))


def _plan_local(folder: LocalFolder, wanted: list[str] | None, train: Path | None) -> Plan:
    """Every set of the folder with an evaluation split, or those of ``wanted``."""
    found = {
        f"{name}.{split}": (name, split)
        for name, split in folder.splits()
        if split not in TRAINING_SPLITS and not name.endswith("_unlabelled")
    }
    for name in wanted or ():
        if name not in found:
            known = ", ".join(found) or "none"
            raise SettingsError(f"there is no set {name!r} in {folder.path}{did_you_mean(name, found)}; sets: {known}")
    kinds = {name: _local_kind(folder, found[name]) for name in wanted or found}
    unfit = [name for name, kind in kinds.items() if kind is None]
    made = Plan()
    for name, kind in kinds.items():
        if kind is not None:
            _add_local(made, name, kind, found[name], folder, train)
    if wanted:
        made.missing |= dict.fromkeys(unfit, "its columns or labels fit no kind of task")
    elif unfit:
        made.notes.append(f"skipped, their columns or labels fit no kind of task: {_some(unfit)}")
    if not made.tasks and not made.missing:
        raise SettingsError(f"{folder.path} holds no evaluation set, {'; '.join(made.notes) or 'no file at all'}")
    return made


def _add_local(
    made: Plan, name: str, kind: Kind, source: tuple[str, str], folder: LocalFolder, train: Path | None
) -> None:
    collected = kind in ("retrieval", "reranking")
    if (folder.collection(*source) if collected else folder.single(*source)) is None:
        parts = ".corpus, .queries and .qrels files" if collected else "single file"
        made.missing[name] = f"{kind} needs its {parts}, and not all are there"
        return
    if kind == "classification":
        train = train or folder.single(source[0], "train")
        if train is None:
            made.missing[name] = f"no training rows: name a file with --train, or add {source[0]}.train.parquet"
            return
    made.tasks.append(_filled(name, kind, None, folder, source, train, made.notes))


def _local_kind(folder: LocalFolder, source: tuple[str, str]) -> Kind | None:
    declared = folder.declared_kind(source[0])
    single = folder.single(*source)
    if declared is not None:
        return declared
    if single is not None:
        return kind_of_file(single)
    parts = folder.collection(*source)
    return "reranking" if parts is not None and "candidates" in parts else "retrieval"


class _Hub:
    """Tasks whose data comes from the hub, which is asked for once."""

    def __init__(self) -> None:
        self.reachable: bool | None = None

    def add(self, made: Plan, name: str, card: TaskCard | None) -> str:
        """Add mteb's task with its own data; or say why it cannot be."""
        if card is not None and card.mteb is None:
            return "it is a task of local files only"
        from m3e.models.loading import hub_endpoint, hub_is_reachable

        if self.reachable is None:
            self.reachable = hub_is_reachable()
        if not self.reachable:
            return f"the hub {hub_endpoint()} cannot be reached"
        import mteb

        task = mteb.get_task(name)
        splits = list(task.metadata.eval_splits)
        split = "test" if "test" in splits else splits[0]
        task.filter_eval_splits([split])
        made.tasks.append(Planned(name, task, split, True))
        return ""


def _note_left_out(name: str, collection: Collection, notes: list[str]) -> None:
    for ids, what in (
        (collection.unjudged, "queries without a relevant document were left out"),
        (collection.empty, "empty documents were left out"),
    ):
        if ids:
            notes.append(f"{name}: {len(ids)} {what}: {_some(ids)}")


def _note_dropped(name: str, count: int, notes: list[str]) -> None:
    if count:
        notes.append(f"{name}: {count} rows without a text or a label were left out")


def _note_unseen(name: str, rows: Texts, train: Texts, notes: list[str]) -> None:
    unseen = sorted(set(rows.labels) - set(train.labels))
    if unseen:
        notes.append(f"{name}: {len(unseen)} labels have no training rows and cannot be predicted: {_some(unseen)}")


def _some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
