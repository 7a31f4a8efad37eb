"""Evaluation sets that mteb does not have, from a hub, by the catalogue's cards; kept in the cache in our layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from m3e.catalogue.cards import DatasetCard, Fields, RowMapping, Source
from m3e.catalogue.shelf import find_card, shipped_cards
from m3e.data.card_records import open_rows
from m3e.data.streams import Account
from m3e.data.tables import Row
from m3e.errors import DataError
from m3e.evaluation import t2ranking
from m3e.evaluation.local_files import as_text
from m3e.evaluation.task_cards import T2RANKING, TaskCard
from m3e.files import atomic_file, cache_folder, hash_settings


def place(card: TaskCard) -> str:
    """The hub id of a task's set, with its configuration."""
    source = _set_of(card).sources[0]
    return f"{source.hub}:{source.config}" if source.config and card.files != T2RANKING else str(source.hub)


def wanted_files(card: TaskCard) -> str:
    """The files that would do instead of the hub."""
    if card.files == T2RANKING:
        return f"{', '.join(t2ranking.FILES)} into its folder {T2RANKING}/"
    columns = "text, label" if card.kind == "classification" else "sentence1, sentence2, label"
    names = [f"{card.files}.{split}.parquet" for split in (card.splits[0], *card.train[:1])]
    return f"{' and '.join(names)} ({columns})"


def is_kept(card: TaskCard) -> bool:
    """Whether the set was fetched before."""
    folder = _folder(card)
    if card.files == T2RANKING:
        return not t2ranking.missing_files(folder)
    return all(_path(card, split).is_file() for split in (card.splits[0], *card.train[:1]))


def fetch_set(card: TaskCard) -> Path:
    """The folder in the cache that holds a task's files, read from the hub where they are not there yet.

    Raises:
        DataError: the hub does not give the set, or its rows lack what the card maps.
    """
    known = _set_of(card)
    if card.files == T2RANKING:
        for config in t2ranking.CONFIGS:
            path = _folder(card) / f"{config}.tsv"
            if not path.is_file():
                with atomic_file(path) as temporary:
                    t2ranking.write_table(temporary, config, _rows(_at(known, config), RowMapping()))
        return _folder(card)
    for split in (card.splits[0], *card.train[:1]):
        if not _path(card, split).is_file():
            sources = known.sources if split == card.splits[0] else _splits(known.sources, split)
            _write(_path(card, split), known.model_copy(update={"sources": sources}))
    return _folder(card)


def _set_of(card: TaskCard) -> DatasetCard:
    return find_card(card.hub or card.name, shipped_cards())


def _folder(card: TaskCard) -> Path:
    known = _set_of(card)
    key = hash_settings([source.model_dump(mode="json") for source in known.sources])[:12]
    return cache_folder() / "evaluation" / f"{known.name}.{key}"


def _path(card: TaskCard, split: str) -> Path:
    return _folder(card) / f"{card.files}.{split}.parquet"


def _splits(sources: tuple[Source, ...], split: str) -> tuple[Source, ...]:
    return tuple(source.model_copy(update={"splits": (split,)}) for source in sources)


def _at(known: DatasetCard, config: str) -> DatasetCard:
    """The card of one configuration of a set."""
    source = known.sources[0].model_copy(update={"config": config, "part": ""})
    return known.model_copy(update={"sources": (source,)})


def _rows(known: DatasetCard, mapping: RowMapping) -> Iterator[Row]:
    yield from open_rows(known.model_copy(update={"mapping": mapping}), account=Account())


def _write(path: Path, known: DatasetCard) -> None:
    """Write the rows of a set of labelled texts or pairs, labels as text."""
    fields = known.mapping.fields[0]
    mapping = RowMapping(fields=(fields.model_copy(update={"label": fields.label or "label"}),))
    texts = [
        name for name in Fields.model_fields if name in ("text", "sentence1", "sentence2") and getattr(fields, name)
    ]
    columns: dict[str, list[str | None]] = {name: [] for name in (*texts, "label")}
    for row in _rows(known, mapping):
        for name in texts:
            value = row.get(name)
            columns[name].append(value if isinstance(value, str) else None)
        label = row.get("label")
        columns["label"].append(None if label is None else as_text(label))
    if not columns["label"] or not any(label is not None for label in columns["label"]):
        raise DataError(f"{known.name}: the hub's rows have no labels")
    with atomic_file(path) as temporary:
        pq.write_table(pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}), temporary)
