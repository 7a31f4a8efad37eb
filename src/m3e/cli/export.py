"""``m3e export``."""

from __future__ import annotations

from pathlib import Path

import typer

from m3e.cli import app
from m3e.cli.terminal import say, show, write_result


@app.command()
def export(
    model: str = typer.Argument(help="A name (m3e models), a folder, or a hub id."),
    format: str = typer.Option(..., "--format", help="onnx, openvino or static."),
    out: Path = typer.Option(..., "--out", help="Folder of the exported model."),
    quantize: str | None = typer.Option(None, "--quantize", help="int8; without it the weights stay in fp32."),
    texts: Path | None = typer.Option(
        None, "--texts", help="static: texts of your domain to fit to (jsonl, csv, parquet, or txt, a text a line)."
    ),
    field: str | None = typer.Option(None, "--field", help="The column of --texts; default text."),
    words: Path | None = typer.Option(
        None, "--words", help="static: a frequency list, a word a line, the most frequent first; added as tokens."
    ),
    dim: int | None = typer.Option(None, "--dim", help="static: numbers a vector."),
    force: bool = typer.Option(False, "--force", help="Keep a graph whose cosine to the original is below 0.98."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Write beside files that are not ours."),
    json: Path | None = typer.Option(None, "--json", help="Write the figures to this file."),
) -> None:
    """Write a model as an ONNX or OpenVINO graph or as a static lookup, and compare it with the original."""
    from m3e.inference.export import ExportOptions
    from m3e.inference.export import export as export_model
    from m3e.inference.export_static import read_words
    from m3e.inference.vectors import read_texts

    options = ExportOptions(
        format=format,  # type: ignore[arg-type]  # checked by the dataclass
        quantise=quantize,  # type: ignore[arg-type]  # checked by the dataclass
        force=force,
        texts=tuple(read_texts(texts, field)[0]) if texts else (),
        words=tuple(read_words(words)) if words else (),
        dim=dim,
    )
    report = export_model(model, out, options, overwrite=overwrite, say=say)
    show(report.table())
    say(f"{report.comparison.compared}; {report.comparison.texts} texts of up to {report.comparison.longest} tokens")
    say(f"cosine to the original: mean {report.comparison.cosine.mean:.6f}, min {report.comparison.cosine.min:.6f}")
    say(f"written to {out}; m3e.load and sentence-transformers open it as ever, --backend {report.format} runs it")
    write_result(json, report.as_dict())
