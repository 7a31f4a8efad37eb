"""``m3e train``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from m3e.cli import app
from m3e.cli.terminal import complain, progress, say, show, write_result


@app.command()
def train(
    recipe: str = typer.Argument(help="A shipped recipe (m3e-small, m3e-tiny, …), or a TOML file."),
    out: Path | None = typer.Option(None, "--out", help="Folder of the run; default: runs/TITLE."),
    settings: list[str] = typer.Option([], "--set", help="KEY=VALUE, e.g. stages.contrastive.schedule.lr=1e-5."),
    resume: bool = typer.Option(False, "--resume", help="Go on inside a stage from its newest checkpoint."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show rows, steps, tokens, memory and time; do nothing."),
    data: Path | None = typer.Option(None, "--data", help="A folder of m3e data prepare, instead of the recipe's."),
    raw: Path | None = typer.Option(None, "--raw", help="Folder to which the catalogue's paths are relative."),
    device: str | None = typer.Option(None, "--device", help="cpu, cuda, …"),
    checkpoint_steps: int | None = typer.Option(None, "--checkpoint-steps", help="Default: every five minutes."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Write beside files that are not ours."),
    json: Path | None = typer.Option(None, "--json", help="Write the plan or the report to this file."),
) -> None:
    """Train a model by a recipe: data, stages, evaluation, model card; what is done is not done again."""
    from m3e.training.recipe_file import read_recipe

    with _all_processes(device):
        chosen = read_recipe(recipe, [*settings, *_instead_of_its_data(data)])
        if dry_run:
            _show_plan(chosen, device, json)
            return
        from m3e.training.run_report import RunOptions

        options = RunOptions(out or Path("runs") / chosen.title, resume, overwrite, device, checkpoint_steps, raw)
        missing = _run(chosen, options, json)
    if missing:
        raise typer.Exit(3)


def _all_processes(device: str | None) -> AbstractContextManager[None]:
    """The processes that torchrun started as one group; torch waits where there is but this one."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return nullcontext()
    from m3e.training.gather import joined_processes

    return joined_processes(device)


def _run(recipe: Any, options: Any, json: Path | None) -> dict[str, str]:
    """Run the recipe and print what came of it, in the first process; what is missing, in all."""
    from m3e.training.gather import is_first_process
    from m3e.training.run import run_recipe

    with progress(recipe.title, shown=is_first_process()) as draw:
        report = run_recipe(
            recipe,
            options,
            say=say,
            on_set=draw,
            on_step=draw,
        )
    if is_first_process():
        say(f"model: {report.model}; licence {report.licence}, commercial use {report.commercial}")
        if report.adapter is not None:
            say(f"adapter: {report.adapter}")
        _show_results(report.results)
        write_result(json, report.as_dict())
        for name, reason in report.missing.items():
            complain(f"{name} is missing: {reason}")
    return report.missing


def _instead_of_its_data(folder: Path | None) -> list[str]:
    return [] if folder is None else [f"data={{folder = '{folder}'}}"]


def _show_plan(recipe: Any, device: str | None, json: Path | None) -> None:
    from dataclasses import asdict

    from m3e.training.dry_run import plan_recipe
    from m3e.training.gather import is_first_process

    if not is_first_process():
        return
    plans, lines = plan_recipe(recipe, device)
    for line in lines:
        say(line)
    table = Table(title=f"{recipe.title}: {len(plans)} stages, policy {recipe.policy}")
    for name in ("stage", "does", "rows", "steps", "tokens", "memory", "time"):
        table.add_column(name, justify="left" if name in ("stage", "does") else "right")
    for plan in plans:
        table.add_row(
            plan.name,
            plan.stage,
            _count(plan.rows),
            _count(plan.steps),
            _count(plan.tokens),
            "–" if plan.memory is None else f"{plan.memory / 2**30:.1f} GiB",
            "–" if plan.seconds is None else _duration(plan.seconds),
        )
    show(table)
    for plan in plans:
        if plan.note:
            say(f"{plan.name}: {plan.note}")
    say("estimates; nothing was done")
    write_result(json, {"title": recipe.title, "stages": [asdict(plan) for plan in plans], "notes": lines})


def _show_results(results: Sequence[dict[str, Any]]) -> None:
    scores = {
        str(result["model"]): {score["task"]: score["score"] for score in result["results"]} for result in results
    }
    tasks = list(dict.fromkeys(task for found in scores.values() for task in found))
    if not tasks:
        return
    table = Table(title="figures")
    table.add_column("task")
    for name in scores:
        table.add_column(name, justify="right")
    for task in tasks:
        table.add_row(task, *(f"{found[task]:.4f}" if task in found else "–" for found in scores.values()))
    show(table)


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
