"""What the first release must show: evaluation against published figures, fine-tuning of three kinds, quickstart.

    M3E_DATA=… python benchmarks/spine.py --json benchmarks/results/spine.json
    python benchmarks/spine.py --only finetune/m3e-tiny/stsb --json …

Each part is written to the file when it is done, with the machine that ran it; parts that are there already are kept,
so a stopped run goes on.
``--quick`` takes the small model and the short parts only.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from m3e.catalogue.local import data_folder
from m3e.errors import DataError
from m3e.evaluation import evaluate
from m3e.evaluation.measures import spearman, unit
from m3e.evaluation.published import published_score
from m3e.files import read_json, write_json
from m3e.inference import Encoder
from m3e.machine import machine
from m3e.models.bundled import ASSETS
from m3e.quickstart import run_quickstart
from m3e.training import FineTuner

JUDGED = ("e5-small", "m3e-small", "m3e-tiny", "m3e-static")
TUNED = ("m3e-small", "m3e-tiny")
TASKS = ("TNews", "STSB", "LCQMC", "PAWSX", "AFQMC", "STSBenchmark", "XQuADzh")
RECIPES = {
    "stsb": ("stsb_zh.train.parquet", "stsb_zh.test.parquet", {"epochs": 2}),
    "simclue_pair": ("simclue_pair.train.parquet", "lcqmc.dev.parquet", {"epochs": 1}),
    "simclue_triplet": ("simclue_triplet.train.parquet", "lcqmc.dev.parquet", {"epochs": 1}),
}


def without_paths(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "model_dir"}


def judge(name: str, data: Path) -> dict[str, Any]:
    results = evaluate(name, list(TASKS), data=data)
    rows: dict[str, Any] = {}
    for item in results.results:
        rows[item.task] = {"split": item.split, "metric": item.metric, "score": item.score, "ci95": item.ci95}
        figure = published_score("multilingual-e5-small", item.task) if name == "e5-small" else None
        if figure is not None and item.official_split:
            rows[item.task]["published"] = figure.score
    return rows


def similarity(encoder: Encoder, path: Path) -> float | None:
    import pyarrow.parquet as pq

    rows = pq.read_table(path).to_pydict()
    left, right = (unit(encoder.encode_query(rows[name])) for name in ("sentence1", "sentence2"))
    return spearman((left * right).sum(axis=1), [float(label) for label in rows["label"]])


def tune(name: str, recipe: str, data: Path) -> dict[str, Any]:
    train, test, settings = RECIPES[recipe]
    tuner = FineTuner(name, str(data / train))
    before = similarity(Encoder(tuner.model), data / test)
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        tuner.run(folder, overwrite=True, evaluations=2, **settings)
        seconds = time.monotonic() - started
    after = similarity(Encoder(tuner.model), data / test)
    assert tuner.report is not None
    return {
        "test": test,
        "before": before,
        "after": after,
        "seconds": round(seconds),
        "report": without_paths(tuner.report.as_dict()),
    }


def quickstart(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        result = run_quickstart(name, Path(folder) / "model").as_dict()
    return without_paths(result)


def parts(data: Path, quick: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    tuned = TUNED[1:] if quick else TUNED
    judged = JUDGED[2:] if quick else JUDGED
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for name in tuned:
        found[f"quickstart/{name}"] = lambda name=name: quickstart(name)
    for name in judged:
        found[f"eval/{name}"] = lambda name=name: judge(name, data)
    for name in tuned:
        for recipe in RECIPES:
            found[f"finetune/{name}/{recipe}"] = lambda name=name, recipe=recipe: tune(name, recipe, data)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", help="a part by name; may be repeated; runs again if it is there")
    options = parser.parse_args()
    data = data_folder()
    if data is None:
        raise DataError("set M3E_DATA to the folder of data sets")
    before: dict[str, Any] = read_json(options.json) if options.json.exists() else {}
    done: dict[str, Any] = before.get("parts", {})
    machines: dict[str, Any] = before.get("machines", {})
    for name, run in parts(data, options.quick).items():
        if (options.only and name not in options.only) or (name in done and not options.only):
            continue
        started = time.monotonic()
        done[name] = run()
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
        machines[name] = machine().as_dict()
        write_json(options.json, {"parts": done, "machines": machines})
    judged = {name.removeprefix("eval/"): part for name, part in done.items() if name.startswith("eval/")}
    scores = {name: {task: round(row["score"], 4) for task, row in part.items()} for name, part in judged.items()}
    write_json(ASSETS / "figures.json", scores)


if __name__ == "__main__":
    main()
