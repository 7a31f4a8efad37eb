"""Evaluation texts inside training data: exactly, under the one key, or nearly, by the share of their n-grams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from m3e.data.keys import KEY_CHARACTERS, hash_of_key, hashes_of_keys, text_keys
from m3e.data.ngrams import gram_hashes
from m3e.data.tables import Table
from m3e.data.text_files import read_table

CONTAINMENT = 0.8
"""A training text that holds this share of an evaluation text's n-grams is nearly the same text, or contains it."""

NEAR_CHARACTERS = 10
"""Evaluation texts of fewer key characters are looked for exactly only."""

_LONG = 100
_LONG_GRAM, _LATIN_GRAM, _HAN_GRAM = 13, 8, 3
GRAMS = (_HAN_GRAM, _LATIN_GRAM, _LONG_GRAM)
_SHARED = 3  # how many of an evaluation text's rarest n-grams a training text must hold to be looked at closely

QUERY_COLUMNS = ("text", "sentence1", "sentence2", "query")
OTHER_COLUMNS = ("text_pos", "text_neg", "pos", "neg", "title")


@dataclass(frozen=True)
class EvaluationFile:
    """The keys of one evaluation file.

    Attributes:
        name: as reports call it: ``lcqmc.dev``.
        rows: hashes of whole rows, each once; see :func:`row_hash`.
        queries: hashes of single texts of at least 6 key characters: texts, queries, both sentences.
        passages: the same of positives and negatives.
        all_rows: ``rows``, and those of the texts as they were before they were normalised.
        all_texts: the same of ``queries`` and ``passages`` together.
    """

    name: str
    rows: NDArray[np.uint64]
    queries: NDArray[np.uint64]
    passages: NDArray[np.uint64]
    all_rows: NDArray[np.uint64]
    all_texts: NDArray[np.uint64]


def row_hash(keys: Iterable[str]) -> int:
    """The hash of a whole row: all its texts' keys, whatever their order; labels do not count."""
    return hash_of_key("\x1f".join(sorted(keys)))


def read_evaluation_file(
    path: Path, name: str | None = None, *, tidy: Callable[[str], str] | None = None
) -> tuple[EvaluationFile, list[str]]:
    """The keys of a file that is evaluated on, and its texts' different keys.

    Every column of text that a known evaluation layout has is taken; where a file has none of those, each of its
    columns of strings is.

    Args:
        tidy: what the training texts were normalised with: evaluation texts are then looked for both as they
            are and so normalised, and counted as normalised.

    Raises:
        DataError: the file cannot be read.
    """
    found = _read_keys(path, tidy or str)
    plain = _read_keys(path, str) if tidy else found
    keys = sorted({key for part in (found, plain) for key in part.queries | part.passages if key})
    return (
        EvaluationFile(
            name=name or path.name.removesuffix(".parquet"),
            rows=np.array(sorted(found.rows), np.uint64),
            queries=_long_hashes(found.queries),
            passages=_long_hashes(found.passages),
            all_rows=np.array(sorted(found.rows | plain.rows), np.uint64),
            all_texts=_long_hashes(set(keys)),
        ),
        keys,
    )


@dataclass
class _Keys:
    rows: set[int] = field(default_factory=set)
    queries: set[str] = field(default_factory=set)
    passages: set[str] = field(default_factory=set)


def _read_keys(path: Path, tidy: Callable[[str], str]) -> _Keys:
    found = _Keys()
    for queries, passages in evaluation_keys(path, tidy):
        found.rows.add(row_hash([*queries, *passages]))
        found.queries.update(queries)
        found.passages.update(passages)
    return found


def evaluation_keys(path: Path, tidy: Callable[[str], str] = str) -> Iterator[tuple[list[str], list[str]]]:
    """The keys of each row's texts: of texts, queries and sentences, and of positives and negatives.

    Raises:
        DataError: the file cannot be read.
    """
    table = read_table(path)
    queries, others = _columns(table)
    for chunk in _chunks(table, 4096):
        cells = [[list(map(tidy, _texts(row.get(column)))) for column in (*queries, *others)] for row in chunk]
        keys = iter(text_keys([text for row in cells for cell in row for text in cell]))
        for row in cells:
            found = [[next(keys) for _ in cell] for cell in row]
            yield list(chain(*found[: len(queries)])), list(chain(*found[len(queries) :]))


@dataclass(frozen=True)
class Postings:
    """The n-grams of one size that evaluation texts are filed under.

    Attributes:
        grams: their hashes, in order.
        texts: the evaluation text of each.
        bitmap: says quickly what is not among them.
    """

    grams: NDArray[np.uint64]
    texts: NDArray[np.uint32]
    bitmap: NDArray[np.bool_]

    @classmethod
    def of(cls, grams: NDArray[np.uint64], texts: NDArray[np.uint32]) -> Postings:
        """The postings of sorted n-grams."""
        bitmap = np.zeros(1 << max(10, (len(grams) * 16).bit_length()), np.bool_)
        postings = cls(grams, texts, bitmap)
        bitmap[postings._slots(grams)] = True
        return postings

    def may_have(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Whether each n-gram may be among ``grams``; where this says no, it is not."""
        maybe: NDArray[np.bool_] = self.bitmap[self._slots(hashes)]
        return maybe

    def _slots(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return hashes & np.uint64(len(self.bitmap) - 1)


class NearIndex:
    """Finds evaluation texts that a training text nearly is, or contains.

    An n-gram has 3 characters where a text is mostly Chinese, 8 where it is not, 13 where it is long. Each
    evaluation text is filed under its rarest n-grams only, as many as any text with 80 % of them must share
    some of (prefix filtering; Chaudhuri et al. 2006); what is found so is then counted exactly.
    """

    def __init__(self, keys: Sequence[str], postings: Mapping[int, Postings] | None = None) -> None:
        self.keys = [key for key in keys if len(key) >= NEAR_CHARACTERS]
        self._postings = postings or _file_all(self.keys)
        self._filed_under = {
            size: np.bincount(filed.texts, minlength=len(self.keys)) for size, filed in self._postings.items()
        }

    def near(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each training key nearly is, or contains, an evaluation text."""
        found = np.zeros(len(keys), np.bool_)
        for size in GRAMS:
            for training, evaluation in self._candidates(keys, size):
                if not found[training]:
                    found[training] = _holds(keys[training], self.keys[evaluation], size)
        return found

    def save(self, folder: Path) -> None:
        """Write what :meth:`load` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"key": pa.array(self.keys, pa.large_string())}), folder / "keys.parquet")
        for size, postings in self._postings.items():
            np.savez(folder / f"postings-{size}.npz", grams=postings.grams, texts=postings.texts)

    @classmethod
    def load(cls, folder: Path) -> NearIndex:
        """The index that :meth:`save` wrote."""
        postings = {}
        for size in GRAMS:
            with np.load(folder / f"postings-{size}.npz") as arrays:
                postings[size] = Postings.of(arrays["grams"], arrays["texts"])
        return cls(pq.read_table(folder / "keys.parquet")["key"].to_pylist(), postings)

    def _candidates(self, keys: Sequence[str], size: int) -> list[tuple[int, int]]:
        """Pairs of a training and an evaluation text that share enough rare n-grams."""
        filed, texts = self._postings[size].grams, self._postings[size].texts
        if not len(filed):
            return []
        hashes, owners = gram_hashes(keys, size)
        maybe = self._postings[size].may_have(hashes)
        hashes, owners = hashes[maybe], owners[maybe]
        low, high = np.searchsorted(filed, hashes, "left"), np.searchsorted(filed, hashes, "right")
        counts = high - low
        pairs = np.repeat(owners, counts) << 32
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        positions = np.repeat(low, counts) + offsets
        pairs |= texts[positions].astype(np.int64)
        # an n-gram that a training text has twice counts once
        once = np.unique(np.stack((pairs, filed[positions].view(np.int64))), axis=1)[0] if len(pairs) else pairs
        found, shared = np.unique(once, return_counts=True)
        evaluation = found & 0xFFFFFFFF
        enough = shared >= np.minimum(_SHARED, self._filed_under[size][evaluation])
        return list(zip((found >> 32)[enough].tolist(), evaluation[enough].tolist(), strict=True))


def _file_all(keys: Sequence[str]) -> dict[int, Postings]:
    sizes = _gram_sizes(keys)
    return {size: _file(keys, np.flatnonzero(sizes == size), size) for size in GRAMS}


def _file(keys: Sequence[str], ids: NDArray[np.int64], size: int) -> Postings:
    """The postings of some texts, each under its rarest n-grams."""
    hashes, owners = _distinct_grams([keys[index] for index in ids.tolist()], size)
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    rare_first = np.lexsort((hashes, counts[inverse], owners))
    hashes, owners = hashes[rare_first], owners[rare_first]
    totals = np.bincount(owners, minlength=len(ids))
    rank = np.arange(len(hashes)) - (np.cumsum(totals) - totals)[owners]
    kept = rank < _filed(totals)[owners]
    hashes, texts = hashes[kept], ids[owners[kept]].astype(np.uint32)
    order = np.argsort(hashes, kind="stable")
    return Postings.of(hashes[order], texts[order])


def _filed(totals: NDArray[np.int64]) -> NDArray[np.int64]:
    """Under how many n-grams a text of so many is filed: of any 80 % of them, ``_SHARED`` are among these."""
    filed: NDArray[np.int64] = np.minimum(totals, totals - np.ceil(CONTAINMENT * totals).astype(np.int64) + _SHARED)
    return filed


def _gram_sizes(keys: Sequence[str]) -> NDArray[np.int64]:
    sizes = [
        _LONG_GRAM if len(key) >= _LONG else _LATIN_GRAM if _latin(key) * 2 > len(key) else _HAN_GRAM for key in keys
    ]
    return np.array(sizes, np.int64)


def _latin(key: str) -> int:
    return len(key.encode("ascii", "ignore"))


def _holds(training: str, evaluation: str, size: int) -> bool:
    """Whether ``training`` has at least 80 % of the different n-grams of ``evaluation``."""
    wanted = {evaluation[start : start + size] for start in range(len(evaluation) - size + 1)}
    return sum(gram in training for gram in wanted) >= CONTAINMENT * len(wanted)


def _distinct_grams(keys: Sequence[str], size: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Each text's different n-grams, text by text."""
    parts: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []
    for start in range(0, len(keys), 65536):
        hashes, owners = gram_hashes(keys[start : start + 65536], size)
        order = np.lexsort((hashes, owners))
        hashes, owners = hashes[order], owners[order]
        new = np.ones(len(hashes), np.bool_)
        new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
        parts.append((hashes[new], owners[new] + start))
    if not parts:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _long_hashes(keys: set[str]) -> NDArray[np.uint64]:
    return np.sort(hashes_of_keys([key for key in keys if len(key) >= KEY_CHARACTERS]))


def _columns(table: Table) -> tuple[list[str], list[str]]:
    queries = [column for column in table.columns if column in QUERY_COLUMNS]
    others = [column for column in table.columns if column in OTHER_COLUMNS]
    if queries or others:
        return queries, others
    first = next(iter(table.rows), {})
    strings = [column for column in table.columns if isinstance(first.get(column), str)]
    return strings or list(table.columns), []


def _texts(cell: object) -> list[str]:
    if isinstance(cell, str):
        return [cell]
    return [item for item in cell if isinstance(item, str)] if isinstance(cell, list | tuple) else []


def _chunks(table: Table, size: int) -> Iterator[list[dict[str, object]]]:
    chunk: list[dict[str, object]] = []
    for row in table.rows:
        chunk.append(dict(row))
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
