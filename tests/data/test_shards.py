"""Shards: sorted, bounded, and the same bytes whatever the buckets and the order in which rows came."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3e.data import shards as module
from m3e.data.bloom import TextFilter
from m3e.data.keys import hash_of_key, hashes_of_keys, text_keys
from m3e.data.pipeline import EvaluationTexts, PipelineOptions, SetPlan, Staged, stage
from m3e.data.shards import write_shards
from m3e.files import hash_file

OPTIONS = PipelineOptions(normalise=False, filters=None, near_duplicates=None)
RNG = random.Random(0)
ROWS = [(f"问题{number}", "答" * RNG.randint(1, 60) + str(number)) for number in range(700)]


def staged_of(folder: Path, rows: list[tuple[str, dict[str, Any]]], name: str = "a") -> Staged:
    return stage(SetPlan(name, lambda account: iter(rows), 0), OPTIONS, EvaluationTexts(), folder / "work" / name, "0")


def pair(query: str, passage: str) -> tuple[str, dict[str, Any]]:
    return "pair", {"query": query, "positives": [passage], "negatives": []}


def written(
    staged: Staged, folder: Path, verdicts: np.ndarray | None = None
) -> tuple[list[dict[str, Any]], TextFilter]:
    seen = TextFilter(staged.rows * 2)
    verdicts = np.zeros(staged.rows, np.uint8) if verdicts is None else verdicts
    return write_shards(staged, verdicts, folder / staged.plan.folder, seen), seen


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Staged:
    return staged_of(tmp_path_factory.mktemp("staged"), [pair(*row) for row in ROWS])


def content(query: str, passage: str) -> int:
    return hash_of_key(f"{query}\x1e{passage}") ^ hash_of_key("pair")


def test_rows_are_sorted_by_content_and_shards_bounded(pairs: Staged, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "SHARD_ROWS", 250)
    monkeypatch.setattr(module, "_GROUP_ROWS", 100)
    shards, seen = written(pairs, tmp_path)
    assert [(shard["file"], shard["rows"]) for shard in shards] == [
        ("a/00000.parquet", 200),
        ("a/00001.parquet", 200),
        ("a/00002.parquet", 200),
        ("a/00003.parquet", 100),
    ]
    assert [shard["sha256"] for shard in shards] == [hash_file(tmp_path / shard["file"]) for shard in shards]
    table = pa.concat_tables([pq.read_table(tmp_path / shard["file"]) for shard in shards])
    assert table.column_names == ["text", "text_pos", "dataset"]
    rows = [(row["text"], row["text_pos"]) for row in table.to_pylist()]
    assert rows == sorted(ROWS, key=lambda row: content(*row))
    assert set(table["dataset"].to_pylist()) == {"a"}
    assert seen.texts == 1400
    assert seen.has([text for row in ROWS for text in row]).all()


def test_shards_are_bounded_by_bytes_too(pairs: Staged, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_GROUP_BYTES", 1_000)
    monkeypatch.setattr(module, "SHARD_BYTES", 10_000)
    shards, _ = written(pairs, tmp_path)
    for shard in shards[:-1]:
        rows = pq.read_table(tmp_path / shard["file"]).to_pylist()
        size = sum(len((row["text"] + row["text_pos"]).encode()) for row in rows)
        assert 10_000 < size < 11_500
    assert sum(shard["rows"] for shard in shards) == 700


@pytest.mark.parametrize("bucket_bytes", [20_000, 3_000, 200])
def test_the_same_bytes_whatever_the_buckets(pairs: Staged, tmp_path: Path, monkeypatch, bucket_bytes: int) -> None:
    monkeypatch.setattr(module, "SHARD_ROWS", 250)
    monkeypatch.setattr(module, "_GROUP_ROWS", 90)
    monkeypatch.setattr(module, "_GROUP_BYTES", 8_000)
    whole, seen = written(pairs, tmp_path / "whole")
    monkeypatch.setattr(module, "_BUCKET_BYTES", bucket_bytes)
    parts, again = written(pairs, tmp_path / "parts")
    assert parts == whole
    assert (again.bits == seen.bits).all()
    assert [path.name for path in pairs.folder.glob("bucket-*")] == []


def test_the_same_bytes_whatever_order_the_engine_gives_rows_in(pairs: Staged, tmp_path: Path, monkeypatch) -> None:
    shards, _ = written(pairs, tmp_path / "one")
    table = pq.read_table(pairs.clean_path)
    order = np.random.default_rng(1).permutation(table.num_rows)
    shuffled = table.take(order)
    other = tmp_path / "work"
    other.mkdir()
    pq.write_table(shuffled, other / "clean.parquet", row_group_size=17)
    for path in pairs.folder.glob("*.npy"):
        (other / path.name).write_bytes(path.read_bytes())
    moved = Staged(pairs.plan, other, pairs.kind, pairs.rows, pairs.rows_in, {}, [], [])
    monkeypatch.setattr(module, "_BUCKET_BYTES", 5_000)
    assert written(moved, tmp_path / "two")[0] == shards


def test_only_rows_that_stay_are_written(pairs: Staged, tmp_path: Path) -> None:
    verdicts = np.ones(700, np.uint8)
    verdicts[[5, 600]] = 0
    shards, seen = written(pairs, tmp_path, verdicts)
    rows = pq.read_table(tmp_path / shards[0]["file"]).to_pylist()
    assert {row["text"] for row in rows} == {"问题5", "问题600"}
    assert seen.texts == 4
    assert written(pairs, tmp_path / "none", np.ones(700, np.uint8))[0] == []
    assert not (tmp_path / "none").exists()


def test_every_kind_s_columns(tmp_path: Path) -> None:
    triplet = {"query": "问", "positives": ["答"], "negatives": ["错"]}
    scored = {"query": "甲", "positives": ["乙"], "negatives": [], "label": 0.5}
    ranked = {
        "query": "问",
        "positives": ["答", "对"],
        "negatives": ["错"],
        "positive_scores": [0.9, 0.8],
        "negative_scores": None,
    }
    sets = {
        "triplet": ([triplet], [{"text": "问", "text_pos": "答", "text_neg": "错", "dataset": "triplet"}]),
        "scored_pair": ([scored], [{"sentence1": "甲", "sentence2": "乙", "label": 0.5, "dataset": "scored_pair"}]),
        "ranked": (
            [ranked],
            [
                {
                    "query": "问",
                    "pos": ["答", "对"],
                    "neg": ["错"],
                    "pos_scores": [0.9, 0.8],
                    "neg_scores": None,
                    "dataset": "ranked",
                }
            ],
        ),
        "text": ([{"query": "单独一条", "positives": [], "negatives": []}], [{"text": "单独一条", "dataset": "text"}]),
    }
    for kind, (rows, expected) in sets.items():
        shards, _ = written(staged_of(tmp_path, [(kind, row) for row in rows], kind), tmp_path)
        assert pq.read_table(tmp_path / shards[0]["file"]).to_pylist() == expected


def test_one_row_with_many_negatives_makes_lists_of_all(tmp_path: Path) -> None:
    rows = [
        ("triplet", {"query": "问", "positives": ["答"], "negatives": ["错"]}),
        ("triplet", {"query": "又问", "positives": ["又答"], "negatives": ["错", "又错"]}),
    ]
    staged = staged_of(tmp_path, rows)
    shards, seen = written(staged, tmp_path)
    table = pq.read_table(tmp_path / shards[0]["file"])
    assert {row["text"]: row["text_neg"] for row in table.to_pylist()} == {"问": ["错"], "又问": ["错", "又错"]}
    assert seen.texts == 7
    assert seen.has_hashes(hashes_of_keys(text_keys(["又错"]))).all()
    only = np.array([0, 1], np.uint8)  # of the rows that stay, none has several
    shards, _ = written(staged, tmp_path / "only", only)
    assert pq.read_table(tmp_path / "only" / shards[0]["file"])["text_neg"].to_pylist() == ["错"]
