"""``m3e eval``."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from m3e.catalogue.local import data_folder
from m3e.cli import app
from m3e.cli.terminal import complain, say, show, write_result


@app.command("eval")
def evaluate_model(
    model: str = typer.Argument(help="A name (m3e models), folder, hub id, api:BASE_URL#model, bm25, or tfidf."),
    suite: str | None = typer.Option(None, "--suite", help="A set of tasks: local judges any file in our layout."),
    task: list[str] = typer.Option([], "--task", help="A task by mteb's name, e.g. TNews; may be repeated."),
    data: Path | None = typer.Option(None, "--data", help="Folder of local files; default: M3E_DATA."),
    train: Path | None = typer.Option(None, "--train", help="Training rows of a local classification task."),
    out: Path = typer.Option(Path("results"), "--out", help="Folder of results, mteb's JSON by model and revision."),
    device: str | None = typer.Option(None, "--device", help="cpu, cuda, …"),
    price: float | None = typer.Option(None, "--price", help="Of 1M tokens of an endpoint, for the estimate."),
    query_prompt: str = typer.Option("", "--query-prompt", help="Put before queries, for an endpoint."),
    document_prompt: str = typer.Option("", "--document-prompt", help="Put before documents, for an endpoint."),
    json: Path | None = typer.Option(None, "--json", help="Write the results to this file."),
) -> None:
    """Judge a model on mteb's tasks, from local files."""
    from m3e.evaluation import evaluate
    from m3e.evaluation.report import results_table
    from m3e.inference import ApiOptions

    asked = price is not None or query_prompt or document_prompt
    results = evaluate(
        model,
        list(task) or None,
        suite=suite,
        data=data or data_folder(),
        out=out,
        train=train,
        device=device,
        progress=sys.stdout.isatty(),
        api=ApiOptions(query_prompt, document_prompt, price=price) if asked else None,
        on_line=say,
    )
    for line in results.notes:
        say(line)
    show(results_table(results))
    for name, reason in results.missing.items():
        complain(f"{name} is missing: {reason}")
    write_result(json, results.as_dict())
    if results.missing:
        raise typer.Exit(3)
