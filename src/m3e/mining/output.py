"""Where mined and scored rows go: a prepared folder, made like the one that came, or a file of records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from m3e import __version__
from m3e.data.bloom import FILE_NAME, TextFilter
from m3e.data.keys import hashes_of_keys, text_keys
from m3e.data.manifest import MANIFEST, dataset_card
from m3e.data.prepare import remove_old_shards
from m3e.data.shards import ShardWriter
from m3e.data.staging import STAGED, TEXT_KIND, shard_table
from m3e.errors import DataError, OutputExistsError, SettingsError
from m3e.files import (
    atomic_file,
    atomic_folder,
    check_output_folder,
    hash_settings,
    remove_partial,
    write_json,
    write_marker,
)

DECIMALS = 6
"""Of scores that are written: more are noise of fp32."""

FILE_ENDINGS = (".jsonl", ".parquet")

Entry = dict[str, Any]
"""What a manifest says of a data set."""


def check_out(source: Path, out: Path, *, prepared: bool, overwrite: bool, step: str) -> None:
    """Refuse before the work an output that is of the wrong form, or would take another file's place.

    Raises:
        SettingsError: a file where a folder is wanted, or the other way round, or the input itself.
        OutputExistsError: it holds something else.
    """
    if out.exists() and source.exists() and out.resolve() == source.resolve():
        raise SettingsError(f"--out {out} is the input; name another place")
    if prepared:
        if out.suffix in FILE_ENDINGS:
            raise SettingsError(f"{source} is a prepared folder, so --out is one too; name a folder, not {out}")
        check_output_folder(out, overwrite=overwrite, step=step)
        return
    if out.suffix not in FILE_ENDINGS:
        raise SettingsError(f"--out {out}: name a file that ends in {' or '.join(FILE_ENDINGS)}")
    if out.is_dir():
        raise OutputExistsError(f"--out {out} is a folder; name a file in it")
    if out.exists() and not overwrite:
        raise OutputExistsError(f"--out {out} is there already; choose another, or pass --overwrite to replace it")


def write_file(out: Path, tables: Iterable[pa.Table], kind: str, *, many_negatives: bool = False) -> None:
    """Write staged rows as records of a kind, to jsonl or parquet by the ending."""
    records = (shard_table(table, kind, "", many_negatives=many_negatives).drop_columns("dataset") for table in tables)
    with atomic_file(out) as temporary:
        if out.suffix == ".parquet":
            _write_parquet(temporary, records)
        else:
            _write_lines(temporary, records)


def _write_parquet(path: Path, records: Iterator[pa.Table]) -> None:
    writer = None
    for table in records:
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is None:
        raise DataError("no row is left; nothing was written")
    writer.close()


def _write_lines(path: Path, records: Iterator[pa.Table]) -> None:
    rows = 0
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for table in records:
            rows += table.num_rows
            for row in table.to_pylist():
                known = {name: value for name, value in row.items() if value is not None}
                stream.write(json.dumps(known, ensure_ascii=False, allow_nan=False) + "\n")
    if not rows:
        raise DataError("no row is left; nothing was written")


def write_set(
    folder: Path, entry: Entry, tables: Iterable[pa.Table], kind: str, *, many_negatives: bool = False
) -> Entry:
    """Write a data set's rows as shards into an output folder; the manifest's entry with them."""
    place = folder / entry["dataset"].replace("/", "__")
    place.mkdir()
    writer = ShardWriter(place)
    rows = 0
    for table in tables:
        if table.num_rows:
            shard = shard_table(table, kind, entry["dataset"], many_negatives=many_negatives)
            writer.add(shard, _text_bytes(table))
            rows += table.num_rows
    return _with_shards(entry, kind, rows, writer.close())


def copy_set(source: Path, folder: Path, entry: Entry) -> Entry:
    """Copy a data set's shards as they are; its entry."""
    for shard in entry["shards"]:
        path = folder / shard["file"]
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(source / shard["file"], path)
    return entry


def write_folder(
    source: Path,
    out: Path,
    manifest: Mapping[str, Any],
    make: Callable[[Path], list[Entry]],
    *,
    step: Mapping[str, Any],
    inputs: str | None,
    new_texts: bool,
    report: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """Write a prepared folder beside the one that its rows came from; its manifest.

    Args:
        manifest: of the folder that came.
        make: called with the output folder; gives the entries of its data sets.
        step: what was done, for the manifest's list of steps.
        inputs: a hash of all that the output depends on; ``None`` where that is not known.
        new_texts: whether texts came in or went, so that the filter of texts is made anew and not copied.
        report: gives what was done, for the marker, when all is written.

    Raises:
        DataError: no row is left.
    """
    remove_partial(out.resolve().parent, out.resolve().name)
    with atomic_folder(out) as folder:
        datasets = make(folder)
        written = _manifest(manifest, datasets, step)
        if not written["rows_out"]:
            raise DataError("no row is left; nothing was written")
        if new_texts or not (source / FILE_NAME).is_file():
            written["texts"] = _write_filter(folder, datasets)
        else:
            shutil.copyfile(source / FILE_NAME, folder / FILE_NAME)
        write_json(folder / MANIFEST, written)
        card = dataset_card(written, out.resolve().name) + _steps_section(written["steps"])
        (folder / "README.md").write_text(card, encoding="utf-8")
        write_marker(folder, f"data {step['step']}", inputs=inputs, report=report())
    remove_old_shards(out, written)
    return written


def _manifest(before: Mapping[str, Any], datasets: Sequence[Entry], step: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "policy": "any",
        "evaluation": [],
        "by_pair": [],
        "texts": 0,
        **before,
        "version": __version__,
        "rows_out": sum(entry["rows_out"] for entry in datasets),
        "pairs_out": sum(entry["rows_out"] for entry in datasets if entry["kind"] != TEXT_KIND),
        "datasets": list(datasets),
        "content_hash": hash_settings([[entry["dataset"], entry["content_hash"]] for entry in datasets]),
        "steps": [*before.get("steps", []), dict(step)],
    }


def _with_shards(entry: Entry, kind: str, rows: int, shards: list[dict[str, Any]]) -> Entry:
    content = hash_settings([shard["sha256"] for shard in shards])
    return {**entry, "kind": str(kind), "rows_out": rows, "shards": shards, "content_hash": content}


def _text_bytes(table: pa.Table) -> int:
    lists = [pc.binary_length(pc.list_flatten(table[name])) for name in ("positives", "negatives")]
    return sum(pc.sum(lengths).as_py() or 0 for lengths in (pc.binary_length(table["query"]), *lists))


def _write_filter(folder: Path, datasets: Iterable[Entry]) -> int:
    """Make the filter of all texts of the shards; how many there are."""
    hashes = [np.empty(0, np.uint64)]
    for entry in datasets:
        for shard in entry["shards"]:
            hashes.append(np.unique(np.concatenate([np.empty(0, np.uint64), *_shard_hashes(folder / shard["file"])])))
    different = np.unique(np.concatenate(hashes))
    seen = TextFilter(len(different))
    seen.add_hashes(different)
    seen.save(folder / FILE_NAME)
    return seen.texts


def _shard_hashes(path: Path) -> Iterator[Any]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        names = [field.name for field in file.schema_arrow if field.name != "dataset" and _holds_text(field.type)]
        for batch in file.iter_batches(batch_size=8192, columns=names):
            for column in batch.columns:
                texts = column if pa.types.is_large_string(column.type) else column.flatten()
                yield hashes_of_keys(text_keys(texts.drop_null().to_pylist()))


def _holds_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(getattr(kind, "value_type", kind)))


def _steps_section(steps: Sequence[Mapping[str, Any]]) -> str:
    lines = ["", "## Made with models", "", "| step | model | licence | fingerprint |", "|---|---|---|---|"]
    for step in steps:
        for model in step["models"]:
            licence = " ".join(str(model["licence"]).replace("|", "/").split())
            lines.append(f"| {step['step']} | {model['name']} | {licence} | {model['fingerprint'][:16]} |")
    return "\n".join(lines) + "\n"


def staged_table(rows: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Rows by the columns of :data:`~m3e.data.staging.STAGED`; those left out are empty."""
    count = len(rows["query"])
    nothing: dict[str, list[Any]] = {"positives": [[]] * count, "negatives": [[]] * count}
    values = [rows.get(name, nothing.get(name, [None] * count)) for name in STAGED.names]
    columns = [pa.array(value, field.type) for value, field in zip(values, STAGED, strict=True)]
    return pa.table(columns, schema=STAGED)
