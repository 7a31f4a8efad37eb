"""What a model folder says of the texts that went into it: the manifest and the filter of the data it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from m3e.data.bloom import FILE_NAME, TextFilter
from m3e.data.keys import hashes_of_keys, text_keys
from m3e.data.manifest import MANIFEST, read_manifest
from m3e.errors import DataError
from m3e.files import hash_settings, write_json

_TEXT_COLUMNS = ("text", "text_pos", "text_neg", "sentence1", "sentence2", "query", "pos", "neg")
_ROWS_AT_ONCE = 8192


def carry(sources: Sequence[Path], folder: Path) -> list[Path]:
    """Write ``manifest.json`` and ``texts.bloom`` of all sources into a model folder; the sources that have a manifest.

    Sources are prepared data folders, and folders of models that training started from. A model without a manifest
    adds nothing: what it was trained on is not known. Data of two sources that are the same count once.

    Raises:
        DataError: a source's manifest, filter or shards cannot be read.
    """
    known = [source for source in dict.fromkeys(sources) if (source / MANIFEST).is_file()]
    if not known:
        return []
    manifests = [read_manifest(source) for source in known]
    TextFilter.union([_filter_of(*pair) for pair in zip(known, manifests, strict=True)]).save(folder / FILE_NAME)
    write_json(folder / MANIFEST, joined_manifest(manifests))
    return known


def joined_manifest(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One manifest of several, each data set of equal content once."""
    if len(manifests) == 1:
        return dict(manifests[0])
    datasets = {
        (entry["dataset"], entry.get("content_hash")): entry for manifest in manifests for entry in manifest["datasets"]
    }
    entries = list(datasets.values())
    policies = {manifest.get("policy", "any") for manifest in manifests}
    return {
        "version": manifests[0].get("version"),
        "policy": policies.pop() if len(policies) == 1 else "any",
        "rows_in": sum(entry.get("rows_in", 0) for entry in entries),
        "rows_out": sum(entry["rows_out"] for entry in entries),
        "pairs_out": sum(entry["rows_out"] for entry in entries if entry["kind"] != "text"),
        "texts": sum(manifest.get("texts", 0) for manifest in manifests),
        # rows were compared with these in every folder, or not in all
        "evaluation": sorted(set.intersection(*(set(manifest.get("evaluation", [])) for manifest in manifests))),
        "by_pair": [pair for manifest in manifests for pair in manifest.get("by_pair", [])],
        "failed": {name: why for manifest in manifests for name, why in manifest.get("failed", {}).items()},
        "datasets": entries,
        "content_hash": hash_settings([[entry["dataset"], entry.get("content_hash")] for entry in entries]),
    }


def _filter_of(folder: Path, manifest: Mapping[str, Any]) -> TextFilter:
    """The folder's filter; where it has none, one of its shards' texts."""
    if (folder / FILE_NAME).is_file():
        return TextFilter.load(folder / FILE_NAME)
    shards = [folder / shard["file"] for entry in manifest["datasets"] for shard in entry["shards"]]
    missing = next((shard for shard in shards if not shard.is_file()), None)
    if missing is not None:
        raise DataError(f"{folder} has no {FILE_NAME}, and {missing} is missing, of whose texts one could be made")
    texts = [_hashes(shard) for shard in shards]
    found = TextFilter(sum(len(part) for hashes in texts for part in hashes))
    for hashes in texts:
        for part in hashes:
            found.add_hashes(part)
    return found


def _hashes(shard: Path) -> list[Any]:
    """The hashes of a shard's texts, some thousand rows' at a time."""
    import pyarrow.parquet as pq

    found = []
    with pq.ParquetFile(shard, pre_buffer=False) as file:
        columns = [name for name in _TEXT_COLUMNS if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns):
            cells = [cell for name in columns for cell in batch[name].to_pylist()]
            texts = [text for cell in cells for text in (cell if isinstance(cell, list) else [cell]) if text]
            found.append(hashes_of_keys(text_keys(texts)))
    return found
