"""What can go through the pipeline: sets of the catalogue, and users' own files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from m3e.catalogue.cards import TEXT_KINDS, DatasetCard
from m3e.data.card_records import open_card, open_rows
from m3e.data.keys import has_lone_surrogate
from m3e.data.manifest import MANIFEST, read_manifest
from m3e.data.pipeline import SetPlan
from m3e.data.plain_columns import plain_kind, stream_plain
from m3e.data.sources import open_source
from m3e.data.staging import TEXT_KIND, staged_row, text_row
from m3e.data.streams import Account, stream_tables
from m3e.errors import DataError
from m3e.files import hash_file, hash_settings

_TEXT_COLUMNS = ("text", "content", "sentence", "title", "内容", "正文", "标题")
_NOT_TEXT = ("label", "labels", "id", "_id", "标签", "dataset")


def plan_of_card(
    card: DatasetCard,
    *,
    raw: Path | None = None,
    cache: Path | None = None,
    weight: float = 1.0,
    max_rows: int | None = None,
) -> SetPlan:
    """How a set of the catalogue goes through the pipeline.

    Args:
        raw: the folder to which the card's paths are relative.
        cache: where files of the web are kept.
        weight: see :class:`~m3e.data.pipeline.SetPlan`.
        max_rows: see :class:`~m3e.data.pipeline.SetPlan`.
    """
    read = _card_texts if card.kind in TEXT_KINDS else _card_records
    return SetPlan(
        name=card.name,
        read=partial(read, card, raw, cache),
        inputs=[card.model_dump(mode="json"), _local_hashes(card, raw)],
        facts=facts_of_card(card),
        category=card.category,
        symmetric=card.symmetric,
        languages=card.languages,
        quality=card.quality,
        title_in_passage=card.title_in_passage,
        weight=weight,
        max_rows=max_rows,
    )


def facts_of_card(card: DatasetCard) -> dict[str, Any]:
    """What a manifest says of a set: its terms, where it is from, its instructions."""
    return {
        "licence": card.licence.stated,
        "commercial": card.commercial,
        "commercial_reason": card.licence.reason,
        "licence_source": card.licence.source,
        "sources": [source.place if source.path is None else Path(source.place).name for source in card.sources],
        "revision": next((source.revision for source in card.sources if source.revision), None),
        "domain": card.domain,
        "query_instruction": card.query_instruction,
        "passage_instruction": card.passage_instruction,
        "citation": card.citation,
    }


def plan_of_path(path: Path, *, columns: Mapping[str, str] | None = None, name: str | None = None) -> SetPlan:
    """How a user's file or folder goes through the pipeline; a file of single texts is taken too.

    Args:
        columns: record field to column, where the names are not known ones.
        name: of the set; the file's name without its endings by default.

    Raises:
        DataError: there is no such file.
    """
    if not path.exists():
        raise DataError(f"there is no file or folder {path}")
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return SetPlan(
        name=name or path.resolve().name.split(".")[0] or "data",
        read=partial(_file_records, path, dict(columns or {})),
        inputs=[[[file.name, hash_file(file)] for file in files], dict(columns or {})],
        facts={"licence": "not stated", "commercial": "unknown", "sources": [path.name]},
    )


def plans_of_paths(
    paths: Sequence[Path], columns: Mapping[str, str] | None = None, *, taken: Sequence[str] = ()
) -> list[SetPlan]:
    """A plan for each file or folder, under different names; of a prepared folder, for each of its sets.

    Args:
        columns: see :func:`plan_of_path`.
        taken: names of other sets beside them.

    Raises:
        DataError: a file is not there.
    """
    plans: list[SetPlan] = []
    found = [plan for path in paths for plan in (_prepared_plans(path) or [plan_of_path(path, columns=columns)])]
    for plan in found:
        others = {*taken, *(other.name for other in plans)}
        number = 2
        while plan.name in others:
            plan = replace(plan, name=f"{plan.name.rsplit('~', 1)[0]}~{number}")
            number += 1
        plans.append(plan)
    return plans


def _prepared_plans(path: Path) -> list[SetPlan]:
    """A plan for each set of a folder that ``m3e data prepare`` wrote, with what its manifest says of it."""
    if not (path / MANIFEST).is_file():
        return []
    entries = [entry for entry in read_manifest(path)["datasets"] if entry["shards"]]
    facts = ("licence", "commercial", "sources", "query_instruction", "passage_instruction")
    return [
        replace(
            plan_of_path(path / Path(entry["shards"][0]["file"]).parent, name=entry["dataset"]),
            facts={name: entry[name] for name in facts if name in entry},
            category=entry["category"],
            symmetric=entry["symmetric"],
            languages=tuple(entry["languages"]),
            quality=entry["quality"],
            weight=entry["weight"],
        )
        for entry in entries
    ]


def _card_records(
    card: DatasetCard, raw: Path | None, cache: Path | None, account: Account
) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, record in open_card(card, raw=raw, cache=cache, account=account):
        yield kind, staged_row(record)


def _card_texts(
    card: DatasetCard, raw: Path | None, cache: Path | None, account: Account
) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in open_rows(card, raw=raw, cache=cache, account=account):
        text = _text_of(row)
        if text is None:
            account.rows -= 1
            account.dropped["not_text"] += 1
        else:
            yield TEXT_KIND, text_row(text)


def _file_records(
    path: Path, columns: dict[str, str], account: Account
) -> Iterator[tuple[str, dict[str, Any] | pa.RecordBatch]]:
    kind = None if columns or not path.is_file() else plain_kind(path)
    if kind is not None:
        for batch in stream_plain(path, kind, account):
            yield kind, batch
        return
    source = open_source(path, path.name).train
    account.note(*source.notes)
    for load in source.tables:
        table = load()
        if not columns and _is_single_text(table.columns):
            for row in table.rows:
                text = _text_of(row)
                if text is None:
                    account.dropped["not_text"] += 1
                else:
                    account.rows += 1
                    yield TEXT_KIND, text_row(text)
        else:
            for kind, record in stream_tables([lambda table=table: table], columns, account):  # type: ignore[misc]
                yield kind, staged_row(record)


def _is_single_text(columns: tuple[str, ...]) -> bool:
    """Whether a file holds one text a row: of its columns one is named as a text, and none as a second."""
    texts = [column for column in columns if column in _TEXT_COLUMNS]
    return len(texts) == 1 and set(columns) <= {*_NOT_TEXT, *texts}


def _text_of(row: Mapping[str, Any]) -> str | None:
    """The row's text: of the first column named as one, else of the first that holds one and is no label."""
    names = [name for name in _TEXT_COLUMNS if name in row] or [name for name in row if name not in _NOT_TEXT]
    found = [row[name] for name in names if isinstance(row[name], str)]
    return found[0] if found and not has_lone_surrogate(found[0]) else None


def _local_hashes(card: DatasetCard, raw: Path | None) -> list[list[str]]:
    """Names and hashes of the card's files that are on this machine; a revision or a URL identifies the others."""
    hashes = []
    for source in card.sources:
        if source.path is None:
            continue
        path = Path(source.path) if Path(source.path).is_absolute() or raw is None else raw / source.path
        if path.is_file():
            hashes.append([path.name, hash_file(path)])
        elif path.is_dir():
            listing = [[str(file.relative_to(path)), file.stat().st_size] for file in sorted(path.rglob("*"))]
            hashes.append([path.name, hash_settings(json.dumps(listing))])
    return hashes
