"""Rows of the miniature's characters, a prepared folder of them, and a teacher that counts common characters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m3e.data.pipeline import PipelineOptions
from m3e.data.prepare import run_pipeline
from m3e.data.sets import plan_of_path
from tests.conftest import CHARACTERS


def sentence(random: np.random.Generator, low: int = 5, high: int = 25) -> str:
    return "".join(random.choice(list(CHARACTERS), int(random.integers(low, high))))


def pairs(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Pairs of unlike texts; every third passage is shared by two questions, every fifth question has two answers."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, str]] = []
    for index in range(count):
        query, passage = f"{sentence(random)}q{index}", f"{sentence(random)}p{index}"
        if rows and index % 3 == 0:
            passage = rows[-1]["text_pos"]
        if rows and index % 5 == 0:
            query, passage = rows[-1]["text"], f"{sentence(random)}p{index}"
        rows.append({"text": query, "text_pos": passage})
    return rows


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prepared(folder: Path, **sets: Sequence[dict[str, Any]]) -> Path:
    """A prepared folder of these sets, every row kept."""
    plans = [plan_of_path(write_jsonl(folder.with_name(f"{name}.jsonl"), rows)) for name, rows in sets.items()]
    run_pipeline(plans, folder, PipelineOptions(normalise=False, filters=None, duplicates=False, near_duplicates=None))
    return folder


def common_characters(rows: Sequence[tuple[str, str]]) -> list[float]:
    """The share of the query's characters that the passage has."""
    return [len(set(query) & set(passage)) / len(set(query)) for query, passage in rows]
