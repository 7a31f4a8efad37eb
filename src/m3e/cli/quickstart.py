"""``m3e quickstart``."""

from __future__ import annotations

from pathlib import Path

import typer

from m3e.cli import app
from m3e.cli.terminal import progress, say, show, write_result


@app.command()
def quickstart(
    model: str | None = typer.Option(None, "--model", help="Default: m3e-small, else m3e-tiny."),
    out: Path = typer.Option(Path("m3e-quickstart"), "--out", help="Folder of the tuned model."),
    json: Path | None = typer.Option(None, "--json", help="Write the figures to this file."),
) -> None:
    """Offline: fine-tune on a sample help centre, judge before and after, search it, leave a model folder."""
    from m3e.quickstart import run_quickstart

    with progress("train") as draw:
        result = run_quickstart(
            model,
            out,
            say=say,
            on_step=lambda step, total, loss: draw(step, total, "" if loss is None else f"loss {loss:.4f}"),
        )
    show(result.table())
    for line in result.closing_lines():
        say(line)
    write_result(json, result.as_dict())
