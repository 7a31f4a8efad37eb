"""``m3e encode``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from m3e.cli import app
from m3e.cli.terminal import progress, say, write_result
from m3e.errors import SettingsError


@app.command()
def encode(
    model: str = typer.Argument(help="A name (m3e models), a folder, a hub id, or api:BASE_URL#model."),
    source: Path = typer.Argument(metavar="INPUT", help="jsonl, json, csv, tsv, parquet, or txt (a text a line)."),
    out: Path = typer.Option(..., "--out", help=".npy, .parquet or .safetensors"),
    field: str | None = typer.Option(
        None, "--field", help="The column to encode; default text, else the first of text."
    ),
    prompt: str | None = typer.Option(None, "--prompt", help="query or document: the model's prompt of that name."),
    dtype: str = typer.Option(
        "auto", "--dtype", help="auto, fp32, bf16 or int8: of the computation; vectors are fp32."
    ),
    dim: int | None = typer.Option(None, "--dim", help="Keep the first numbers only, scaled to length 1 again."),
    backend: str = typer.Option("auto", "--backend", help="auto (the fastest here), torch, openvino, onnx or static."),
    batch_tokens: int | None = typer.Option(None, "--batch-tokens", help="Padded tokens a batch."),
    workers: int = typer.Option(1, "--workers", help="Processes, each with its own model and share of the threads."),
    engine: str | None = typer.Option(None, "--engine", help="ray or ray://HOST:PORT: encode on a cluster."),
    device: str | None = typer.Option(None, "--device", help="cpu, cuda, …; cuda:0,cuda:1 runs a process on each."),
    json: Path | None = typer.Option(None, "--json", help="Write what was done to this file."),
) -> None:
    """Write one vector a row; a killed run goes on where it stopped."""
    from m3e.inference.encode_options import EncodeOptions
    from m3e.inference.vectors import encode_file

    if not source.is_file():
        raise SettingsError(f"there is no file {source}")
    choice: dict[str, Any] = {"prompt": prompt, "dtype": dtype, "backend": backend}  # checked where they are used
    options = EncodeOptions(
        field=field, dim=dim, batch_tokens=batch_tokens, workers=workers, engine=engine, device=device, **choice
    )
    with progress("encode") as draw:
        report = encode_file(
            model, source, out, options, on_rows=lambda done, total: draw(done, total, ""), on_line=say
        )
    say(f"{report.rows} vectors of {report.dimension} numbers from field {report.field!r} to {out}")
    if report.cut:
        say(f"{report.cut} texts are longer than the model takes and were cut")
    if report.blank:
        say(f"{report.blank} texts are blank; their vectors mean nothing")
    write_result(json, report.as_dict())
