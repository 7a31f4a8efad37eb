"""``m3e index`` and ``m3e search``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from m3e.cli import app
from m3e.cli.terminal import progress, say, show, write_result

if TYPE_CHECKING:
    from m3e.retrieval.index import IndexReport

_STORE_HELP = "A folder (LanceDB), chroma:PATH, milvus:FILE.db, qdrant:PATH, the same with http://…, or postgresql://…"
_SHOWN_CHARACTERS = 80
_DROPPED = {
    "blank": "without text",
    "duplicate_id": "whose id comes again later (the last one counts)",
    "zero_vector": "in which the model knows no word",
}


@app.command()
def index(
    source: Path = typer.Argument(metavar="INPUT", help="jsonl, json, csv, tsv, parquet, txt, or a folder of them."),
    store: str = typer.Option(..., "--store", help=f"{_STORE_HELP}; #NAME at its end names one of several."),
    model: str = typer.Option(..., "--model", help="A name (m3e models), a folder, or a hub id."),
    field: str | None = typer.Option(
        None, "--field", help="The column of texts; default text, else the first of text."
    ),
    id_field: str | None = typer.Option(None, "--id-field", help="The column of ids; default id, else hashes."),
    batch: int = typer.Option(1024, "--batch", help="Documents encoded and written at a time."),
    rebuild: bool = typer.Option(
        False, "--rebuild", help="Index anew, with any model: INPUT takes the place of all that is in the store."
    ),
    ann: bool = typer.Option(False, "--ann", help="Build an index that answers sooner and approximately."),
    json_file: Path | None = typer.Option(None, "--json", help="Write what was done to FILE.", metavar="FILE"),
) -> None:
    """Put documents into a vector store; the same id replaces, a killed run goes on where it stopped."""
    from m3e.retrieval.index import index_file

    with progress("index") as draw:
        report = index_file(
            source,
            store,
            model,
            field=field,
            id_field=id_field,
            batch=batch,
            rebuild=rebuild,
            ann=ann,
            on_rows=lambda done, total: draw(done, total, ""),
        )
    _say_report(report)
    write_result(json_file, {**asdict(report), "model": report.model.name, "dimension": report.model.dimension})


def _say_report(report: IndexReport) -> None:
    for note in report.notes:
        say(note)
    for rule, count in report.dropped.items():
        say(f"{count} rows dropped {_DROPPED[rule]}")
    if report.cut:
        say(f"{report.cut} texts are longer than the model reads and were cut; the store keeps them whole")
    if report.removed:
        say(f"{report.removed} documents of before removed")
    say(
        f"{report.total} documents in the store ({report.written} written, {report.unchanged} unchanged), "
        f"by {report.model.name}, {report.model.dimension} dimensions"
    )


@app.command()
def search(
    query: str = typer.Argument(help="What to look for."),
    store: str = typer.Option(..., "--store", help=f"{_STORE_HELP}, as given to m3e index."),
    top_k: int = typer.Option(10, "--top-k", help="How many documents."),
    model: str | None = typer.Option(None, "--model", help="The store's model; needed only where it has moved."),
    mode: str = typer.Option("dense", "--mode", help="dense, bm25 or hybrid."),
    filters: list[str] = typer.Option(
        [], "--filter", help="On metadata: city=北京, year>=2020, draft!=true; all that are given must hold."
    ),
    fusion: str = typer.Option("rrf", "--fusion", help="Of hybrid: rrf or weighted."),
    dense_weight: float = typer.Option(0.5, "--dense-weight", help="Of hybrid: the share of the vectors, 0..1."),
    rerank: str | None = typer.Option(None, "--rerank", help="A CrossEncoder (folder or hub id) that orders anew."),
    json_file: Path | None = typer.Option(None, "--json", help="Write the hits to FILE.", metavar="FILE"),
) -> None:
    """Find documents of a store, by the model that it was made with."""
    from m3e.retrieval import open_store
    from m3e.retrieval import search as find
    from m3e.retrieval.filters import conditions_of
    from m3e.retrieval.fusion import Fusion
    from m3e.retrieval.reranking import cross_encoder
    from m3e.retrieval.searching import check_search, encoder_of

    check_search(query, top_k, mode)
    conditions_of(filters)
    how = Fusion(method=fusion, dense_weight=dense_weight)  # type: ignore[arg-type]  # checked by Fusion
    with open_store(store) as opened:
        encoder = encoder_of(opened, model) if mode != "bm25" or model else None
        if opened.unfinished:
            say(f"the last m3e index into {opened.url.shown} broke off; run it again to have all documents")
        reranker = cross_encoder(rerank) if rerank else None
        hits = find(opened, encoder, query, top_k, mode, filters, fusion=how, reranker=reranker)  # type: ignore[arg-type]
        name = opened.model.name
    table = Table("", "id", "score", "text", box=None)
    for rank, hit in enumerate(hits, start=1):
        shown = " ".join(hit.text.split())
        shown = shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"
        # as Text, so that brackets in it are no markup
        table.add_row(str(rank), Text(hit.id), f"{hit.score:.4f}", Text(shown))
    show(table) if hits else say("nothing found")
    write_result(json_file, {"model": name, "hits": [asdict(hit) for hit in hits]})
