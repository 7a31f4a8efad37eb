"""The sample data written for this project: a fictional help centre and a small general check."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal


def _rows(name: str) -> list[dict[str, Any]]:
    text = resources.files("m3e.assets").joinpath(f"samples/{name}").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@dataclass(frozen=True)
class HelpCentre:
    """Answers by id, and questions as (question, answer id) of the train and test splits.

    The splits have no answer in common.
    """

    answers: dict[str, str]
    train: list[tuple[str, str]]
    test: list[tuple[str, str]]


@dataclass(frozen=True)
class GeneralData:
    """Scored pairs (labels 0 to 5), and queries that one passage each answers."""

    pairs: list[tuple[str, str, float]]
    passages: dict[str, str]
    queries: list[tuple[str, str]]


def help_centre() -> HelpCentre:
    """The help centre of a fictional shop; an answer's text is its title and its body."""
    rows = _rows("help_centre_answers.jsonl")
    answers = {row["id"]: f"{row['title']}：{row['answer']}" for row in rows}

    def questions(split: Literal["train", "test"]) -> list[tuple[str, str]]:
        rows = _rows("help_centre_questions.jsonl")
        return [(row["question"], row["answer_id"]) for row in rows if row["split"] == split]

    return HelpCentre(answers, questions("train"), questions("test"))


def general_data() -> GeneralData:
    """Broad Chinese text that tells whether a model forgot general ability."""
    return GeneralData(
        pairs=[(row["sentence1"], row["sentence2"], float(row["label"])) for row in _rows("general_sts.jsonl")],
        passages={row["id"]: row["text"] for row in _rows("general_corpus.jsonl")},
        queries=[(row["text"], row["doc_id"]) for row in _rows("general_queries.jsonl")],
    )
