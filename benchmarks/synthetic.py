"""Pairs of any number made of real sentences, with duplicates planted among them: seeded, streaming, cheap.

Clauses of real texts are dealt anew: no two rows are alike but those that are planted.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from m3e.catalogue.local import data_folder, training_files
from m3e.data.keys import hashes_of_keys, text_key
from m3e.data.normalise import normalise
from m3e.data.samples import general_data, help_centre

EXACT_SHARE = NEAR_SHARE = 0.05
ORIGINAL, EXACT, NEAR = 0, 1, 2

_CLAUSE = re.compile(r"[^，。！？；,!?;\n]+")
_CLAUSES = 100_000
_ROWS_A_FILE = 4000
_ROWS_AT_ONCE = 20_000
_REMEMBERED = 20_000
_SCHEMA = pa.schema([("text", pa.string()), ("text_pos", pa.string())])
_TYPED_OTHERWISE = str.maketrans("，。", ",.")


@dataclass(frozen=True)
class Planted:
    """Duplicates in a file: the hash of each planted row, and of the earlier row that it repeats.

    Attributes:
        kinds: ``EXACT`` or ``NEAR`` for each.
    """

    kinds: NDArray[np.uint8]
    rows: NDArray[np.uint64]
    sources: NDArray[np.uint64]

    def save(self, path: Path) -> None:
        np.savez(path, kinds=self.kinds, rows=self.rows, sources=self.sources)

    @classmethod
    def load(cls, path: Path) -> Planted:
        with np.load(path) as arrays:
            return cls(arrays["kinds"], arrays["rows"], arrays["sources"])

    def recall(self, kept: NDArray[np.uint64]) -> dict[str, float]:
        """The share of planted rows that do not stand beside their source among the ``kept`` rows' hashes."""
        values, counts = np.unique(kept, return_counts=True)
        found = np.zeros(len(self.kinds), np.int64)
        for index, hashes in enumerate((self.rows, self.sources)):
            places = np.minimum(np.searchsorted(values, hashes), len(values) - 1)
            times = np.where(values[places] == hashes, counts[places], 0)
            # a copy to the letter has its source's hash: count it once, as often as it is there
            found += np.where((self.rows == self.sources) & (index == 1), 0, times)
        gone = found <= 1
        return {name: float(gone[self.kinds == kind].mean()) for name, kind in (("exact", EXACT), ("near", NEAR))}


def row_hashes(table: pa.Table | pa.RecordBatch) -> NDArray[np.uint64]:
    """64 bits for each row of pairs."""
    pairs = zip(table["text"].to_pylist(), table["text_pos"].to_pylist(), strict=True)
    return hashes_of_keys([f"{text}\x1e{positive}" for text, positive in pairs])


def write_pairs(path: Path, rows: int, seed: int = 1) -> Planted:
    """Write ``rows`` pairs to a parquet file, 5 % of them exact and 5 % near-duplicates of earlier ones."""
    maker = _Maker(seed)
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for start in range(0, rows, _ROWS_AT_ONCE):
            writer.write_table(maker.table(min(_ROWS_AT_ONCE, rows - start)))
    return maker.planted()


class _Maker:
    def __init__(self, seed: int) -> None:
        self._numbers = np.random.default_rng(seed)
        self._random = random.Random(seed)
        self._clauses = pa.array(real_clauses(), pa.string())
        self._earlier: list[tuple[str, str]] = []
        self._plants: list[tuple[int, tuple[str, str], tuple[str, str]]] = []

    def table(self, rows: int) -> pa.Table:
        texts = self._joined(rows, 2, 3).to_pylist()
        positives = self._joined(rows, 4, 12).to_pylist()
        lots = self._numbers.random(rows)
        pairs = list(zip(texts, positives, strict=True))
        remembered = self._earlier or pairs[: rows // 10]
        first = 0 if self._earlier else len(remembered)
        for index in (np.flatnonzero(lots[first:] < EXACT_SHARE + NEAR_SHARE) + first).tolist():
            source = self._random.choice(remembered)
            kind = EXACT if lots[index] < EXACT_SHARE else NEAR
            pairs[index] = self._retyped(source) if kind == EXACT else self._edited(source)
            self._plants.append((kind, pairs[index], source))
        originals = [pair for pair, lot in zip(pairs, lots.tolist(), strict=True) if lot >= EXACT_SHARE + NEAR_SHARE]
        self._earlier = self._random.sample([*self._earlier, *originals], min(_REMEMBERED, len(originals)))
        return pa.table([[pair[0] for pair in pairs], [pair[1] for pair in pairs]], schema=_SCHEMA)

    def planted(self) -> Planted:
        kinds = np.array([kind for kind, _, _ in self._plants], np.uint8)
        rows, sources = (
            hashes_of_keys(["\x1e".join(plant[side]) for plant in self._plants])  # type: ignore[arg-type]
            for side in (1, 2)
        )
        return Planted(kinds, rows, sources)

    def _joined(self, rows: int, low: int, high: int) -> pa.Array:
        """Texts of ``low`` to ``high`` clauses."""
        counts = self._numbers.integers(low, high + 1, rows)
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
        drawn = self._clauses.take(pa.array(self._numbers.integers(0, len(self._clauses), int(offsets[-1]))))
        return pc.binary_join_element_wise(pc.binary_join(pa.ListArray.from_arrays(offsets, drawn), "，"), "。", "")

    def _retyped(self, pair: tuple[str, str]) -> tuple[str, str]:
        """The same to the letter, or with other punctuation marks, which a key does not see."""
        if self._random.random() < 0.5:
            return pair
        return pair[0].translate(_TYPED_OTHERWISE), pair[1].translate(_TYPED_OTHERWISE)

    def _edited(self, pair: tuple[str, str]) -> tuple[str, str]:
        """Another last character in the text, one in sixty changed in its positive: alike at 0.9 and more."""
        text, positive = pair
        places = [self._random.randrange(2, len(positive) - 2) for _ in range(max(1, len(positive) // 60))]
        letters = list(positive)
        for place in places:
            letters[place] = self._other(letters[place])
        return f"{text[:-2]}{self._other(text[-2])}{text[-1]}", "".join(letters)

    def _other(self, letter: str) -> str:
        return self._random.choice([other for other in "甲乙丙丁戊己庚辛" if other != letter])


def real_clauses() -> list[str]:
    """Different clauses of 5 to 25 characters, of the training files under ``M3E_DATA`` or the shipped samples."""
    found: dict[str, str] = {}
    for text in _real_texts():
        for clause in _CLAUSE.findall(normalise(text)):
            clause = clause.strip()
            key = text_key(clause)
            if len(key) >= 5 and len(clause) <= 25:
                found.setdefault(key, clause)
        if len(found) >= _CLAUSES:
            break
    return sorted(found.values())[:_CLAUSES]


def _real_texts() -> Iterator[str]:
    folder = data_folder()
    if folder is None:
        yield from _shipped_texts()
        return
    for paths in training_files(folder).values():
        for path in paths:
            yield from _head_of(path)


def _head_of(path: Path) -> Iterator[str]:
    with pq.ParquetFile(path) as file:
        names = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
        for batch in file.iter_batches(batch_size=_ROWS_A_FILE, columns=names):
            for column in batch.columns:
                yield from (text for text in column.to_pylist() if text)
            return


def _shipped_texts() -> Iterable[str]:
    centre, general = help_centre(), general_data()
    yield from centre.answers.values()
    yield from (question for question, _ in centre.train)
    yield from general.passages.values()
    yield from (text for first, second, _ in general.pairs for text in (first, second))
