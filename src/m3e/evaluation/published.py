"""Published scores of other models, to print beside ours where the protocol is the same."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

SOURCES = {
    "C-MTEB": "https://github.com/FlagOpen/FlagEmbedding/blob/7ac70bcd37027cb60a11077fe26a45a4a36a693f/"
    "research/C_MTEB/README.md",
}
"""Where the figures of each ``source`` stand."""

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
    text = resources.files("m3e.assets").joinpath("published/c_mteb.csv").read_text(encoding="utf-8")
    return tuple(
        Published(row["model"], row["task"], row["metric"], float(row["score"]) / 100, row["source"])
        for row in csv.DictReader(text.splitlines())
    )


def published_score(model: str, task: str) -> Published | None:
    """The published score of ``model`` (a local model's name or the published one) on ``task``."""
    name = _PUBLISHED_AS.get(model, model)
    return next((item for item in published_scores() if (item.model, item.task) == (name, task)), None)
