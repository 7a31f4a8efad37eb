"""Sets of rows through the whole pipeline: staged, cleaned, compared with each other and with evaluation texts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from m3e.data.clean import CleanOptions, clean
from m3e.data.contamination import EvaluationFile
from m3e.data.filters import Filters
from m3e.data.keys import hash_of_key
from m3e.data.near import HASHES, THRESHOLD, Signatures
from m3e.data.staging import CLEANED, TEXT_KIND, scratch_writer, write_staged
from m3e.data.streams import Account
from m3e.errors import DataError
from m3e.files import read_json, read_marker, write_json, write_marker
from m3e.records import Kind

Read = Callable[[Account], Iterator[tuple[str, dict[str, Any] | pa.RecordBatch]]]
"""Gives each row's kind and its staged values, or those of many rows at once; fills the account."""

STEP = "data set"

_ONLY_BLANK_ROWS_GO = Filters(
    min_query=0,
    min_passage=0,
    language_share=None,
    max_run=None,
    top_character_share=None,
    equals_positive=False,
    template_answers=False,
)


@dataclass(frozen=True)
class SetPlan:
    """A set that is to go through the pipeline.

    Attributes:
        name: of the set, and of its folder.
        read: gives its rows.
        inputs: what identifies its content: hashes, revisions; with the settings they decide what is done already.
        facts: what the manifest says of it: licence, category, instructions.
        category: ``s2c`` makes positives and negatives code, which nothing touches.
        quality: ``high``, ``medium`` or ``low``: of two duplicates the better set's stays.
        weight: how often it is drawn in training, beside others.
        max_rows: rows that are kept at most, drawn by the seed.
    """

    name: str
    read: Read
    inputs: Any
    facts: dict[str, Any] = field(default_factory=dict)
    category: str = "s2p"
    symmetric: bool = False
    languages: tuple[str, ...] = ("zh", "en")
    quality: str = "medium"
    title_in_passage: bool = False
    weight: float = 1.0
    max_rows: int | None = None

    @property
    def folder(self) -> str:
        """The set's name as a folder's."""
        return self.name.replace("/", "__")


@dataclass(frozen=True)
class PipelineOptions:
    """What is done with all sets.

    Attributes:
        near_duplicates: the Jaccard similarity from which two rows are near-duplicates; ``None`` keeps them.
        duplicates: drop exact duplicates.
        seed: of ``max_rows``.
    """

    normalise: bool = True
    simplified: bool = False
    filters: Filters | None = field(default_factory=Filters)
    duplicates: bool = True
    near_duplicates: float | None = THRESHOLD
    seed: int = 42


@dataclass(frozen=True)
class Staged:
    """A set after the steps that look at each row by itself; its columns are files in ``folder``."""

    plan: SetPlan
    folder: Path
    kind: str
    rows: int
    rows_in: int
    dropped: dict[str, int]
    notes: list[str]
    drops: list[str]

    @property
    def clean_path(self) -> Path:
        """The rows' texts, in no order."""
        return self.folder / "clean.parquet"

    def column(self, name: str) -> NDArray[Any]:
        """A value for each row: ``rule``, ``content``, ``positive``, ``exact``, ``near``, ``texts`` (their number).

        ``size`` is in bytes of text.
        """
        values: NDArray[Any] = np.load(self.folder / f"{name}.npy")
        return values

    @property
    def signatures(self) -> Signatures:
        """Of the rows, where they were made."""
        return Signatures(self.folder, self.rows)

    def shared(self) -> dict[str, NDArray[np.uint64]]:
        """Hashes of rows, queries and passages that are evaluation texts' too."""
        with np.load(self.folder / "shared.npz") as arrays:
            return dict(arrays)


@dataclass(frozen=True)
class EvaluationTexts:
    """All evaluation files together.

    Attributes:
        near_index: folder of the saved index of their texts, or ``None`` where only exact matches count.
    """

    files: Sequence[EvaluationFile] = ()
    near_index: str | None = None

    @cached_property
    def rows(self) -> NDArray[np.uint64]:
        """Hashes of whole rows."""
        return _union([file.all_rows for file in self.files])

    @cached_property
    def texts(self) -> NDArray[np.uint64]:
        """Hashes of single texts of at least 6 key characters."""
        return _union([file.all_texts for file in self.files])


def stage(plan: SetPlan, options: PipelineOptions, evaluation: EvaluationTexts, folder: Path, inputs: str) -> Staged:
    """The set after every step that looks at one row at a time; taken from ``folder`` where it is there already.

    Args:
        inputs: a hash of all that the result depends on.

    Raises:
        DataError: the set cannot be read, or its rows are of several kinds; the message names it.
    """
    marker = read_marker(folder)
    if marker is None or marker["m3e"] != STEP or marker.get("inputs") != inputs:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _stage(plan, options, evaluation, folder)
        write_marker(folder, STEP, inputs=inputs)
    facts = read_json(folder / "facts.json")
    return Staged(plan=plan, folder=folder, **facts)


def write_one_kind(
    plan: SetPlan, account: Account, folder: Path, check: Callable[[str], None] = lambda kind: None
) -> tuple[str, int]:
    """Write a set's rows, which must be of one kind, into parts; their kind, and how many there are.

    Args:
        account: where dropped rows and notes are kept.
        check: refuses kinds, by raising an error.

    Raises:
        DataError: rows of two kinds, or none.
    """
    kinds: list[str] = []

    def rows() -> Iterator[dict[str, Any] | pa.RecordBatch]:
        for kind, row in plan.read(account):
            if not kinds:
                kinds.append(kind)
                check(kind)
            if kind != kinds[0]:
                raise DataError(f"{plan.name}: holds {kind} rows beside {kinds[0]} rows; part it in two sets")
            yield row

    count = write_staged(rows(), folder)
    if not count:
        reason = f"; {account.drops[0]}" if account.drops else ""
        raise DataError(f"{plan.name} has no usable rows{reason}")
    return kinds[0], count


def _stage(plan: SetPlan, options: PipelineOptions, evaluation: EvaluationTexts, folder: Path) -> None:
    account = Account()
    raw = folder / "raw"
    kind, count = write_one_kind(plan, account, raw)
    choice = CleanOptions(
        normalise=options.normalise,
        simplified=options.simplified,
        filters=options.filters or _ONLY_BLANK_ROWS_GO,
        signatures=options.near_duplicates is not None,
        near_index=evaluation.near_index,
        whole_rows=bool(evaluation.files),
        languages=plan.languages,
        symmetric=plan.symmetric or kind == Kind.SCORED_PAIR,
        scored=kind == Kind.SCORED_PAIR,
        code=plan.category == "s2c",
        title_in_passage=plan.title_in_passage,
    )
    _write_columns(clean(raw, choice), count, kind, choice, evaluation, folder)
    shutil.rmtree(raw)
    write_json(
        folder / "facts.json",
        {
            "kind": kind,
            "rows": count,
            "rows_in": count + sum(account.dropped.values()),
            "dropped": dict(account.dropped),
            "notes": account.notes,
            "drops": account.drops[:20],
        },
    )


def _write_columns(
    batches: Iterator[pa.RecordBatch],
    count: int,
    kind: str,
    options: CleanOptions,
    evaluation: EvaluationTexts,
    folder: Path,
) -> None:
    columns: dict[str, NDArray[Any]] = {
        "rule": np.zeros(count, np.uint8),
        "content": np.zeros(count, np.uint64),
        "positive": np.zeros(count, np.uint64),
        "exact": np.zeros(count, np.bool_),
        "near": np.zeros(count, np.bool_),
        "texts": np.zeros(count, np.uint32),
        "size": np.zeros(count, np.uint32),
    }
    signatures = Signatures.create(folder, count) if options.signatures else None
    shared: dict[str, set[int]] = {"rows": set(), "queries": set(), "passages": set()}
    rows_seen, texts_seen = evaluation.rows, evaluation.texts
    salt = np.uint64(hash_of_key(kind))
    with scratch_writer(folder / "clean.parquet", CLEANED) as writer:
        for batch in batches:
            if not batch.num_rows:
                continue
            rows = batch["row"].to_numpy().astype(np.int64)
            columns["rule"][rows] = batch["rule"].to_numpy()
            columns["content"][rows] = batch["content"].to_numpy() ^ salt
            columns["near"][rows] = batch["near"].to_numpy(zero_copy_only=False)
            _match_exactly(batch, rows, kind, rows_seen, texts_seen, columns, shared)
            if signatures is not None:
                _put_signatures(signatures, batch, rows, salt)
            columns["size"][rows] = _text_bytes(batch)
            writer.write_table(pa.table({name: batch[name] for name in CLEANED.names}).cast(CLEANED))
    for name, values in columns.items():
        np.save(folder / f"{name}.npy", values)
    rows, queries, passages = (np.array(sorted(shared[name]), np.uint64) for name in ("rows", "queries", "passages"))
    np.savez(folder / "shared.npz", rows=rows, queries=queries, passages=passages)


def _text_bytes(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """How many bytes of text each row has."""
    total: NDArray[np.int64] = pc.binary_length(batch["query"]).to_numpy(zero_copy_only=False).astype(np.int64)
    for name in ("positives", "negatives"):
        lengths = batch[name].value_lengths().to_numpy(zero_copy_only=False)
        ends = np.cumsum(lengths)
        sums = np.concatenate(([0], np.cumsum(pc.binary_length(batch[name].flatten()).to_numpy())))
        total += sums[ends] - sums[ends - lengths]
    return total


def _match_exactly(
    batch: pa.RecordBatch,
    rows: NDArray[np.int64],
    kind: str,
    rows_seen: NDArray[np.uint64],
    texts_seen: NDArray[np.uint64],
    columns: dict[str, NDArray[Any]],
    shared: dict[str, set[int]],
) -> None:
    hashes = batch["hashes"].flatten().to_numpy()
    lengths = batch["hashes"].value_lengths().to_numpy()
    firsts = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)
    columns["texts"][rows] = lengths
    if kind != TEXT_KIND:
        columns["positive"][rows] = hashes[firsts + 1]
    unordered = batch["unordered"].to_numpy()
    row_hit, text_hit = np.isin(unordered, rows_seen), np.isin(hashes, texts_seen)
    owner = np.repeat(rows, lengths)
    columns["exact"][rows[row_hit]] = True
    columns["exact"][owner[text_hit]] = True
    is_query = np.zeros(len(hashes), np.bool_)
    is_query[firsts] = True
    if kind == Kind.SCORED_PAIR:
        is_query[:] = True
    shared["rows"].update(unordered[row_hit].tolist())
    shared["queries"].update(hashes[text_hit & is_query].tolist())
    shared["passages"].update(hashes[text_hit & ~is_query].tolist())


def _put_signatures(signatures: Signatures, batch: pa.RecordBatch, rows: NDArray[np.int64], salt: np.uint64) -> None:
    left, right = (batch[side].flatten().to_numpy().reshape(-1, HASHES) for side in ("left", "right"))
    labels = pc.fill_null(batch["label"], 0.0).to_numpy(zero_copy_only=False).astype(np.float64)
    # rows of another kind, or with another label, are never duplicates
    signatures.put(rows, left, right, labels.view(np.uint64) ^ salt)


def _union(parts: Iterable[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.unique(np.concatenate([np.empty(0, np.uint64), *parts]))
