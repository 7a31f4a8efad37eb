"""The tasks that have local files: which mteb task each is, and which files it reads.

Adding a task is adding a row. A task without an mteb name is our own; any other name that mteb
knows can be evaluated too, from the hub.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from m3e.errors import SettingsError
from m3e.evaluation.local_files import Kind, LocalFolder

NLI_LABELS: Mapping[str, float | None] = {"entailment": 1.0, "contradiction": 0.0, "neutral": None}
"""C-MTEB's reading of NLI as pair classification: neutral pairs are left out."""

LOCAL_SUITE = "local"
MTEB_SUITES = {"c-mteb": "MTEB(cmn, v1)"}
"""Suites that are benchmarks of mteb."""


@dataclass(frozen=True)
class TaskCard:
    """A task and its local files, ``<files>.<split>.parquet``.

    Attributes:
        splits: of the files to score, in order of preference; the first is mteb's official one.
        train: splits of the files to draw training rows from; the first is the official one.
        mteb: mteb's name of the task; ``None`` for a task of ours.
        complete: whether the local rows are all of the official ones.
        labels: the number of each label that is a word.
    """

    name: str
    kind: Kind
    files: str
    splits: tuple[str, ...]
    language: Literal["zh", "en"] = "zh"
    train: tuple[str, ...] = ()
    mteb: str | None = None
    complete: bool = True
    labels: Mapping[str, float | None] | None = None


def _mteb(name: str, kind: Kind, files: str, *splits: str, **options: object) -> TaskCard:
    return TaskCard(name, kind, files, splits, mteb=name, **options)  # type: ignore[arg-type]


CARDS: tuple[TaskCard, ...] = (
    _mteb("TNews", "classification", "tnews", "dev", train=("train",)),
    _mteb("IFlyTek", "classification", "iflytek", "dev", train=("train", "train_partial")),
    _mteb("MultilingualSentiment", "classification", "multilingual_sentiment_zh", "test", train=("train", "dev")),
    _mteb("OnlineShopping", "classification", "online_shopping", "test", train=("train",)),
    _mteb("ATEC", "sts", "atec", "test", "dev"),
    _mteb("BQ", "sts", "bq", "test", "dev"),
    _mteb("LCQMC", "sts", "lcqmc", "test", "dev"),
    _mteb("PAWSX", "sts", "pawsx_zh", "test", "dev"),
    _mteb("STSB", "sts", "stsb_zh", "test", "dev"),
    _mteb("AFQMC", "sts", "afqmc", "dev"),
    _mteb("QBQTC", "sts", "qbqtc", "test", "dev"),
    _mteb("Ocnli", "pair_classification", "ocnli", "dev", labels=NLI_LABELS),
    _mteb("Cmnli", "pair_classification", "cmnli", "dev", labels=NLI_LABELS),
    TaskCard("Cmrc2018", "retrieval", "cmrc2018_retrieval", ("test", "dev", "trial")),
    TaskCard("XQuADzh", "retrieval", "xquad_zh_retrieval", ("test",)),
    TaskCard("ChineseSquad", "retrieval", "chinese_squad_retrieval", ("test", "dev")),
    TaskCard("XQuADen", "retrieval", "xquad_en_retrieval", ("test",), language="en"),
    _mteb("CosQA", "retrieval", "cosqa_retrieval", "test", "dev", language="en", complete=False),
    _mteb("STSBenchmark", "sts", "stsb_en", "test", "dev", language="en"),
    _mteb("STS12", "sts", "sts12_en", "test", language="en", complete=False),
    _mteb("STS13", "sts", "sts13_en", "test", language="en"),
    _mteb("STS14", "sts", "sts14_en", "test", language="en"),
    _mteb("STS15", "sts", "sts15_en", "test", language="en"),
    _mteb("STS16", "sts", "sts16_en", "test", language="en"),
    _mteb("SICK-R", "sts", "sick_en", "test", "dev", language="en", complete=False),
)
_BY_NAME = {card.name: card for card in CARDS}

SUITES: Mapping[str, tuple[str, ...]] = {
    "zh": tuple(card.name for card in CARDS if card.language == "zh"),
    "en": tuple(card.name for card in CARDS if card.language == "en"),
    "retrieval": tuple(card.name for card in CARDS if card.kind == "retrieval"),
}


def card_of(name: str) -> TaskCard | None:
    """The card of a task, or ``None``."""
    return _BY_NAME.get(name)


def suite_tasks(suite: str) -> tuple[str, ...]:
    """The task names of a suite other than ``local``.

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


def found_tasks(folder: LocalFolder) -> list[str]:
    """The tasks with files in the folder."""
    return [card.name for card in CARDS if find_split(card, folder) is not None]


def find_split(card: TaskCard, folder: LocalFolder) -> str | None:
    """The split to score: the first of the card's that the folder has."""
    if card.kind in ("retrieval", "reranking"):
        return next((split for split in card.splits if folder.collection(card.files, split)), None)
    return next((split for split in card.splits if folder.single(card.files, split)), None)


def check_names(names: Sequence[str], extra: Iterable[str] = ()) -> None:
    """Refuse a name that neither we nor mteb know.

    Raises:
        SettingsError: lists close matches.
    """
    unknown = [name for name in names if name not in _BY_NAME]
    if not unknown:
        return
    import mteb

    for name in unknown:
        try:
            mteb.get_task(name)
        except KeyError:
            known = [*_BY_NAME, *extra, *(task.metadata.name for task in mteb.get_tasks())]
            raise SettingsError(
                f"there is no task {name!r}{did_you_mean(name, known)}; tasks with local files: {', '.join(_BY_NAME)}"
            ) from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` with the closest of ``known``, or nothing."""
    by_fold = {item.casefold(): item for item in known}
    close = [by_fold[item] for item in difflib.get_close_matches(name.casefold(), by_fold, n=3, cutoff=0.6)]
    return f"; did you mean {' or '.join(close)}?" if close else ""
