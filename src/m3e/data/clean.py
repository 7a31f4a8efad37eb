"""The plan that every row goes through by itself: normalise, judge by the rules, make keys and signatures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from m3e.data.contamination import NearIndex
from m3e.data.engine import start_engine, stream
from m3e.data.filters import Filters, Rows, Side, broken_rules
from m3e.data.keys import code_points, hashes_of_keys, text_keys
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
        whole_rows: make the hashes that whole rows are compared with evaluation rows by.
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
    whole_rows: bool = True
    languages: tuple[str, ...] = ("zh",)
    symmetric: bool = False
    scored: bool = False
    code: bool = False
    title_in_passage: bool = False


def clean(folder: Path, options: CleanOptions) -> Iterator[pa.RecordBatch]:
    """The staged rows of a folder's files, cleaned and judged, in batches of any order.

    Beside the columns of :data:`~m3e.data.staging.STAGED` there are ``rule`` (0, or 1 + the index of the rule
    broken), ``content`` (the hash of the row's keys, side by side), ``unordered`` (the same whatever the order of
    its texts), ``hashes`` (of each text's key), ``near`` (nearly an evaluation text), and with signatures
    ``left`` and ``right``: MinHash values of the two sides, ``HASHES`` each.
    """
    daft = start_engine()
    from daft.functions import minhash

    def cleaned(query: Any, positives: Any, negatives: Any) -> pa.StructArray:
        return clean_batch(query.to_arrow(), positives.to_arrow(), negatives.to_arrow(), options)

    returned = daft.DataType.from_arrow_type(_CLEANED)
    judge = daft.func.batch(return_dtype=returned, unnest=True, use_process=False)(cleaned)
    col = daft.col
    frame = daft.read_parquet(_without_wildcards(folder) + "/*.parquet").select(
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
    owners, hashes = _row_by_row(sides)
    lengths = np.bincount(owners, minlength=count)
    left, right = _compared(sides, count, symmetric=options.symmetric)
    columns = [
        pa.array(sides[0].texts, pa.large_string()),
        _lists(positives, sides[1].texts),
        _lists(negatives, sides[2].texts),
        pa.array(rule),
        pa.array(hashes_of_keys([f"{one}\x1e{other}" for one, other in zip(left, right, strict=True)])),
        pa.array(_row_hashes(sides, count) if options.whole_rows else np.zeros(count, np.uint64)),
        pa.LargeListArray.from_arrays(np.concatenate(([0], np.cumsum(lengths))), pa.array(hashes)),
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


def _row_by_row(sides: Sequence[Side]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """The row of each text, rising, and the hash of its key."""
    owners = np.concatenate([side.rows for side in sides])
    hashes = np.concatenate([hashes_of_keys(side.keys) for side in sides])
    order = np.argsort(owners, kind="stable")
    return owners[order], hashes[order]


def _compared(sides: Sequence[Side], count: int, *, symmetric: bool) -> tuple[Sequence[str], Sequence[str]]:
    """The rows' two sides for comparing; where they may be swapped, in one order."""
    query, positives, negatives = sides
    left, right = query.keys, ["\x1f".join(keys) for keys in _by_row(positives, count)]
    if symmetric:
        left, right = list(map(min, left, right)), list(map(max, left, right))
    if len(negatives.keys):
        others = _by_row(negatives, count)
        right = ["\x1e".join([one, *keys]) if keys else one for one, keys in zip(right, others, strict=True)]
    return left, right


def _by_row(side: Side, count: int) -> list[Sequence[str]]:
    """Each row's keys of one side."""
    if len(side.keys) == count and np.array_equal(side.rows, np.arange(count)):
        return [(key,) for key in side.keys]
    ends = np.cumsum(np.bincount(side.rows, minlength=count)).tolist()
    return [side.keys[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _row_hashes(sides: Sequence[Side], count: int) -> NDArray[np.uint64]:
    rows = zip(*(_by_row(side, count) for side in sides), strict=True)
    return hashes_of_keys(["\x1f".join(sorted(chain(*row))) for row in rows])


def _shingled(sides: Sequence[str]) -> list[str]:
    """Characters apart, as Daft's MinHash parts n-grams at spaces; a short side stays one piece."""
    points, ends = code_points(sides)
    apart = np.full(2 * len(points), ord(" "), np.uint32)
    apart[::2] = points
    text = apart.tobytes().decode("utf-32-le", "surrogatepass")
    stops = (2 * ends).tolist()
    return [
        side if len(side) < SHORT else text[start : stop - 1]
        for side, start, stop in zip(sides, [0, *stops], stops, strict=False)
    ]


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
