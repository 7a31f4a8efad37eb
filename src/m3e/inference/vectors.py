"""Texts of a file to a file of vectors: one row a text, in order, resumable.

Finished chunks lie in a folder beside the output until all are there, with a marker that holds the hash of
the input and the settings; a killed run goes on from them, a changed input starts anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m3e.data.encodings import decode
from m3e.data.text_files import read_table
from m3e.errors import DataError, SettingsError
from m3e.files import atomic_file, hash_file, hash_settings, read_json, read_marker, write_json, write_marker
from m3e.inference.encoder import Encoder
from m3e.models.fingerprint import fingerprint

FORMATS = (".npy", ".parquet", ".safetensors")
TEXT_FIELDS = ("text", "sentence", "sentence1", "query", "question", "title", "content", "问题", "文本", "标题", "内容")
CHUNK_ROWS = 4096


@dataclass(frozen=True)
class EncodeReport:
    """What an encoding run wrote: rows, numbers a row, texts cut, chunks found finished, and the field read."""

    rows: int
    dimension: int
    cut: int
    resumed_chunks: int
    field: str
    out: Path


def encode_file(
    encoder: Encoder,
    source: Path,
    out: Path,
    *,
    field: str | None = None,
    prompt: str | None = None,
    dim: int | None = None,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
) -> EncodeReport:
    """Write one fp32 vector a row of ``source`` to ``out``.

    Args:
        source: jsonl, json, csv, tsv, parquet, or txt (one text a line).
        out: ``.npy`` (rows, dimension), ``.parquet`` (a list column ``vector``) or ``.safetensors`` (``vectors``).
        field: the column to encode; by default ``text``, else the first column that holds text.
        prompt: ``query`` or ``document``: put the model's prompt of that name before each text.
        dim: keep the first numbers only, scaled to length 1 again (Matryoshka).
        on_rows: called with rows done and rows in all.

    Raises:
        DataError: the file cannot be read, has no such field, or holds a row without text there.
        SettingsError: an output format, prompt or dimension that does not exist.
    """
    _check(encoder, out, prompt, dim)
    texts, chosen = read_texts(source, field)
    settings = {
        "model": fingerprint(encoder.model),
        "dtype": encoder.dtype,
        "field": chosen,
        "prompt": prompt,
        "dim": dim,
        "chunk": CHUNK_ROWS,
    }
    identity = {"input": hash_file(source), "settings": hash_settings(settings)}
    work = out.with_name(f".{out.name}.parts")
    resumed = _begin(work, identity)
    cut = _encode_chunks(encoder, texts, work, prompt, dim, on_rows)
    dimension = dim or encoder.dimension
    _assemble(work, out, len(texts), dimension)
    shutil.rmtree(work)
    return EncodeReport(len(texts), dimension, cut, resumed, chosen, out)


def read_texts(source: Path, field: str | None) -> tuple[list[str], str]:
    """The texts of a file's field, one a row, and the field's name.

    Raises:
        DataError: no such field, or a row whose value there is not a string, named by row.
    """
    if source.suffix.lower() == ".txt":
        lines = decode(source.read_bytes(), source.name).text.splitlines()
        if not lines:
            raise DataError(f"{source} has no rows")
        return lines, "line"
    table = read_table(source)
    rows = list(table.rows)
    chosen = field or _text_field(table.columns, rows)
    if chosen not in table.columns:
        raise DataError(
            f"{source} has no field {field or 'of text'!r}; it has: {', '.join(table.columns)}; use --field"
        )
    texts = []
    for index, row in enumerate(rows):
        value = row.get(chosen)
        if not isinstance(value, str):
            raise DataError(f"{table.place(index)}: {chosen} is {type(value).__name__}, not text")
        texts.append(value)
    return texts, chosen


def _text_field(columns: Sequence[str], rows: Sequence[Any]) -> str:
    known = next((name for name in TEXT_FIELDS if name in columns), None)
    if known:
        return known
    return next((name for name in columns if rows and isinstance(rows[0].get(name), str)), "")


def _check(encoder: Encoder, out: Path, prompt: str | None, dim: int | None) -> None:
    if out.suffix not in FORMATS:
        raise SettingsError(f"--out {out}: the ending must be one of {', '.join(FORMATS)}")
    if prompt not in (None, "query", "document"):
        raise SettingsError(f"--prompt {prompt!r} is not known; choose query or document")
    if dim is not None and not 1 <= dim <= encoder.dimension:
        raise SettingsError(f"--dim {dim} is outside 1..{encoder.dimension}, the model's own size")


def _begin(work: Path, identity: dict[str, str]) -> int:
    """Keep the finished chunks of the same run, remove those of another; how many were kept."""
    marker = read_marker(work)
    if marker is None or any(marker.get(key) != value for key, value in identity.items()):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_marker(work, "encode", **identity)
    return len(list(work.glob("*.npy")))


def _encode_chunks(
    encoder: Encoder,
    texts: list[str],
    work: Path,
    prompt: str | None,
    dim: int | None,
    on_rows: Callable[[int, int], None],
) -> int:
    encode = {"query": encoder.encode_query, "document": encoder.encode_document}.get(prompt or "", encoder.encode)
    cut = 0
    for start in range(0, len(texts), CHUNK_ROWS):
        target, counted = work / f"{start:012d}.npy", work / f"{start:012d}.json"
        if not (target.exists() and counted.exists()):
            vectors = encode(texts[start : start + CHUNK_ROWS])
            if dim:
                vectors = vectors[:, :dim] / np.maximum(np.linalg.norm(vectors[:, :dim], axis=1, keepdims=True), 1e-12)
            write_json(counted, {"cut": encoder.cut})
            with atomic_file(target) as temporary, temporary.open("wb") as stream:
                np.save(stream, vectors.astype(np.float32))
        cut += int(read_json(counted)["cut"])
        on_rows(min(start + CHUNK_ROWS, len(texts)), len(texts))
    return cut


def _chunks(work: Path) -> Iterator[np.ndarray[Any, Any]]:
    for path in sorted(work.glob("*.npy")):
        yield np.load(path)


def _assemble(work: Path, out: Path, rows: int, dimension: int) -> None:
    with atomic_file(out) as temporary:
        if out.suffix == ".parquet":
            _write_parquet(work, temporary)
            return
        path = temporary if out.suffix == ".npy" else work / "all.npy.tmp"
        vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, dimension))
        start = 0
        for chunk in _chunks(work):
            vectors[start : start + len(chunk)] = chunk
            start += len(chunk)
        vectors.flush()
        if out.suffix == ".safetensors":
            from safetensors.numpy import save_file

            save_file({"vectors": vectors}, temporary)


def _write_parquet(work: Path, target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for chunk in _chunks(work):
        kind = pa.list_(pa.float32(), chunk.shape[1])
        column = pa.FixedSizeListArray.from_arrays(pa.array(chunk.reshape(-1)), type=kind)
        table = pa.table({"vector": column})
        writer = writer or pq.ParquetWriter(target, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
