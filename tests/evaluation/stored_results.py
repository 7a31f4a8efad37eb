"""Results as ``m3e eval`` writes them: of two miniature models, and written by hand with chosen scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.conftest import write_mini
from tests.evaluation.evaluation_sets import (
    LIKENESS,
    QUERIES,
    TEST,
    TRAIN,
    write_collection,
    write_pairs,
    write_texts,
)

MARKED = "<b>今天</b> & 天气"
"""A query that is markup, to be seen as typed."""


def write_sets(folder: Path) -> Path:
    """Four sets, a kind each."""
    write_pairs(folder / "like.test.parquet")
    write_pairs(folder / "same.test.parquet", [int(label >= 3) for label in LIKENESS])
    (folder / "same.json").write_text('{"type": "pair_classification"}')
    write_texts(folder / "mood.train.parquet", TRAIN)
    write_texts(folder / "mood.test.parquet", TEST)
    write_collection(folder, "find.test", queries=QUERIES | {"q3": MARKED})
    return folder


def evaluate_two(folder: Path) -> Path:
    """Results of the miniature models ``mini-a`` and ``mini-b`` on the four sets; the folder of results."""
    import m3e

    sets = write_sets(folder / "sets")
    for seed, name in enumerate(("mini-a", "mini-b")):
        model = write_mini(folder / name, seed=seed)
        m3e.evaluate(model, suite="local", data=sets, out=folder / "results", device="cpu")
    return folder / "results"


def write_score(
    folder: Path,
    task: str,
    score: float,
    *,
    model: str = "ours",
    revision: str = "r1",
    items: dict[str, list[Any]] | None = None,
    **facts: Any,
) -> Path:
    """One task's result by hand; ``facts`` replace fields of the key ``m3e``."""
    about: dict[str, Any] = {
        "model": model,
        "revision": revision,
        "task": task,
        "split": "test",
        "metric": "cosine_spearman",
        "score": score,
        "ci95": [score - 0.02, score + 0.02],
        "n": 100,
        "official_split": True,
        "type": "STS",
        "category": "s2s",
        "data_revision": "d1",
        "contamination": None,
        "texts_per_second": 200.0,
        **facts,
    }
    record = {"task_name": task, "scores": {about["split"]: [{about["metric"]: score, "main_score": score}]}}
    place = folder / model / revision / f"{task}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(record | {"m3e": about}, ensure_ascii=False), encoding="utf-8")
    if items is not None:
        pq.write_table(pa.table(items), place.with_suffix(".parquet"))
    return place


def query_items(scores: dict[str, float]) -> dict[str, list[Any]]:
    """Items of a retrieval task by nDCG@10."""
    return {"query_id": list(scores), "ndcg_at_10": list(scores.values())}
