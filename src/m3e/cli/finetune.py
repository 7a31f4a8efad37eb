"""``m3e finetune``."""

from __future__ import annotations

from pathlib import Path

import typer

from m3e.cli import app
from m3e.cli.terminal import progress, say, show, write_result
from m3e.errors import SettingsError


def parse_columns(pairs: list[str]) -> dict[str, str]:
    """``["text=问题"]`` to ``{"text": "问题"}``.

    Raises:
        SettingsError: an item without ``=``.
    """
    columns = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not equals or not field or not column:
            raise SettingsError(f"--column {pair!r}: write FIELD=COLUMN, for instance text=问题")
        columns[field.strip()] = column.strip()
    return columns


@app.command()
def finetune(
    model: str = typer.Argument(help="A name (m3e models), a folder, or a hub id."),
    data: str = typer.Argument(help="jsonl, json, csv, tsv, parquet, a folder of them, or a hub id."),
    out: Path = typer.Option(Path("finetuned-model"), "--out", help="Folder of the tuned model."),
    val: str | None = typer.Option(None, "--val", help="Rows to judge by; without it some of DATA are held out."),
    column: list[str] = typer.Option([], "--column", help="FIELD=COLUMN for columns that are not recognised."),
    epochs: float = typer.Option(3, "--epochs"),
    batch_size: int = typer.Option(64, "--batch-size"),
    lr: float | None = typer.Option(None, "--lr", help="Peak learning rate; by default it suits the model's size."),
    max_length: int | None = typer.Option(None, "--max-length", help="Tokens a text; longer ones are cut."),
    temperature: float | None = typer.Option(
        None, "--temperature", help="Default 0.05; by the model's own cosines where both sides look alike."
    ),
    preserve: float = typer.Option(
        1.0, "--preserve", help="Where both sides look alike: hold other similarities where they were; 0 lets go."
    ),
    false_negative_margin: float = typer.Option(
        0.2, "--false-negative-margin", help="Likely paraphrases in a batch are no negatives; below 0 takes them all."
    ),
    lora: bool = typer.Option(False, "--lora", help="Train low-rank adapters; they are merged at the end."),
    merge: float | None = typer.Option(None, "--merge", help="Average with the start; its share, e.g. 0.5."),
    seed: int = typer.Option(42, "--seed"),
    device: str | None = typer.Option(None, "--device", help="cpu, cuda, …"),
    precision: str = typer.Option("auto", "--precision", help="auto, fp32, bf16 or fp16."),
    mini_batch_size: int | None = typer.Option(None, "--mini-batch-size", help="Gradient caching, texts at a time."),
    checkpoint_steps: int | None = typer.Option(None, "--checkpoint-steps", help="Default: every two minutes."),
    resume: bool = typer.Option(False, "--resume", help="Go on from the newest checkpoint in --out."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Write beside files that are not ours."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Read the data, show what would be done, train nothing."),
    json: Path | None = typer.Option(None, "--json", help="Write the figures to this file."),
) -> None:
    """Fine-tune an embedding model on your own records and see whether it got better."""
    from m3e.training.finetune import Destination
    from m3e.training.options import FineTuneOptions
    from m3e.training.strategies import FullTraining, LoraTraining

    options = FineTuneOptions(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        max_length=max_length,
        temperature=temperature,
        preserve=preserve,
        false_negative_margin=None if false_negative_margin < 0 else false_negative_margin,
        strategy=LoraTraining() if lora else FullTraining(),
        merge=merge,
        seed=seed,
        precision=precision,  # type: ignore[arg-type]  # checked by the dataclass
        mini_batch_size=mini_batch_size,
        checkpoint_steps=checkpoint_steps,
    )
    Destination(out, resume=resume, overwrite=overwrite).check()
    columns = parse_columns(column)
    if dry_run:
        _describe(data, columns)
        return
    from m3e.training.finetuner import FineTuner

    tuner = FineTuner(model, data, validation=val, columns=columns or None, device=device)
    with progress("train") as draw:
        tuner.run(
            out,
            options=options,
            resume=resume,
            overwrite=overwrite,
            say=say,
            on_step=lambda step, total, loss: draw(step, total, "" if loss is None else f"loss {loss:.4f}"),
        )
    assert tuner.report is not None
    show(tuner.report.table())
    write_result(json, tuner.report.as_dict())


def _describe(data: str, columns: dict[str, str]) -> None:
    from m3e.data.reading import read_splits

    records, validation = read_splits(data, columns=columns or None)
    for line in [*records.notes, *records.drops[:10]]:
        say(line)
    dropped = sum(records.dropped.values())
    say(f"kind {records.kind.value}: {records.rows} rows kept, {dropped} dropped; nothing was trained")
    if validation is not None:
        say(f"validation: {validation.rows} rows")
