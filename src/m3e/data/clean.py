"""The plan that every row goes through by itself: normalise, judge by the rules, make keys and signatures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from m3e.data.contamination import NearIndex, row_hash
from m3e.data.engine import start_engine, stream
from m3e.data.filters import Filters, Rows, Side, broken_rules
from m3e.data.keys import hashes_of_keys, text_keys
from m3e.data.near import GRAM, HASHES, SHORT
from m3e.data.normalise import normalise_all

_TEXTS = pa.large_list(pa.large_string())
_CLEANED = pa.struct(
    [
        ("query", pa.large_string()),
        ("positives", _TEXTS),
        ("negatives", _TEXTS),
        ("rule", pa.uint8()),
        ("content", pa.uint64()),
        ("unordered", pa.uint64()),
        ("hashes", pa.large_list(pa.uint64())),
        ("near", pa.bool_()),
        ("left", pa.large_string()),
        ("right", pa.large_string()),
    ]
)


@dataclass(frozen=True)
class CleanOptions:
    """What is done with each row of a set.

    Attributes:
        normalise: write tidy texts; else they stay as they were.
        simplified: turn traditional characters into simplified ones.
        filters: the rules; ``None`` keeps every row that is not blank.
        signatures: make MinHash signatures, for near-duplicates.
        near_index: folder of a saved :class:`~m3e.data.contamination.NearIndex`, or ``None``.
        languages: of the set.
        symmetric: whether the two sides of a row may be swapped.
        scored: whether rows are scored pairs.
        code: whether positives and negatives are source code, which nothing touches.
        title_in_passage: drop rows whose text stands in its positive.
    """

    normalise: bool = True
    simplified: bool = False
    filters: Filters | None = None
    signatures: bool = True
    near_index: str | None = None
    languages: tuple[str, ...] = ("zh",)
    symmetric: bool = False
    scored: bool = False
    code: bool = False
    title_in_passage: bool = False


def clean(path: Path, options: CleanOptions) -> Iterator[pa.RecordBatch]:
    """Staged rows, cleaned and judged, in batches of any order.

    Beside the columns of :data:`~m3e.data.staging.STAGED` there are ``rule`` (0, or 1 + the index of the rule
    broken), ``content`` (the hash of the row's keys, side by side), ``unordered`` (the same whatever the order of
    its texts), ``hashes`` (of each text's key), ``near`` (nearly an evaluation text), and with signatures
    ``left`` and ``right``: MinHash values of the two sides, ``HASHES`` each.
    """
    daft = start_engine()
    from daft.functions import minhash

    def cleaned(query: Any, positives: Any, negatives: Any) -> pa.StructArray:
        return clean_batch(query.to_arrow(), positives.to_arrow(), negatives.to_arrow(), options)

    judge = daft.func.batch(return_dtype=daft.DataType.from_arrow_type(_CLEANED), unnest=True)(cleaned)
    col = daft.col
    frame = daft.read_parquet(_without_wildcards(path)).select(
        *(col(name) for name in ("row", "label", "positive_scores", "negative_scores")),
        judge(col("query"), col("positives"), col("negatives")),
    )
    if options.signatures:
        for side in ("left", "right"):
            signature = minhash(col(side), num_hashes=HASHES, ngram_size=GRAM, seed=1, hash_function="xxhash3_64")
            frame = frame.with_column(side, signature)
    return stream(frame)


def _without_wildcards(path: Path) -> str:
    """The path as Daft takes it, which would look for other files where a folder's name has brackets."""
    return re.sub(r"([\\\[\]{}*?])", r"\\\1", str(path))


def clean_batch(query: pa.Array, positives: pa.Array, negatives: pa.Array, options: CleanOptions) -> pa.StructArray:
    """The columns that :func:`clean` describes, of some rows; ``left`` and ``right`` still as texts to be hashed."""
    count = len(query)
    sides = [_side(query, options, natural=True)]
    sides += [_side(lists, options, natural=not options.code) for lists in (positives, negatives)]
    rule = np.zeros(count, np.uint8)
    if options.filters is not None:
        query_side, positive_side, negative_side = sides
        rows = Rows(
            count,
            query_side,
            positive_side,
            negative_side,
            languages=options.languages,
            scored=options.scored,
            code=options.code,
            title_in_passage=options.title_in_passage,
        )
        rule = broken_rules(options.filters, rows)
    keys = _keys_by_row(sides, count)
    left, right = zip(*(_ordered(row, symmetric=options.symmetric) for row in keys), strict=True) if count else ((), ())
    hashes = [hashes_of_keys([key for side in row for key in side]) for row in keys]
    lengths = np.fromiter(map(len, hashes), np.int64, count)
    flat = np.concatenate(hashes) if count else np.empty(0, np.uint64)
    columns = [
        pa.array(sides[0].texts, pa.large_string()),
        _lists(positives, sides[1].texts),
        _lists(negatives, sides[2].texts),
        pa.array(rule),
        pa.array(hashes_of_keys([f"{one}\x1e{other}" for one, other in zip(left, right, strict=True)])),
        pa.array(np.array([row_hash(key for side in row for key in side) for row in keys], np.uint64)),
        pa.LargeListArray.from_arrays(np.concatenate(([0], np.cumsum(lengths))), pa.array(flat)),
        pa.array(_near(sides, count, options.near_index)),
        pa.array(_shingled(left) if options.signatures else [None] * count, pa.large_string()),
        pa.array(_shingled(right) if options.signatures else [None] * count, pa.large_string()),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(_CLEANED))


def _side(values: pa.Array, options: CleanOptions, *, natural: bool) -> Side:
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        texts, rows = values.to_pylist(), np.arange(len(values))
    else:
        lengths = np.asarray(values.value_lengths().to_numpy(zero_copy_only=False), np.int64)
        texts, rows = values.flatten().to_pylist(), np.repeat(np.arange(len(values)), lengths)
    if options.normalise and natural:
        texts = normalise_all(texts, simplified=options.simplified)
    return Side(texts, text_keys(texts), rows)


def _keys_by_row(sides: Sequence[Side], count: int) -> list[tuple[list[str], list[str], list[str]]]:
    rows: list[tuple[list[str], list[str], list[str]]] = [([], [], []) for _ in range(count)]
    for index, side in enumerate(sides):
        for row, key in zip(side.rows.tolist(), side.keys, strict=True):
            rows[row][index].append(key)
    return rows


def _ordered(row: tuple[list[str], list[str], list[str]], *, symmetric: bool) -> tuple[str, str]:
    """A row's two sides for comparing; where they may be swapped, in one order."""
    query, positives, negatives = row
    left, right = query[0], "\x1f".join(positives)
    if symmetric and right < left:
        left, right = right, left
    return left, "\x1e".join([right, *negatives]) if negatives else right


def _shingled(sides: Sequence[str]) -> list[str]:
    """Characters apart, as Daft's MinHash parts n-grams at spaces; a short side stays one piece."""
    return [side if len(side) < SHORT else " ".join(side) for side in sides]


def _near(sides: Sequence[Side], count: int, folder: str | None) -> NDArray[np.bool_]:
    near = np.zeros(count, np.bool_)
    if folder is not None:
        index = _load_index(folder)
        for side in sides:
            near[side.rows[index.near(side.keys)]] = True
    return near


@lru_cache(maxsize=1)
def _load_index(folder: str) -> NearIndex:
    return NearIndex.load(Path(folder))


def _lists(like: pa.Array, texts: Sequence[str]) -> pa.LargeListArray:
    lengths = np.asarray(like.value_lengths().to_numpy(zero_copy_only=False), np.int64)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    return pa.LargeListArray.from_arrays(offsets, pa.array(texts, pa.large_string()))
