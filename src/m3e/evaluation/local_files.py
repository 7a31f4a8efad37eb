"""Evaluation data in plain parquet files, ``<name>.<split>.parquet``: found, read and checked.

Classification is text, label; scored pairs are sentence1, sentence2, label; retrieval is several
files (see :mod:`m3e.evaluation.local_collections`).
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from m3e.errors import DataError
from m3e.files import hash_file, read_json

Kind = Literal["classification", "sts", "pair_classification", "retrieval", "reranking", "clustering"]

PARTS = ("corpus", "queries", "qrels", "candidates")
KINDS = ("classification", "sts", "pair_classification", "retrieval", "reranking", "clustering")
_CLASSIFICATION = ("text", "label")
_PAIRS = ("sentence1", "sentence2", "label")
QUESTION_AND_ANSWER = ("text", "text_pos")


@dataclass(frozen=True)
class Texts:
    """Labelled texts; ``dropped`` rows lacked a text or a label."""

    texts: list[str]
    labels: list[str]
    dropped: int


@dataclass(frozen=True)
class Pairs:
    """Scored pairs; ``dropped`` rows lacked a sentence or a label."""

    sentence1: list[str]
    sentence2: list[str]
    labels: list[float]
    dropped: int


@dataclass(frozen=True)
class LocalFolder:
    """The parquet files of a folder by name, split and part (``""`` for a single file)."""

    path: Path
    files: dict[tuple[str, str, str], Path] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> LocalFolder:
        """The folder's files.

        Raises:
            DataError: there is no such folder.
        """
        if not path.is_dir():
            raise DataError(f"the data folder {path} does not exist")
        files = {}
        for file in sorted(path.glob("*.parquet")):
            name, _, split = file.name.removesuffix(".parquet").rpartition(".")
            part = ""
            if split in PARTS and "." in name:
                part = split
                name, _, split = name.rpartition(".")
            if name:
                files[name, split, part] = file
        return cls(path, files)

    def single(self, name: str, split: str) -> Path | None:
        """The file of a set that is one file a split."""
        return self.files.get((name, split, ""))

    def collection(self, name: str, split: str, corpus: str = "") -> dict[str, Path] | None:
        """The files of a retrieval set by part; the corpus may be shared by all splits (``<name>.all.corpus``).

        Args:
            name: of the set.
            split: of the set.
            corpus: the set whose documents are searched, where it is another.
        """
        found = {part: self.files[name, split, part] for part in PARTS if (name, split, part) in self.files}
        if corpus:
            name = corpus
            found.pop("corpus", None)
            if (name, split, "corpus") in self.files:
                found["corpus"] = self.files[name, split, "corpus"]
        shared = self.files.get((name, "all", "corpus"))
        if shared is not None:
            found.setdefault("corpus", shared)
        return found if {"corpus", "queries", "qrels"} <= set(found) else None

    def splits(self) -> list[tuple[str, str]]:
        """Every (name, split) that has a single file, queries or judgements."""
        return sorted({(name, split) for name, split, part in self.files if part in ("", "queries", "qrels")})

    def declared_kind(self, name: str) -> Kind | None:
        """What ``<name>.json`` says the set is.

        Raises:
            DataError: it is not JSON or names an unknown type.
        """
        path = self.path / f"{name}.json"
        if not path.is_file():
            return None
        try:
            kind = read_json(path)["type"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f'{path} must be a JSON object like {{"type": "pair_classification"}}') from error
        if kind not in KINDS:
            raise DataError(f"{path}: type {kind!r} is not known; types are {', '.join(KINDS)}")
        return cast(Kind, kind)


def content_hash(paths: Iterable[Path]) -> str:
    """16 hex digits over the bytes of files, in order."""
    digests = "".join(hash_file(path) for path in paths)
    return hashlib.sha256(digests.encode()).hexdigest()[:16]


def kind_of_file(path: Path) -> Kind | None:
    """The kind that a single file's columns allow.

    Scored pairs are STS, unless a label is no number; a text and its positive are a query and its document.
    """
    names = set(read_schema(path).names)
    if names.issuperset(_PAIRS):
        labels = [label for label in read_columns(path, ("label",))["label"] if label is not None]
        return "sts" if not labels or as_number(labels[0]) is not None else None
    if names.issuperset(QUESTION_AND_ANSWER):
        return "retrieval"
    return "classification" if names.issuperset(_CLASSIFICATION) else None


def read_texts(path: Path) -> Texts:
    """Texts and labels (as strings) in file order.

    Raises:
        DataError: a column is missing or no row is complete.
    """
    columns = read_columns(path, _CLASSIFICATION)
    rows = [
        (text, as_text(label))
        for text, label in zip(columns["text"], columns["label"], strict=True)
        if isinstance(text, str) and not is_hole(label)
    ]
    if not rows:
        raise DataError(f"{path} has no row with a text and a label")
    return Texts([text for text, _ in rows], [label for _, label in rows], len(columns["text"]) - len(rows))


def read_pairs(path: Path, meaning: Mapping[str, float | None] | None = None) -> Pairs:
    """Pairs and numeric labels in file order.

    Args:
        path: a parquet file.
        meaning: the number of each label that is a word; ``None`` leaves its rows out.

    Raises:
        DataError: a column is missing, a label is not a number, or no row is complete.
    """
    columns = read_columns(path, _PAIRS)
    total = len(columns["label"])
    rows: list[tuple[str, str, float]] = []
    dropped = 0
    for index in range(total):
        one, two, label = (columns[name][index] for name in _PAIRS)
        if not isinstance(one, str) or not isinstance(two, str) or is_hole(label):
            dropped += 1
            continue
        number = _meaning(path, index, label, meaning)
        if number is not None:
            rows.append((one, two, number))
    if not rows:
        raise DataError(f"{path} has no row with two sentences and a label")
    one_by_one = list(zip(*rows, strict=True))
    return Pairs(list(one_by_one[0]), list(one_by_one[1]), list(one_by_one[2]), dropped)


def _meaning(path: Path, index: int, label: Any, meaning: Mapping[str, float | None] | None) -> float | None:
    if meaning is not None and isinstance(label, str):
        if label not in meaning:
            raise DataError(f"{path}, row {index + 1}: label {label!r} is not one of {', '.join(meaning)}")
        return meaning[label]
    number = as_number(label)
    if number is None:
        raise DataError(f"{path}, row {index + 1}: label {label!r} is not a number")
    return number


def as_text(value: Any) -> str:
    """``value`` as a string; a whole number is written without a decimal point, whatever its type."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def is_hole(value: Any) -> bool:
    """Whether a cell is null or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def as_number(value: Any) -> float | None:
    """``value`` as a finite number, full-width digits included, or ``None``."""
    try:
        number = float(unicodedata.normalize("NFKC", value)) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def read_schema(path: Path) -> pa.Schema:
    """The schema of a parquet file.

    Raises:
        DataError: it is not one.
    """
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} is not a readable parquet file") from error


def read_columns(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """The named columns of a parquet file.

    Raises:
        DataError: one is missing; the message lists those that are there.
    """
    missing = [name for name in names if name not in read_schema(path).names]
    if missing:
        raise DataError(
            f"{path} has no column {' or '.join(missing)}; it needs {', '.join(names)} "
            f"and has {', '.join(read_schema(path).names)}"
        )
    try:
        table = pq.read_table(path, columns=list(names))
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    return {name: _as_strings(path, name, table[name]).to_pylist() for name in names}


def _as_strings(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column; where a writer kept its strings as bytes, the strings."""
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        return column
    try:
        return column.cast(pa.large_string())
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: the column {name} holds bytes that are not UTF-8 text") from error
