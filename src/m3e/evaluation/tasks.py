"""Tasks and suites by name."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from m3e.errors import SettingsError
from m3e.evaluation.local_files import Kind, LocalFolder
from m3e.evaluation.task_cards import CARDS, SUITES, TaskCard

__all__ = [
    "CARDS",
    "LOCAL_SUITE",
    "MTEB_SUITES",
    "SUITES",
    "card_of",
    "check_names",
    "did_you_mean",
    "find_split",
    "has_files",
    "mteb_card",
    "suite_tasks",
]

LOCAL_SUITE = "local"
MTEB_SUITES = {"c-mteb": "MTEB(cmn, v1)"}
"""Suites that are benchmarks of mteb."""

_KIND_OF_TYPE: Mapping[str, Kind] = {
    "Classification": "classification",
    "STS": "sts",
    "PairClassification": "pair_classification",
    "Retrieval": "retrieval",
    "Reranking": "reranking",
}


_BY_KEY = {card.key: card for card in CARDS}


def card_of(name: str) -> TaskCard | None:
    """The card of a task by its key, or ``None``."""
    return _BY_KEY.get(name)


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
    if suite in SUITES:
        return SUITES[suite]
    if suite in MTEB_SUITES:
        import mteb

        return tuple(task.metadata.name for task in mteb.get_benchmark(MTEB_SUITES[suite]).tasks)
    known = (LOCAL_SUITE, *SUITES, *MTEB_SUITES)
    raise SettingsError(f"there is no suite {suite!r}; suites are {', '.join(known)}{did_you_mean(suite, known)}")


def check_names(names: Sequence[str], local: Collection[str] = ()) -> None:
    """Refuse a name that neither we nor mteb know.

    Args:
        local: what suite ``local`` calls the files that are here.

    Raises:
        SettingsError: lists close matches.
    """
    unknown = [name for name in names if card_of(name) is None]
    if not unknown:
        return
    if found := [name for name in unknown if name in local]:
        raise SettingsError(f"{', '.join(found)}: tasks of suite {LOCAL_SUITE} only; add --suite {LOCAL_SUITE}")
    import mteb

    for name in unknown:
        try:
            mteb.get_task(name)
        except KeyError:
            ours = [card.key for card in CARDS]
            known = [*ours, *local, *(task.metadata.name for task in mteb.get_tasks())]
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
