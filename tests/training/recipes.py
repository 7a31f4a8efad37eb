"""Miniature recipes over miniature data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from m3e.records import Kind, Pair, Record
from m3e.training.recipe import Recipe
from m3e.training.recipe_file import parse_recipe
from m3e.training.run import run_recipe
from m3e.training.run_report import RunOptions, RunReport
from tests.conftest import pair_rows
from tests.training.prepared import records, write_prepared

HEAD = """
title = "mini"
precision = "fp32"
[base]
model = "{base}"
pooling = "mean"
licence = "mit"
[data]
folder = "{data}"
"""
"""How a recipe's file begins whose stages follow, to be formatted with a base and a data folder."""


def write_data(folder: Path, commercial: str = "yes") -> Path:
    """A prepared folder of every kind of record."""
    faq: list[Record] = [Pair(**row) for row in pair_rows(64)]
    sets = {
        "faq": faq,
        "triplets": records(Kind.TRIPLET, 40, seed=1),
        "scored": records(Kind.SCORED_PAIR, 40, seed=2),
        "ranked": records(Kind.RANKED, 40, seed=3),
    }
    return write_prepared(folder, sets, commercial=commercial)


def stage(kind: str, **settings: Any) -> dict[str, Any]:
    """A small stage of a kind: batches of 8, four steps, no looks."""
    trained = kind not in ("merge", "static", "encoder", "tokenizer", "cut")
    small: dict[str, Any] = {
        "batch": {"size": 8},
        "schedule": {"steps": 4, "lr": 1e-3},
        "watch": {"every": 0, "log_with": []},
    }
    return {"stage": kind, **(small if trained else {}), **settings}


def recipe(start: Path | str, data: Path, /, *stages: dict[str, Any], **tables: Any) -> Recipe:
    """A recipe of these stages."""
    values: dict[str, Any] = {
        "title": "mini",
        "precision": "fp32",
        "base": {"model": str(start), "licence": "mit"},
        "data": {"folder": str(data)},
        "stages": list(stages),
    }
    return parse_recipe({**values, **tables}, "mini.toml")


def run(made: Recipe, out: Path, lines: list[str] | None = None, **options: Any) -> RunReport:
    """Run it on the CPU."""
    said = lines if lines is not None else []
    return run_recipe(made, RunOptions(out, device="cpu", **options), say=said.append)
