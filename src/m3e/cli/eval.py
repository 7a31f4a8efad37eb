"""``m3e eval``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
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
    dtype: str = typer.Option("fp32", "--dtype", help="fp32 for mteb's own scores; auto or bf16 to be sooner."),
    prompts: str = typer.Option(
        "on", "--prompts", help="on, off, or both: with the model's prompts, without, or both and what they bring."
    ),
    vectors: Path | None = typer.Option(None, "--vectors", help="Keep vectors of corpora here, for later runs."),
    resume: bool = typer.Option(False, "--resume", help="Take results that --out holds already, of the same model."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only list what would run, and what is missing."),
    price: float | None = typer.Option(None, "--price", help="Of 1M tokens of an endpoint, for the estimate."),
    query_prompt: str = typer.Option("", "--query-prompt", help="Put before queries, for an endpoint."),
    document_prompt: str = typer.Option("", "--document-prompt", help="Put before documents, for an endpoint."),
    json: Path | None = typer.Option(None, "--json", help="Write the results to this file."),
) -> None:
    """Judge a model on mteb's tasks, from local files."""
    from m3e.evaluation import evaluate
    from m3e.evaluation.listing import list_tasks, plan_table
    from m3e.evaluation.prompt_ablation import prompt_differences, prompts_table
    from m3e.evaluation.report import results_table
    from m3e.inference import ApiOptions

    data = data or data_folder()
    if dry_run:
        planned = list_tasks(list(task) or None, suite=suite, data=data, train=train)
        for line in planned.notes:
            say(line)
        show(plan_table(planned))
        _name_missing(planned.missing)
        return
    asked = price is not None or query_prompt or document_prompt
    results = evaluate(
        model,
        list(task) or None,
        suite=suite,
        data=data,
        out=out,
        train=train,
        device=device,
        prompts=prompts,
        vectors=vectors,
        dtype=dtype,  # type: ignore[arg-type]  # checked by Encoder
        progress=sys.stdout.isatty(),
        api=ApiOptions(query_prompt, document_prompt, price=price) if asked else None,
        on_line=say,
        resume=resume,
    )
    for line in results.notes:
        say(line)
    compared = prompt_differences(results)
    show(results_table(replace(results, results=[score for score in results.results if score.prompts or not compared])))
    if compared:
        show(prompts_table(results))
    write_result(json, results.as_dict())
    _name_missing(results.missing)


def _name_missing(missing: Mapping[str, str]) -> None:
    """One line for each reason, with the names that it holds for."""
    names: dict[str, list[str]] = {}
    for name, reason in missing.items():
        names.setdefault(reason, []).append(name)
    for reason, found in names.items():
        complain(f"{', '.join(found)} {'is' if len(found) == 1 else 'are'} missing: {reason}")
    if missing:
        raise typer.Exit(3)
