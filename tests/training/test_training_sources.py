"""Prepared folders as sources: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3e.errors import DataError
from m3e.files import read_json, write_json
from m3e.records import Kind
from m3e.training.sources import read_sources, shard_rows
from tests.training.prepared import records, write_prepared


def test_sources_are_the_sets_with_rows(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "data", {"faq": records(Kind.PAIR, 25)}, shard_rows=10)
    manifest = read_json(folder / "manifest.json")
    manifest["datasets"].append({"dataset": "gone", "kind": "pair", "rows_out": 0, "shards": [], "content_hash": ""})
    write_json(folder / "manifest.json", manifest)
    (source,) = read_sources(folder)
    assert (source.name, source.kind, source.rows, len(source.shards)) == ("faq", "pair", 25, 3)


def test_triplets_have_three_texts_a_row(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "data", {"triplets": records(Kind.TRIPLET, 4)})
    (rows,) = shard_rows(read_sources(folder)[0].shards[0], "triplet")
    wanted = [text for row in records(Kind.TRIPLET, 4) for text in (row.text, row.text_pos, row.text_neg)]  # type: ignore[union-attr]
    assert rows.texts == wanted
    assert rows.slots.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]


def test_negatives_are_limited(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "data", {"ranked": records(Kind.RANKED, 8)})
    (rows,) = shard_rows(read_sources(folder)[0].shards[0], "ranked", negatives=1)
    assert rows.slots.shape[1] == 3
    assert (rows.slots[:, 2] >= 0).sum() == 10  # those of records 1, 2, 3, 5, 6 and 7, some of two positives


def test_no_manifest_no_rows_no_shard(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json; m3e data prepare writes one"):
        read_sources(tmp_path)
    write_json(tmp_path / "manifest.json", {"datasets": []})
    with pytest.raises(DataError, match="holds no rows to train on"):
        read_sources(tmp_path)
    folder = write_prepared(tmp_path / "data", {"faq": records(Kind.PAIR, 5)})
    shard = folder / "faq" / "00000.parquet"
    shard.unlink()
    with pytest.raises(DataError, match=r"00000\.parquet is missing, which .* names"):
        read_sources(folder)


def test_a_shard_of_another_kind_is_named(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "data", {"faq": records(Kind.PAIR, 5)})
    with pytest.raises(DataError, match=r"00000\.parquet cannot be read as a shard of scored_pair records"):
        list(shard_rows(folder / "faq" / "00000.parquet", "scored_pair"))
