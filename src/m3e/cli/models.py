"""``m3e models`` and ``m3e models path NAME``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from m3e.cli import app
from m3e.cli.terminal import say, show, write_result

models_app = typer.Typer(help="What can be loaded here.", invoke_without_command=True, rich_markup_mode=None)
app.add_typer(models_app, name="models")


SHOWN_FIGURES = ("STSB", "LCQMC", "XQuADzh")


@models_app.callback()
def models(
    context: typer.Context,
    json: Path | None = typer.Option(None, "--json", help="Write the list to this file."),
) -> None:
    """List the models by name: size, dimensions, languages, licence, source."""
    if context.invoked_subcommand is not None:
        return
    from m3e.models.names import local_models, measured_figures

    table = Table(title="models that need no hub", title_justify="left")
    figures = measured_figures()
    for name in ("name", "parameters", "dim", "tokens", "languages", "licence", "source", "here", "figures"):
        table.add_column(name, justify="right" if name in ("parameters", "dim", "tokens") else "left")
    rows: list[dict[str, Any]] = []
    for model in local_models().values():
        available = model.available()
        size = f"{model.parameters / 1e6:.1f}M" if model.parameters else "–"
        length = str(model.max_length or "any")
        here = "yes" if available else model.needs
        scores = figures.get(model.name, {})
        shown = " ".join(f"{task} {scores[task]:.3f}" for task in SHOWN_FIGURES if task in scores)
        facts = (str(model.dim), length, model.languages, model.licence, model.source, here, shown)
        table.add_row(model.name, size, *facts)
        rows.append(
            {
                "name": model.name,
                "parameters": model.parameters,
                "dim": model.dim,
                "max_length": model.max_length,
                "languages": model.languages,
                "licence": model.licence,
                "commercial": model.commercial,
                "source": model.source,
                "available": available,
            }
        )
    show(table)
    say("any folder or hub id of sentence-transformers loads too; `m3e models path NAME` writes a model's folder")
    write_result(json, rows)


@models_app.command("path")
def path(name: str = typer.Argument(help="A model of the list, or a folder with an adapter.")) -> None:
    """Write the model's folder once, verify it, print where it is: any project that takes a path takes it.

    An adapter is written out whole, with the base that it belongs to.
    """
    from m3e.models.loading import whole_folder

    say(str(whole_folder(name)))
