"""``m3e encode``."""

from __future__ import annotations

from pathlib import Path

import typer

from m3e.cli import app
from m3e.cli.terminal import progress, say
from m3e.errors import SettingsError


@app.command()
def encode(
    model: str = typer.Argument(help="A name (m3e models), a folder, or a hub id."),
    source: Path = typer.Argument(metavar="INPUT", help="jsonl, json, csv, tsv, parquet, or txt (a text a line)."),
    out: Path = typer.Option(..., "--out", help=".npy, .parquet or .safetensors"),
    field: str | None = typer.Option(
        None, "--field", help="The column to encode; default text, else the first of text."
    ),
    prompt: str | None = typer.Option(None, "--prompt", help="query or document: the model's prompt of that name."),
    dtype: str = typer.Option("auto", "--dtype", help="auto, fp32 or bf16: of the computation; vectors are fp32."),
    dim: int | None = typer.Option(None, "--dim", help="Keep the first numbers only, scaled to length 1 again."),
    backend: str = typer.Option("torch", "--backend", help="torch; other backends come with a later release."),
    device: str | None = typer.Option(None, "--device", help="cpu, cuda, …"),
) -> None:
    """Write one vector a row; a killed run goes on where it stopped."""
    from m3e.inference import Encoder
    from m3e.inference.vectors import encode_file

    if backend not in ("auto", "torch"):
        raise SettingsError(f"--backend {backend!r} is not known; choose auto or torch")
    if not source.is_file():
        raise SettingsError(f"there is no file {source}")
    encoder = Encoder(model, dtype=dtype, device=device)  # type: ignore[arg-type]  # checked by Encoder
    with progress("encode") as draw:
        report = encode_file(
            encoder,
            source,
            out,
            field=field,
            prompt=prompt,
            dim=dim,
            on_rows=lambda done, total: draw(done, total, ""),
        )
    say(f"{report.rows} vectors of {report.dimension} numbers from field {report.field!r} in {encoder.dtype} to {out}")
    if report.cut:
        say(f"{report.cut} texts are longer than {encoder.model.max_seq_length} tokens and were cut")
    if report.resumed_chunks:
        say(f"{report.resumed_chunks} finished chunks of an earlier run were kept")
