"""The vectors of a corpus in parquet files, encoded a batch at a time: neither texts nor vectors are held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from m3e.errors import DataError
from m3e.files import hash_file, hash_settings
from m3e.inference.encoder import Encoder
from m3e.models.fingerprint import fingerprint
from m3e.retrieval.vector_folder import Precision, VectorFolder, VectorWriter

BATCH_ROWS = 8192


def write_corpus_vectors(
    encoder: Encoder,
    files: Sequence[Path],
    folder: Path,
    *,
    dtype: Precision = "fp16",
    on_rows: Callable[[int, int], None] = lambda done, total: None,
) -> VectorFolder:
    """A folder with one vector a document of ``files``, in order; what is there of the same run is not encoded again.

    Args:
        files: parquet with the columns id and text, and optionally title, which goes before the text.
        folder: absent, empty, or of an earlier run; with another model, prompt or corpus it is written anew.
        dtype: of the stored numbers.
        on_rows: called with documents done and documents in all.

    Raises:
        DataError: a file without these columns, or a document without text; names the file and row.
    """
    import pyarrow.parquet as pq

    total = sum(pq.ParquetFile(path).metadata.num_rows for path in files)
    writer = VectorWriter(folder, encoder.dimension, dtype, _fingerprint(encoder, files))
    if not writer.finished:
        first = writer.rows
        done = 0
        for texts in _texts(files):
            done += len(texts)
            if done > first:
                writer.append(encoder.encode_document(texts[max(0, len(texts) - (done - first)) :]))
                on_rows(done, total)
    return writer.finish(list(_ids(files)))


def _fingerprint(encoder: Encoder, files: Sequence[Path]) -> str:
    facts = [fingerprint(encoder.model), encoder.dtype, encoder.model.prompts, encoder.model.max_seq_length]
    return hash_settings([*facts, *(hash_file(path) for path in files)])


def _texts(files: Sequence[Path]) -> Iterator[list[str]]:
    for path, start, batch in _batches(files, ("title", "text")):
        texts = batch["text"]
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"{path}: row {start + index + 1} has no text")
        titles = batch.get("title", [None] * len(texts))
        yield [f"{title} {text}".strip() if title else text for title, text in zip(titles, texts, strict=True)]


def _ids(files: Sequence[Path]) -> Iterator[str]:
    for _, _, batch in _batches(files, ("id",)):
        yield from map(str, batch["id"])


def _batches(files: Sequence[Path], wanted: Sequence[str]) -> Iterator[tuple[Path, int, dict[str, list[Any]]]]:
    import pyarrow.parquet as pq

    for path in files:
        with pq.ParquetFile(path) as source:
            columns = [name for name in wanted if name in source.schema_arrow.names]
            lost = {"id", "text"} - set(source.schema_arrow.names)
            if lost:
                raise DataError(f"{path} has no column {', '.join(sorted(lost))}; a corpus needs id and text")
            start = 0
            for batch in source.iter_batches(BATCH_ROWS, columns=columns):
                yield path, start, batch.to_pydict()
                start += batch.num_rows
