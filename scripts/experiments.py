"""Keeps what training runs showed, and writes the tables of docs/experiments.md from it.

    python scripts/experiments.py add NAME RUN [EVAL.json] --note "what was tried"
    python scripts/experiments.py tables

RUN is a folder of `m3e train`, EVAL.json what `m3e eval --json` wrote of its model.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from m3e.files import read_json, write_json
from m3e.machine import machine

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "benchmarks" / "results" / "experiments"
PAGE = ROOT / "docs" / "experiments.md"
BEGIN, END = "<!-- tables -->", "<!-- end of tables -->"


def add(name: str, run: Path, evaluation: Path | None, note: str) -> None:
    report, recipe = read_json(run / "report.json"), read_json(run / "recipe.json")
    recipe["data"].pop("folder", None)  # a path of one machine
    stages = {
        stage: {key: values[key] for key in ("steps", "rows", "tokens", "seconds", "looks", "sets", "facts")}
        for stage, values in report["stages"].items()
    }
    results = read_json(evaluation)["results"] if evaluation else []
    scores = {result["task"]: result["score"] for result in results}
    kept = {"name": name, "note": note, "machine": machine().as_dict(), "recipe": recipe, "stages": stages}
    write_json(KEPT / f"{name}.json", {**kept, "scores": scores})


def tables() -> str:
    runs = [read_json(path) for path in sorted(KEPT.glob("*.json"))]
    tasks = list(dict.fromkeys(task for run in runs for task in run["scores"]))
    lines = ["| run | what was tried | " + " | ".join(tasks) + " |", "|---|---|" + "---:|" * len(tasks)]
    start = untuned()
    lines.append("| e5-small | the start | " + " | ".join(f"{start[task]:.4f}" for task in tasks) + " |")
    for run in runs:
        if run["scores"]:
            cells = [f"{run['scores'][task]:.4f}" if task in run["scores"] else "–" for task in tasks]
            lines.append(f"| {run['name']} | {run['note']} | " + " | ".join(cells) + " |")
    for run in runs:
        for stage, values in run["stages"].items():
            lines += looks(f"{run['name']}, {stage}", values)
    return "\n".join(lines)


def untuned() -> dict[str, float]:
    """e5-small's scores by task, as `m3e report` wrote them."""
    found: dict[str, float] = {}
    for table in read_json(ROOT / "benchmarks" / "results" / "evaluation.json")["tables"]:
        row = next((row for row in table["rows"] if row["model"] == "e5-small" and not row["source"]), None)
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
    return [
        "",
        f"Along the way of {title} ({stage['rows']:,} rows, {stage['seconds']:,.0f} s):",
        "",
        "| step | " + " | ".join(names) + " |",
        "|---:|" + "---:|" * len(names),
        *(f"| {look['step']} | " + " | ".join(f"{look[name]:.4f}" for name in names) + " |" for look in seen),
    ]


def page() -> str:
    """The page with its tables written anew."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add")
    adding.add_argument("name")
    adding.add_argument("run", type=Path)
    adding.add_argument("evaluation", type=Path, nargs="?")
    adding.add_argument("--note", required=True)
    commands.add_parser("tables")
    options = parser.parse_args()
    if options.command == "add":
        add(options.name, options.run, options.evaluation, options.note)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
