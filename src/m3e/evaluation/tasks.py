"""What a task is here: which mteb task or recipe, and which files or hub set it reads."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from m3e.errors import SettingsError
from m3e.evaluation.local_files import Kind, LocalFolder

LOCAL_SUITE = "local"
MTEB_SUITES = {"c-mteb": "MTEB(cmn, v1)"}
"""Suites that are benchmarks of mteb."""

UNIEM = "uniem"
"""The recipe of uniem's MTEB-zh, where it differs from mteb's task of the same name."""

T2RANKING = "t2ranking"
"""The folder of T2Ranking's own files inside a data folder."""

_KIND_OF_TYPE: Mapping[str, Kind] = {
    "Classification": "classification",
    "STS": "sts",
    "PairClassification": "pair_classification",
    "Retrieval": "retrieval",
    "Reranking": "reranking",
}


@dataclass(frozen=True)
class TaskCard:
    """A task and its local files, ``<files>.<split>.parquet``.

    Attributes:
        splits: of the files to score, in order of preference; the first is the official one.
        train: splits of the files to draw training rows from; the first is the official one.
        language: of the texts; ``cross`` where queries and documents have different ones.
        mteb: mteb's name of the task; ``None`` for a task of ours.
        complete: whether the local rows are all of the official ones.
        labels: the number of each label that is a word.
        experiments: draws of few-shot training rows; mteb's own number by default.
        recipe: the protocol, where mteb has a task of the same name with another.
        hub: the catalogue's set that says where a hub has the data.
        is_code: whether the documents are source code or commands.
        reverse: whether the second text of a pair file is the query.
        corpus: the set whose documents are searched, where it is another's.
        passages: of T2Ranking's, up to which number; ``None`` for all.
        on_request: whether the task runs only where it or its suite is named.
    """

    name: str
    kind: Kind
    files: str
    splits: tuple[str, ...]
    language: Literal["zh", "en", "cross"] = "zh"
    train: tuple[str, ...] = ()
    mteb: str | None = None
    complete: bool = True
    labels: Mapping[str, float | None] | None = None
    experiments: int | None = None
    recipe: str = ""
    hub: str | None = None
    is_code: bool = False
    reverse: bool = False
    corpus: str = ""
    passages: int | None = None
    on_request: bool = False

    @property
    def key(self) -> str:
        """By which the task is asked for: its name, with ``@recipe`` where the name alone means mteb's task."""
        return f"{self.name}@{self.recipe}" if self.recipe else self.name

    @property
    def stem(self) -> str:
        """What the file of the official split is called, less its ending."""
        return f"{self.files}/" if self.files == T2RANKING else f"{self.files}.{self.splits[0]}"

    @property
    def gathers(self) -> bool:
        """Whether it ranks documents for queries."""
        return self.kind in ("retrieval", "reranking")


def card_of(name: str) -> TaskCard | None:
    """The card of a task by its key, or ``None``."""
    from m3e.evaluation.task_cards import CARDS

    return next((card for card in CARDS if card.key == name), None)


def mteb_card(name: str) -> TaskCard | None:
    """A card for a task of mteb that has none: its files are called by mteb's name, ``<name>.<split>``.

    ``None`` where our layout has no files for it: several languages in one task, clustering, other types.
    """
    import mteb

    task: Any = mteb.get_task(name)
    kind = _KIND_OF_TYPE.get(task.metadata.type)
    if kind is None or task.metadata.is_multilingual:
        return None
    splits = list(task.metadata.eval_splits)
    split = "test" if "test" in splits else splits[0]
    train = ("train",) if kind == "classification" else ()
    return TaskCard(name, kind, name, ("dev" if split == "validation" else split,), train=train, mteb=name)


def suite_tasks(suite: str) -> tuple[str, ...]:
    """The keys of a suite's tasks, for a suite other than ``local``.

    Raises:
        SettingsError: no suite has that name.
    """
    from m3e.evaluation.task_cards import SUITES

    if suite in SUITES:
        return SUITES[suite]
    if suite in MTEB_SUITES:
        import mteb

        return tuple(task.metadata.name for task in mteb.get_benchmark(MTEB_SUITES[suite]).tasks)
    known = (LOCAL_SUITE, *SUITES, *MTEB_SUITES)
    raise SettingsError(f"there is no suite {suite!r}; suites are {', '.join(known)}{did_you_mean(suite, known)}")


def check_names(names: Sequence[str], extra: Iterable[str] = ()) -> None:
    """Refuse a name that neither we nor mteb know.

    Raises:
        SettingsError: lists close matches.
    """
    from m3e.evaluation.task_cards import CARDS

    unknown = [name for name in names if card_of(name) is None]
    if not unknown:
        return
    import mteb

    for name in unknown:
        try:
            mteb.get_task(name)
        except KeyError:
            ours = [card.key for card in CARDS]
            known = [*ours, *extra, *(task.metadata.name for task in mteb.get_tasks())]
            raise SettingsError(
                f"there is no task {name!r}{did_you_mean(name, known)}; tasks with local files: {', '.join(ours)}"
            ) from None


def find_split(card: TaskCard, folder: LocalFolder) -> str | None:
    """The split to score: the first of the card's that the folder has."""
    return next((split for split in card.splits if has_files(card, folder, split)), None)


def has_files(card: TaskCard, folder: LocalFolder, split: str) -> bool:
    """Whether the folder has what the card needs of a split, training rows aside."""
    if not card.gathers:
        return folder.single(card.files, split) is not None
    return folder.collection(card.files, split, card.corpus) is not None or (
        card.kind == "retrieval" and not card.corpus and folder.single(card.files, split) is not None
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` with the closest of ``known``, or nothing."""
    by_fold = {item.casefold(): item for item in known}
    close = [by_fold[item] for item in difflib.get_close_matches(name.casefold(), by_fold, n=3, cutoff=0.6)]
    return f"; did you mean {' or '.join(close)}?" if close else ""
