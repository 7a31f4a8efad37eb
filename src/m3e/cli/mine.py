"""``m3e data mine`` and ``m3e data score``: data made with a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from m3e.cli.data import COLUMN, JSON, OVERWRITE, data_app
from m3e.cli.terminal import progress, say, show, write_result
from m3e.errors import SettingsError

SOURCE = typer.Argument(metavar="INPUT", help="A file or folder of records, or a folder of m3e data.")
OUT = typer.Option(..., "--out", help="For a folder of m3e data a folder; else .jsonl or .parquet.")
SET = typer.Option([], "--set", help="Of a folder of m3e data only this set; the others are copied.")
SYMMETRIC = typer.Option(False, "--symmetric", help="Both sides of a file's rows are alike: the query prompt for both.")
QUERY_PROMPT = typer.Option(None, "--query-prompt", help="Put before queries, instead of the model's own.")
PASSAGE_PROMPT = typer.Option(None, "--passage-prompt", help="Put before passages, instead of the model's own.")
DTYPE = typer.Option("auto", "--dtype", help="auto, fp32, bf16 or int8: of the computation.")
DEVICE = typer.Option(None, "--device", help="cpu, cuda, …")
BATCH_TOKENS = typer.Option(None, "--batch-tokens", help="Padded tokens a batch.")
WORK = typer.Option(None, "--work", help="Keep vectors in this folder, for further runs on the same texts.")


@data_app.command()
def mine(
    source: Path = SOURCE,
    out: Path = OUT,
    model: str = typer.Option(..., "--model", help="A name (m3e models), a folder, a hub id, or api:BASE_URL#model."),
    negatives: int = typer.Option(7, "--negatives", help="For each query; 0 with --consistency alone."),
    ranks: str = typer.Option("0-200", "--range", help="Ranks that may be negatives; 10-210 skips the first ten."),
    sampling: str = typer.Option("top", "--sampling", help="top (the most alike) or random, within the range."),
    relative_margin: float = typer.Option(
        0.05, "--relative-margin", help="At least this share of the positive's cosine below it; 0: not above it."
    ),
    no_relative_margin: bool = typer.Option(
        False, "--no-relative-margin", help="Take also what is more like the query than its positive."
    ),
    absolute_margin: float | None = typer.Option(
        None, "--absolute-margin", help="At least this much below the positive's cosine."
    ),
    max_score: float | None = typer.Option(None, "--max-score", help="A negative's cosine at most."),
    min_score: float | None = typer.Option(None, "--min-score", help="A negative's cosine at least."),
    reranker: str | None = typer.Option(
        None, "--reranker", help="A CrossEncoder (folder or hub id); what it scores like the positive is no negative."
    ),
    reranker_margin: float = typer.Option(0.0, "--reranker-margin", help="At least this much below, by its score."),
    consistency: int | None = typer.Option(
        None, "--consistency", help="Keep a positive only among this many nearest passages of its query."
    ),
    pool: int | None = typer.Option(None, "--pool", help="Search that many passages only, drawn by the seed."),
    corpus: Path | None = typer.Option(None, "--corpus", help="A file of more passages, one a row."),
    corpus_field: str | None = typer.Option(None, "--corpus-field", help="Its column of texts."),
    replace: bool = typer.Option(False, "--replace", help="Leave out the negatives that rows have already."),
    scores: bool = typer.Option(False, "--scores", help="Write the cosines beside the texts."),
    seed: int = typer.Option(42, "--seed", help="Of random sampling and of the pool."),
    sets: list[str] = SET,
    column: list[str] = COLUMN,
    symmetric: bool = SYMMETRIC,
    query_prompt: str | None = QUERY_PROMPT,
    passage_prompt: str | None = PASSAGE_PROMPT,
    dtype: str = DTYPE,
    device: str | None = DEVICE,
    batch_tokens: int | None = BATCH_TOKENS,
    work: Path | None = WORK,
    dry_run: bool = typer.Option(False, "--dry-run", help="Count what would be compared; encode and write nothing."),
    overwrite: bool = OVERWRITE,
    json: Path | None = JSON,
) -> None:
    """Mine hard negatives with a model, and keep only positives that it believes; a killed run goes on."""
    from m3e.cli.finetune import parse_columns
    from m3e.mining.hard_negatives import mine as run
    from m3e.mining.hard_negatives import plan_mining
    from m3e.mining.options import MiningOptions, parse_ranks

    options = MiningOptions(
        negatives=negatives,
        ranks=parse_ranks(ranks),
        sampling=sampling,  # type: ignore[arg-type]  # checked by the options
        relative_margin=None if no_relative_margin else relative_margin,
        absolute_margin=absolute_margin,
        max_score=max_score,
        min_score=min_score,
        reranker_margin=reranker_margin,
        consistency=consistency,
        pool=pool,
        replace=replace,
        scores=scores,
        seed=seed,
    )
    given: dict[str, Any] = {
        "corpus": corpus,
        "corpus_field": corpus_field,
        "columns": parse_columns(column),
        "sets": sets,
        "symmetric": symmetric,
    }
    if dry_run:
        planned = plan_mining(source, options=options, **given)
        _show_plan(planned)
        write_result(json, planned)
        return
    with progress("mine") as draw:
        report = run(
            source,
            out,
            model,
            options,
            _embedding(query_prompt, passage_prompt, dtype, device, batch_tokens),
            reranker=reranker,
            work=work,
            overwrite=overwrite,
            say=say,
            on_progress=draw,
            **given,
        )
    _show_report(report)
    _say_mined(report, negatives)
    write_result(json, report.as_dict())


@data_app.command()
def score(
    source: Path = SOURCE,
    out: Path = OUT,
    model: str | None = typer.Option(
        None, "--model", help="The cosine of its vectors: a name, a folder, a hub id, or api:BASE_URL#model."
    ),
    reranker: str | None = typer.Option(
        None, "--reranker", help="Instead, the score of a CrossEncoder (folder or hub id)."
    ),
    labels: bool = typer.Option(False, "--labels", help="Write scored pairs, whose labels are the scores."),
    sets: list[str] = SET,
    column: list[str] = COLUMN,
    symmetric: bool = SYMMETRIC,
    query_prompt: str | None = QUERY_PROMPT,
    passage_prompt: str | None = PASSAGE_PROMPT,
    dtype: str = DTYPE,
    device: str | None = DEVICE,
    batch_tokens: int | None = BATCH_TOKENS,
    work: Path | None = WORK,
    overwrite: bool = OVERWRITE,
    json: Path | None = JSON,
) -> None:
    """Write a teacher's scores beside the positives and negatives of rows; a killed run goes on."""
    from m3e.cli.finetune import parse_columns
    from m3e.mining.options import ScoringOptions
    from m3e.mining.teacher_scores import score as run

    with progress("score") as draw:
        report = run(
            source,
            out,
            model,
            ScoringOptions(labels=labels),
            _embedding(query_prompt, passage_prompt, dtype, device, batch_tokens),
            reranker=reranker,
            columns=parse_columns(column),
            sets=sets,
            symmetric=symmetric,
            work=work,
            overwrite=overwrite,
            say=say,
            on_progress=draw,
        )
    _show_report(report)
    write_result(json, report.as_dict())


def _embedding(query: str | None, passage: str | None, dtype: str, device: str | None, tokens: int | None) -> Any:
    from m3e.mining.options import EmbeddingOptions

    if dtype not in ("auto", "fp32", "bf16", "int8"):
        raise SettingsError(f"--dtype {dtype!r} is not known; choose auto, fp32, bf16 or int8")
    return EmbeddingOptions(query, passage, dtype, device, tokens)  # type: ignore[arg-type]  # checked just before


def _show_plan(planned: list[dict[str, Any]]) -> None:
    table = Table(title="what would be compared", title_justify="left")
    for name in planned[0]:
        table.add_column(name, justify="left" if name in ("set", "kind") else "right")
    for row in planned:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    show(table)


def _show_report(report: Any) -> None:
    if report.reused:
        say(f"{report.out} was made of the same rows with the same settings: nothing to do")
    table = Table(title=f"{report.rows_out:,} rows in {report.out}", title_justify="left")
    for name in ("set", "kind", "rows in", "rows out", "queries", "passages", "positives", "negatives"):
        table.add_column(name, justify="left" if name in ("set", "kind") else "right")
    for item in report.sets:
        counts = (f"{count:,}" for count in (item.rows_in, item.rows_out, item.queries, item.passages))
        table.add_row(item.name, str(item.kind), *counts, *(_median(item, side) for side in ("positives", "negatives")))
    show(table)
    say("positives and negatives: the median of their scores")
    for rule, count in report.total("dropped").items():
        say(f"{count:,} rows dropped by rule {rule.replace('_', ' ')}")
    if report.copied:
        say(f"copied as they are: {', '.join(report.copied)}")


def _median(item: Any, side: str) -> str:
    value = item.scores.get(side, {}).get("median")
    return "–" if value is None else f"{value:.3f}"


def _say_mined(report: Any, asked: int) -> None:
    counts = report.total("negatives")
    if counts:
        say(f"{counts['mined']:,} negatives mined, {counts['given']:,} that rows had were kept")
        if counts["given_positives"]:
            say(f"{counts['given_positives']:,} that rows had are positives of the same query and were left out")
        if counts["short"]:
            say(
                f"{counts['short']:,} rows got fewer than {asked}, of them {counts['none']:,} none at all; "
                "a wider --range, a --corpus, or a smaller margin finds more"
            )
    skipped = ", ".join(f"{count:,} by {rule.replace('_', ' ')}" for rule, count in report.total("skipped").items())
    if skipped:
        say(f"passages in the range that were not taken: {skipped}")
