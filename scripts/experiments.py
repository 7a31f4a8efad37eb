"""Keeps what training runs showed, and writes the tables of docs/experiments.md from it.

    python scripts/experiments.py add NAME --of m3e-tiny --note "what was tried" --run RUN --scores EVAL.json
    python scripts/experiments.py tables

RUN is a folder of `m3e train`, finished or not; EVAL.json is what `m3e eval --json` wrote of its model; one of the two
is enough.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from m3e.files import read_json, write_json
from m3e.machine import machine

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "benchmarks" / "results" / "experiments"
PAGE = ROOT / "docs" / "experiments.md"
TABLES = re.compile(r"<!-- tables of (\S+) -->\n.*?\n<!-- end of tables -->", re.DOTALL)
STARTS = {"m3e-small": "e5-small"}
"""The models that runs start from, whose scores stand first."""


def add(name: str, model: str, note: str, run: Path | None, scores: Path | None) -> None:
    kept: dict[str, Any] = {"name": name, "of": model, "note": note, "machine": machine().as_dict()}
    if run is not None:
        kept["recipe"] = read_json(run / "recipe.json")
        kept["recipe"]["data"].pop("folder", None)  # a path of one machine
    kept["stages"] = stages_of(run) if run is not None else {}
    results = read_json(scores)["results"] if scores is not None else []
    kept["scores"] = {result["task"]: result["score"] for result in results}
    write_json(KEPT / f"{name}.json", kept)


def stages_of(run: Path) -> dict[str, dict[str, Any]]:
    """What the run's stages did; of a run that was stopped, what was seen on the way of the one that it stood in."""
    if (run / "report.json").is_file():
        return {
            stage: {key: values[key] for key in ("steps", "rows", "tokens", "seconds", "looks", "sets", "facts")}
            for stage, values in read_json(run / "report.json")["stages"].items()
        }
    looks = sorted(run.glob("*/looks.json"), key=lambda path: int(path.parent.name.partition("-")[0]))
    return {looks[-1].parent.name.partition("-")[2]: {"looks": read_json(looks[-1])}} if looks else {}


def tables(model: str) -> str:
    """The scores of all runs of a model, and what was seen along their way."""
    runs = [run for run in (read_json(path) for path in sorted(KEPT.glob("*.json"))) if run["of"] == model]
    tasks = list(dict.fromkeys(task for run in runs for task in run["scores"]))
    lines = ["| run | what was tried | " + " | ".join(tasks) + " |", "|---|---|" + "---:|" * len(tasks)]
    rows = [(run["name"], run["note"], run["scores"]) for run in runs if run["scores"]]
    if model in STARTS:
        rows.insert(0, (STARTS[model], "the start", scores_of(STARTS[model])))
    for name, note, scores in rows:
        cells = [f"{scores[task]:.4f}" if task in scores else "–" for task in tasks]
        lines.append(f"| {name} | {note} | " + " | ".join(cells) + " |")
    for run in runs:
        for stage, values in run["stages"].items():
            lines += looks(f"{run['name']}, {stage}", values)
    return "\n".join(lines)


def scores_of(model: str) -> dict[str, float]:
    """A model's scores by task, as `m3e report` wrote them."""
    found: dict[str, float] = {}
    for table in read_json(ROOT / "benchmarks" / "results" / "evaluation.json")["tables"]:
        row = next((row for row in table["rows"] if row["model"] == model and not row["source"]), None)
        if row is not None:
            columns = [(column["task"], column) for column in table["columns"]]
            for (task, column), value in zip(columns, row["values"], strict=True):
                if column["main"] and not column["recipe"] and value is not None:
                    found.setdefault(task, value)
    return found


def looks(title: str, stage: dict[str, Any]) -> list[str]:
    seen = stage["looks"]
    if not seen:
        return []
    names = [name for name in seen[0] if name not in ("step", "seconds")]
    extent = f"{stage['rows']:,} rows, {stage['seconds']:,.0f} s" if "rows" in stage else "stopped"
    return [
        "",
        f"Along the way of {title} ({extent}):",
        "",
        "| step | " + " | ".join(names) + " |",
        "|---:|" + "---:|" * len(names),
        *(f"| {look['step']} | " + " | ".join(f"{look[name]:.4f}" for name in names) + " |" for look in seen),
    ]


def page() -> str:
    """The page with its tables written anew."""
    text = PAGE.read_text(encoding="utf-8")
    return TABLES.sub(
        lambda found: f"<!-- tables of {found[1]} -->\n\n{tables(found[1])}\n\n<!-- end of tables -->", text
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add")
    adding.add_argument("name")
    adding.add_argument("--of", required=True, help="the shipped model that the run is of")
    adding.add_argument("--note", required=True)
    adding.add_argument("--run", type=Path)
    adding.add_argument("--scores", type=Path)
    commands.add_parser("tables")
    options = parser.parse_args()
    if options.command == "add":
        add(options.name, options.of, options.note, options.run, options.scores)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
