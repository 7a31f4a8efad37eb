"""``m3e report``."""

from __future__ import annotations

from pathlib import Path

import typer

from m3e.cli import app
from m3e.cli.terminal import complain, console, say, show, write_result


@app.command("report")
def report_results(
    results: list[Path] = typer.Argument(help="Folders of m3e eval --out, or files of m3e eval --json."),
    paired: tuple[str, str] | None = typer.Option(
        None, "--paired", help="Two models by name (or name@revision): is the second better, or is it chance?"
    ),
    html: Path | None = typer.Option(None, "--html", help="Write one page that needs nothing else to this file."),
    texts: bool = typer.Option(
        True, "--texts/--no-texts", help="Show the data sets' texts in the page: the queries that went worst."
    ),
    json: Path | None = typer.Option(None, "--json", help="Write the tables and differences to this file."),
) -> None:
    """Compare models: a table beside published figures, paired tests, a page with plots."""
    from m3e.evaluation.comparison import compare_models
    from m3e.evaluation.html_report import write_page
    from m3e.evaluation.paired import compare
    from m3e.evaluation.prompt_ablation import compare_prompts
    from m3e.evaluation.read_results import read_results
    from m3e.evaluation.report import card_table, footnotes, kind_tables, paired_lines, report_json

    stored = read_results(results)
    compared = compare(stored, *paired) if paired else None
    prompts = compare_prompts(stored)
    comparison = compare_models(stored)
    for table in comparison.tables:
        for part in kind_tables(table, console().width):
            show(part)
    show(card_table(comparison.card))
    for line in footnotes(comparison):
        say(line)
    for found in [*([compared] if compared else []), *prompts]:
        for line in paired_lines(found):
            say(line)
    if html is not None:
        write_page(html, stored, comparison, compared, prompts, texts=texts)
        say(f"the page is {html}")
    write_result(json, report_json(comparison, compared, stored.problems, prompts))
    for file, reason in stored.problems.items():
        complain(f"{file} was left out: {reason}")
    for task, reason in compared.refused.items() if compared else ():
        complain(f"{task} cannot be paired: {reason}")
    if stored.problems or (compared and compared.refused):
        raise typer.Exit(3)
