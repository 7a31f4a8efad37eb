"""Published scores of other models, to print beside ours where the protocol is the same."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

SOURCES = {
    "C-MTEB": "https://github.com/FlagOpen/FlagEmbedding/blob/7ac70bcd37027cb60a11077fe26a45a4a36a693f/"
    "research/C_MTEB/README.md",
    "M3E card": "https://huggingface.co/moka-ai/m3e-base and "
    "https://github.com/wangyuxinwhy/uniem/blob/main/mteb-zh/readme.md "
    "(2023; training rows of TNews were drawn 5 times and of IFlyTek 3 times there)",
}
"""Where the figures of each ``source`` stand."""

_FILES = {"c_mteb.csv": 100, "m3e_card.csv": 1}  # what a perfect score is in each

CARD_SOURCE = "M3E card"
"""The source whose figures were made by uniem's recipe."""

CARD_CLASSIFICATION = ("TNews", "JDIphone", "GubaEastmoney", "TYQSentiment", "StockComSentiment", "IFlyTek")
"""The tasks of the M3E card's classification average. The card writes GubaEastmony."""

CARD_RETRIEVAL = "T2RRetrieval-1W"
"""The task of the M3E card's retrieval figure, nDCG@10 on T2Ranking's first 10,001 passages."""

_PUBLISHED_AS = {"e5-small": "multilingual-e5-small", "intfloat/multilingual-e5-small": "multilingual-e5-small"}


@dataclass(frozen=True)
class Published:
    """One published score, 0..1."""

    model: str
    task: str
    metric: str
    score: float
    source: str


@cache
def published_scores() -> tuple[Published, ...]:
    """Every published score that the package carries."""
    return tuple(
        Published(row["model"], row["task"], row["metric"], float(row["score"]) / perfect, row["source"])
        for file, perfect in _FILES.items()
        for row in _rows(file)
    )


def published_score(model: str, task: str, recipe: str = "") -> Published | None:
    """The published score of ``model`` (a local model's name or the published one) on ``task``.

    Where several sources have one, C-MTEB's; by uniem's recipe the M3E card's only.
    """
    name = _PUBLISHED_AS.get(model, model)
    items = [item for item in published_scores() if (item.model, item.task) == (name, task)]
    return next((item for item in items if not recipe or item.source == CARD_SOURCE), None)


@dataclass(frozen=True)
class CardModel:
    """A row of the M3E card's comparison of models.

    Attributes:
        parameters: as published, ``unknown`` where it was not.
        s2s: whether its makers mean it for like texts; ``s2p`` for passages of a query, ``s2c`` for code.
        classification: mean accuracy over :data:`CARD_CLASSIFICATION`.
        retrieval: nDCG@10 on :data:`CARD_RETRIEVAL`.
    """

    model: str
    parameters: str
    dim: int
    chinese: str
    english: str
    s2s: str
    s2p: str
    s2c: str
    licence: str
    classification: float
    retrieval: float


@cache
def card_models() -> tuple[CardModel, ...]:
    """The M3E card's comparison of models."""
    return tuple(
        CardModel(
            **row
            | {
                "dim": int(row["dim"]),
                "classification": float(row["classification"]),
                "retrieval": float(row["retrieval"]),
            }
        )
        for row in _rows("m3e_card_models.csv")
    )


def _rows(file: str) -> list[dict[str, Any]]:
    text = resources.files("m3e.assets").joinpath("published", file).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
