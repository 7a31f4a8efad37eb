"""Indexing: the documents of a file into a store, each under its id, whatever was killed or run before.

A row carries the hash of its text and metadata. A run encodes and writes only the documents whose hash the store
does not have, a batch at a time, so running it again after a kill goes on where it stopped, and running it twice
changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from m3e.errors import SettingsError
from m3e.retrieval.documents import Document, Documents, open_documents
from m3e.retrieval.stores import Row, Store, StoreModel, StoreWriter, model_of, open_store
from m3e.retrieval.stores.database import Vector, digest_of

if TYPE_CHECKING:
    from m3e.inference.encoder import Encoder

BATCH_ROWS = 1024

T = TypeVar("T")


@dataclass(frozen=True)
class IndexReport:
    """What a run of indexing did.

    Attributes:
        model: of the store's vectors.
        rows: of the input.
        written: documents encoded and written.
        unchanged: documents that the store already had.
        removed: documents of the store taken out: their text is blank now, or a rebuild's input lacks them.
        dropped: rows of the input that gave no document, by rule: ``blank``, ``duplicate_id``, ``zero_vector``.
        cut: texts longer than the model reads.
        total: documents in the store now.
        notes: lines to print.
    """

    model: StoreModel
    rows: int
    written: int
    unchanged: int
    removed: int
    dropped: dict[str, int]
    cut: int
    total: int
    notes: list[str]


@dataclass
class _Counts:
    written: int = 0
    unchanged: int = 0
    removed: int = 0
    zero_vector: int = 0
    cut: int = 0


def index_file(
    source: str | os.PathLike[str],
    url: str,
    model: str | os.PathLike[str] | Encoder,
    *,
    model_name: str = "a loaded model",
    field: str | None = None,
    id_field: str | None = None,
    batch: int = BATCH_ROWS,
    rebuild: bool = False,
    ann: bool = False,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
) -> IndexReport:
    """Put the documents of a file or folder into a store, and report what was done.

    The same id replaces. Rows whose text is blank are dropped, and so are rows whose id comes again later in the
    input and texts to which the model gives the vector of zeros.

    Args:
        source: jsonl, json, csv, tsv, parquet or txt, or a folder of them.
        url: of the store (:func:`m3e.retrieval.open_store`).
        model: what :func:`m3e.load` takes, or an encoder.
        model_name: what the store remembers an encoder's model by.
        field: the column of texts; by default ``text``, else the first that holds text.
        id_field: the column of ids; by default ``id`` or ``_id``, else ids are hashes of text and metadata.
        batch: documents encoded and written at a time.
        rebuild: the store shall hold the documents of ``source`` and no others, by this model; searches find the
            old documents until all the new ones are there.
        ann: build an index that answers sooner and approximately, for large collections.
        on_rows: called with documents done and documents in all.

    Raises:
        DataError: the input cannot be used; nothing was written.
        StoreError: the store holds another model's vectors and ``rebuild`` is false, or cannot be opened.
        SettingsError: a batch below 1, or a URL that is not understood.
    """
    if batch < 1:
        raise SettingsError(f"--batch must be at least 1, not {batch}")
    documents = open_documents(Path(source), field=field, id_field=id_field)
    encoder, name = _encoder(model, model_name)
    identity = model_of(encoder, name)
    with open_store(url, create=True) as store:
        writer = store.write(identity, source=documents.fingerprint, rebuild=rebuild, ann=ann)
        counts = _write(documents, encoder, writer, batch, on_rows)
        if writer.replaces:
            counts.removed = _left_out(store, writer, batch)
        writer.finish()
        return _report(documents, identity, counts, store.count())


def _encoder(model: str | os.PathLike[str] | Encoder, name: str) -> tuple[Encoder, str]:
    if not isinstance(model, str | os.PathLike):
        return model, name
    from m3e.inference.encoder import Encoder

    return Encoder(model), os.fspath(model)


def _write(
    documents: Documents,
    encoder: Encoder,
    writer: StoreWriter,
    batch: int,
    on_rows: Callable[[int, int], None],
) -> _Counts:
    counts, done = _Counts(), 0
    total = documents.rows - documents.duplicate_ids
    for part in _batches(documents, batch):
        _write_batch(part, encoder, writer, counts)
        done += len(part)
        on_rows(done, total)
    return counts


def _write_batch(documents: Sequence[Document], encoder: Encoder, writer: StoreWriter, counts: _Counts) -> None:
    by_id = {document.id: document for document in documents}
    known = writer.digests(list(by_id))
    texts = {key: document.text for key, document in by_id.items() if document.text is not None}
    fresh = {key: text for key, text in texts.items() if known.get(key) != digest_of(text, by_id[key].metadata)}
    vectors: Iterable[Vector] = encoder.encode_document(list(fresh.values())) if fresh else []
    rows = [
        Row(key, text, by_id[key].metadata, vector)
        for (key, text), vector in zip(fresh.items(), vectors, strict=True)
        if vector.any()
    ]
    writer.upsert(rows)
    # what a blank or unknown text leaves of an older document must not be found
    lost = [key for key in by_id if key in known and (key not in texts or key in fresh)]
    counts.removed += writer.delete(sorted({*lost} - {row.id for row in rows}))
    counts.written += len(rows)
    counts.unchanged += len(texts) - len(fresh)
    counts.zero_vector += len(fresh) - len(rows)
    counts.cut += encoder.cut if fresh else 0


def _left_out(store: Store, writer: StoreWriter, batch: int) -> int:
    """How many documents of the old table the new one lacks."""
    ids: Iterator[str] = (identifier for identifier, _ in store.texts())
    return sum(len(part) - len(writer.digests(part)) for part in _batches(ids, batch))


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


def _report(documents: Documents, model: StoreModel, counts: _Counts, total: int) -> IndexReport:
    dropped = {
        "blank": documents.blank,
        "duplicate_id": documents.duplicate_ids,
        "zero_vector": counts.zero_vector,
    }
    return IndexReport(
        model=model,
        rows=documents.rows,
        written=counts.written,
        unchanged=counts.unchanged,
        removed=counts.removed,
        dropped={rule: count for rule, count in dropped.items() if count},
        cut=counts.cut,
        total=total,
        notes=documents.notes,
    )
