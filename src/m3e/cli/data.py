"""``m3e data``: the catalogue and the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import typer
from rich.cells import cell_len, set_cell_size
from rich.table import Table

from m3e.cli import app
from m3e.cli.terminal import console, progress, say, show, write_result
from m3e.errors import IncompleteError, M3EError, SettingsError

data_app = typer.Typer(
    help="The catalogue of data sets, and the pipeline that cleans them.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data_app, name="data")

RAW = typer.Option(None, "--raw", help="Folder of raw files that cards' paths are relative to.")
ENGINE = typer.Option("local", "--engine", help="local, ray, or ray://HOST:PORT")
LISTED = ("name", "kind", "for", "languages", "rows", "commercial", "domain", "licence")
JSON = typer.Option(None, "--json", help="Write the result to this file.")
OUT = typer.Option(..., "--out", help="Folder to write.")
OVERWRITE = typer.Option(False, "--overwrite", help="Write beside files that are not ours.")
COLUMN = typer.Option([], "--column", help="field=NAME where a file's column names are not known ones.")


@data_app.command("list")
def list_sets(
    category: str | None = typer.Option(None, "--category", help="s2s, s2p or s2c"),
    domain: str | None = typer.Option(None, "--domain", help="Part of the domain's name."),
    language: str | None = typer.Option(None, "--language", help="zh, en or code"),
    commercial: str | None = typer.Option(None, "--commercial", help="yes, no or unknown"),
    m3e: bool = typer.Option(False, "--m3e", help="Only the sets of the M3E table."),
    use: str | None = typer.Option(None, "--use", help="train or evaluation"),
    json: Path | None = JSON,
) -> None:
    """List the data sets: rows, category, languages, licence."""
    from m3e.catalogue.shelf import all_cards, filter_cards

    _check("--category", category, ("s2s", "s2p", "s2c"))
    _check("--commercial", commercial, ("yes", "no", "unknown"))
    _check("--use", use, ("train", "evaluation"))
    cards = filter_cards(
        all_cards(),
        category=category,  # type: ignore[arg-type]  # checked just before
        domain=domain,
        language=language,
        commercial=commercial,  # type: ignore[arg-type]
        in_m3e_table=True if m3e else None,
        use=use,
    )
    table = Table(title=f"{len(cards)} data sets", title_justify="left", box=None, pad_edge=False)
    rows = [_list_row(card) for card in cards]
    for name in LISTED:
        table.add_column(name, justify="right" if name == "rows" else "left", no_wrap=True)
    # the licence takes what the terminal has left
    widths = [max(map(cell_len, texts)) for texts in zip(LISTED, *rows, strict=True)]
    left = max(12, console().width - sum(widths[:-1]) - 2 * len(LISTED))
    for *facts, licence in rows:
        table.add_row(*facts, licence if cell_len(licence) <= left else set_cell_size(licence, left - 1) + "…")
    show(table)
    say("* for evaluation, never trained on")
    write_result(
        json,
        [
            {
                "name": card.name,
                "rows": card.rows,
                "seed_rows": card.seed.rows if card.seed else None,
                "category": card.category,
                "language": "-".join(card.languages),
                "commercial": card.commercial,
                "seed_commercial": card.seed.commercial if card.seed else None,
                "in_m3e_table": card.seed is not None,
                "use": card.use,
                "kind": card.kind,
                "domain": card.domain,
                "licence": card.licence.stated,
            }
            for card in cards
        ],
    )


def _list_row(card: Any) -> tuple[str, ...]:
    kind = card.kind if card.use == "train" else f"{card.kind} *"
    rows = f"{card.rows:,}" if card.rows else "–"
    languages = " ".join(card.languages)
    return (card.name, kind, card.category, languages, rows, card.commercial, card.domain[:16], card.licence.stated)


@data_app.command("show")
def show_set(
    name: str = typer.Argument(help="A data set's name."),
    rows: int = typer.Option(3, "--rows", help="How many sample rows to read."),
    raw: Path | None = RAW,
    json: Path | None = JSON,
) -> None:
    """Show a data set's card, and some of its rows where a source is here."""
    from m3e.catalogue.shelf import all_cards, find_card

    card = find_card(name, all_cards())
    say(f"{card.name}: {card.title}")
    say(card.description)
    facts = {
        "use": card.use,
        "kind": card.kind,
        "category": f"{card.category}{', symmetric' if card.symmetric else ''}",
        "languages": ", ".join(card.languages),
        "domain": card.domain,
        "quality": card.quality,
        "rows": f"{card.rows:,}" if card.rows else "not counted",
        "query instruction": card.query_instruction,
        "passage instruction": card.passage_instruction,
        "licence": f"{card.licence.stated} ({card.licence.source})",
        "commercial": f"{card.commercial}: {card.licence.reason}",
        "M3E card": _seed_line(card.seed),
        "sources": "; ".join(source.place for source in card.sources),
        "tasks": ", ".join(card.tasks),
        "citation": card.citation,
    }
    for key, value in facts.items():
        if value:
            say(f"  {key}: {value}")
    samples = _sample_rows(card, rows, raw)
    write_result(json, {"card": card.model_dump(mode="json"), "rows": samples})


def _seed_line(seed: Any) -> str:
    if seed is None:
        return ""
    return f"{seed.rows:,} rows, {seed.domain}, {seed.task}, quality {seed.quality}, commercial {seed.commercial}"


def _sample_rows(card: Any, count: int, raw: Path | None) -> list[dict[str, Any]]:
    from m3e.data.card_records import open_rows
    from m3e.data.streams import Account

    if count <= 0:
        return []
    try:
        samples = [dict(row) for row in islice(open_rows(card, raw=raw, account=Account()), count)]
    except M3EError as error:
        say(f"no sample rows: {error}")
        return []
    for number, row in enumerate(samples, start=1):
        say(f"row {number}:")
        for column, value in row.items():
            say(f"  {column}: {_short(value)}")
    return samples


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 160 else f"{text[:159]}…"


@data_app.command()
def stats(
    folder: Path | None = typer.Argument(None, help="A folder of m3e data prepare; without one, the catalogue."),
    json: Path | None = JSON,
) -> None:
    """Count the catalogue, or a prepared folder: rows, lengths, what was dropped."""
    from m3e.data.summary import catalogue_summary, folder_summary

    rows = catalogue_summary() if folder is None else folder_summary(folder)
    table = Table(title="the catalogue" if folder is None else str(folder), title_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    show(table)
    write_result(json, rows)


@data_app.command()
def prepare(
    preset: str | None = typer.Argument(None, help="m3e-commercial, m3e-hq, m3e-all, or a TOML file."),
    sets: list[str] = typer.Option([], "--sets", help="Names, groups (all, m3e, shipped, local), files; or a,b,c."),
    policy: str | None = typer.Option(None, "--policy", help="any, or commercial: only sets that allow it."),
    out: Path = OUT,
    against: list[str] = typer.Option([], "--against", help="More evaluation files, folders, or sets by name."),
    raw: Path | None = RAW,
    simplified: bool | None = typer.Option(None, "--simplified/--as-typed", help="Traditional to simplified."),
    near: float | None = typer.Option(None, "--near-duplicates", help="Jaccard similarity; 0 keeps near-duplicates."),
    settings: list[str] = typer.Option([], "--set", help="filters.max_query=512, max_rows.NAME=1000, seed=1, …"),
    engine: str = ENGINE,
    overwrite: bool = OVERWRITE,
    json: Path | None = JSON,
) -> None:
    """Clean, deduplicate, decontaminate and write sets as shards with a manifest; a stopped run goes on."""
    from m3e.data.prepare_sets import chosen_preset, prepare_sets

    named = [part for item in sets for part in item.split(",") if part]
    chosen = chosen_preset(preset, named, policy, simplified, near, settings)
    _start(engine)
    with progress("prepare") as draw:
        prepared, notes = prepare_sets(
            chosen, out, against=against, raw=raw, say=say, on_set=draw, overwrite=overwrite, named=named
        )
    _say_all([*notes, *prepared.notes])
    _show_prepared(prepared)
    write_result(json, {"out": str(prepared.folder), **prepared.manifest})
    _refuse_failed(prepared)


@data_app.command()
def dedup(
    inputs: list[Path] = typer.Argument(metavar="INPUT...", help="Files or folders of records, or of single texts."),
    out: Path = OUT,
    exact_only: bool = typer.Option(False, "--exact-only", help="Keep near-duplicates."),
    near: float = typer.Option(0.8, "--near-duplicates", help="Jaccard similarity of both sides of a row."),
    column: list[str] = COLUMN,
    engine: str = ENGINE,
    overwrite: bool = OVERWRITE,
    json: Path | None = JSON,
) -> None:
    """Write each row once: texts stay as typed, keys decide what is the same; near-duplicates go too."""
    from m3e.data.pipeline import PipelineOptions

    if not 0 < near <= 1:
        raise SettingsError(f"--near-duplicates {near}: it is a similarity above 0 and at most 1")
    options = PipelineOptions(normalise=False, filters=None, near_duplicates=None if exact_only else near)
    prepared = _run_on_files(inputs, out, options, column, [], engine, overwrite)
    dropped = _totals(prepared.manifest)
    result = {
        "rows_in": prepared.manifest["rows_in"],
        "rows_out": prepared.manifest["rows_out"],
        "dropped": {"exact": dropped.get("exact_duplicate", 0), "near": dropped.get("near_duplicate", 0)},
    }
    _report_drops(result, dropped, prepared)
    write_result(json, result)
    _refuse_failed(prepared)


@data_app.command()
def decontaminate(
    inputs: list[Path] = typer.Argument(
        None, metavar="INPUT...", help="Training files or folders, or texts to ask --seen about."
    ),
    against: list[str] = typer.Option([], "--against", help="Evaluation files, folders, or sets by name."),
    seen: Path | None = typer.Option(None, "--seen", help="A texts.bloom, or a data or model folder that has one."),
    text: list[str] = typer.Option([], "--text", help="A text to ask --seen about."),
    out: Path | None = typer.Option(None, "--out", help="Folder for the rows that stay."),
    exact_only: bool = typer.Option(False, "--exact-only", help="Only exact matches count."),
    column: list[str] = COLUMN,
    raw: Path | None = RAW,
    engine: str = ENGINE,
    overwrite: bool = OVERWRITE,
    json: Path | None = JSON,
) -> None:
    """Drop training rows that hold evaluation texts; or ask a filter of texts what was trained on."""
    if seen is None and len(against) == 1 and against[0].endswith(".bloom"):
        seen, against = Path(against[0]), []
    if seen is not None:
        if against or out is not None:
            raise SettingsError("--seen only asks a question; it goes without --against and --out")
        write_result(json, _ask(seen, inputs or [], text))
        return
    if text:
        raise SettingsError("--text goes with --seen, which names the texts.bloom to ask")
    if not inputs or out is None:
        raise SettingsError("name training files and --out DIR, or --seen with what to ask about")
    from m3e.catalogue.local import data_folder
    from m3e.catalogue.shelf import all_cards
    from m3e.data.evaluation_sets import evaluation_paths
    from m3e.data.pipeline import PipelineOptions

    folder = None if against else data_folder()
    paths, notes = evaluation_paths(against, all_cards(), folder=folder, raw=raw)
    if not paths:
        raise SettingsError("there is nothing to compare with: name evaluation files with --against")
    _say_all(notes if not against else [])
    options = PipelineOptions(normalise=False, filters=None, duplicates=False, near_duplicates=None)
    prepared = _run_on_files(inputs, out, options, column, paths, engine, overwrite, near_evaluation=not exact_only)
    manifest = prepared.manifest
    dropped = _totals(manifest)
    result = {
        "rows_in": manifest["rows_in"],
        "rows_out": manifest["rows_out"],
        "dropped": {"exact": dropped.get("contaminated_exact", 0), "near": dropped.get("contaminated_near", 0)},
        "by_pair": manifest["by_pair"],
    }
    _show_pairs(manifest["by_pair"])
    _report_drops(result, dropped, prepared)
    write_result(json, result)
    _refuse_failed(prepared)


def _ask(place: Path, inputs: Sequence[Path], texts: Sequence[str]) -> dict[str, Any]:
    from m3e.data.bloom import TextFilter
    from m3e.data.seen import filter_path, texts_seen

    seen = TextFilter.load(filter_path(place))
    answers = dict(zip(texts, seen.has(texts).tolist(), strict=True)) if texts else {}
    for text, answer in answers.items():
        say(f"{'yes' if answer else 'no'}: {_short(text)}")
    files = []
    for path in inputs:
        found = texts_seen(path, seen)
        say(
            f"{path.name}: {found.texts_seen:,} of {found.texts:,} texts were seen ({found.share:.1%}), "
            f"in {found.rows_seen:,} of {found.rows:,} rows"
        )
        files.append({"eval": path.name, **vars(found), "share": found.share})
    if not texts and not inputs:
        raise SettingsError("name what to ask about: a file, or --text")
    rows, rows_seen = sum(file["rows"] for file in files), sum(file["rows_seen"] for file in files)
    return {
        "texts": answers,
        "rows_in": rows,
        "rows_out": rows - rows_seen,
        "dropped": {"exact": rows_seen, "near": 0},
        "by_pair": [
            {"train": place.name, "eval": file["eval"], "rows": file["rows_seen"], "texts": file["texts_seen"]}
            for file in files
        ],
        "files": files,
    }


def _run_on_files(
    inputs: Sequence[Path],
    out: Path,
    options: Any,
    column: Sequence[str],
    evaluation: Sequence[Path],
    engine: str,
    overwrite: bool,
    near_evaluation: bool = True,
) -> Any:
    from m3e.cli.finetune import parse_columns
    from m3e.data.prepare import run_pipeline
    from m3e.data.sets import plans_of_paths

    plans = plans_of_paths(inputs, parse_columns(list(column)))
    _start(engine)
    with progress("rows") as draw:
        prepared = run_pipeline(
            plans,
            out,
            options,
            evaluation=evaluation,
            near_evaluation=near_evaluation,
            title=out.resolve().name,
            say=say,
            on_set=draw,
            overwrite=overwrite,
        )
    _say_all(prepared.notes)
    return prepared


def _refuse_failed(prepared: Any) -> None:
    if prepared.failed:
        raise IncompleteError(
            f"{len(prepared.failed)} of the sets failed; the others are written: {'; '.join(prepared.failed.values())}"
        )


def _start(engine: str) -> None:
    from m3e.data.engine import start_engine

    start_engine(engine)


def _show_prepared(prepared: Any) -> None:
    manifest = prepared.manifest
    if prepared.reused:
        say(f"{prepared.folder} was made of the same sets with the same settings: nothing to do")
    table = Table(title=f"{manifest['rows_out']:,} rows in {prepared.folder}", title_justify="left")
    for name in ("data set", "kind", "category", "commercial", "rows in", "rows out", "dropped"):
        table.add_column(name, justify="right" if name.startswith("rows") else "left")
    for entry in manifest["datasets"]:
        drops = ", ".join(f"{rule} {count:,}" for rule, count in entry["dropped"].items())
        rows = (f"{entry['rows_in']:,}", f"{entry['rows_out']:,}")
        table.add_row(
            entry["dataset"], entry["kind"], entry["category"], entry.get("commercial", "unknown"), *rows, drops
        )
    show(table)
    say(
        f"{manifest['rows_in']:,} rows in, {manifest['rows_out']:,} out, of them {manifest['pairs_out']:,} pairs, "
        f"triplets and scored pairs; compared with {len(manifest['evaluation'])} evaluation files"
    )


def _show_pairs(pairs: Sequence[Mapping[str, Any]]) -> None:
    if not pairs:
        return
    table = Table(title="evaluation texts in training data", title_justify="left")
    for name in ("train", "eval", "rows", "texts", "passages"):
        table.add_column(name, justify="left" if name in ("train", "eval") else "right")
    for pair in pairs:
        table.add_row(pair["train"], pair["eval"], *(f"{pair[name]:,}" for name in ("rows", "texts", "passages")))
    show(table)


def _report_drops(result: Mapping[str, Any], dropped: Mapping[str, int], prepared: Any) -> None:
    counts = ", ".join(f"{count:,} {rule.replace('_', ' ')}" for rule, count in dropped.items()) or "nothing"
    say(f"{result['rows_in']:,} rows in, {result['rows_out']:,} out; dropped: {counts}; written to {prepared.folder}")


def _totals(manifest: Mapping[str, Any]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for entry in manifest["datasets"]:
        for rule, count in entry["dropped"].items():
            totals[rule] = totals.get(rule, 0) + count
    return totals


def _say_all(lines: Sequence[str]) -> None:
    for line in dict.fromkeys(lines):
        say(line)


def _check(option: str, value: str | None, choices: Sequence[str]) -> None:
    if value is not None and value not in choices:
        raise SettingsError(f"{option} {value!r} is not known; choose {', '.join(choices)}")
