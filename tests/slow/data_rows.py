"""Rows for the slow tests of the data pipeline: of random characters, seeded, with duplicates and leaks planted."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

LETTERS = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜金生丽水玉出昆冈"
LEAKS = 40


def sentence(draw: random.Random, low: int, high: int) -> str:
    return "".join(draw.choices(LETTERS, k=draw.randint(low, high)))


def pairs(rows: int, seed: int) -> list[tuple[str, str]]:
    """Pairs; each tenth row is an earlier one again, typed otherwise or with one character changed."""
    draw = random.Random(seed)
    made: list[tuple[str, str]] = []
    for number in range(rows):
        if number > 10 and number % 10 == 0:
            text, positive = made[draw.randrange(number)]
            made.append((f" {text}！", positive) if number % 20 else (text, f"{positive[:40]}猫{positive[41:]}"))
        else:
            made.append((sentence(draw, 12, 30), sentence(draw, 60, 120)))
    return made


def write_pairs(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    table = pa.table({"text": [text for text, _ in rows], "text_pos": [positive for _, positive in rows]})
    pq.write_table(table, path)
    return path


def write_sets(folder: Path, rows: int) -> tuple[list[Path], Path]:
    """Files of every kind of row, some rows in two of them, and an evaluation file that shares texts with them."""
    first = pairs(rows, seed=1)
    second = [*first[: rows // 20], *pairs(rows // 4, seed=2)]
    paths = [write_pairs(folder / "first.parquet", first), write_pairs(folder / "second.parquet", second)]
    negatives = pairs(rows // 8, seed=3)
    paths.append(folder / "triplets.jsonl")
    paths[-1].write_text(
        "".join(
            json.dumps({"text": text, "text_pos": positive, "text_neg": negatives[-number][0]}, ensure_ascii=False)
            + "\n"
            for number, (text, positive) in enumerate(negatives, start=1)
        ),
        "utf-8",
    )
    paths.append(folder / "scored.csv")
    with paths[-1].open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["sentence1", "sentence2", "label"])
        writer.writerows((text, other, number % 2) for number, (text, other) in enumerate(pairs(rows // 8, seed=4)))
    evaluation = folder / "leaks.dev.parquet"
    originals = [pair for number, pair in enumerate(first[:200]) if number % 10]
    leaks = [*originals[:LEAKS], *((f"{text[:-1]}狗", f"{positive[:-1]}狗") for text, positive in originals[LEAKS:])]
    return paths, write_pairs(evaluation, leaks)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
