"""Hard negatives and the consistency of positives, query by query, in blocks that a killed run does not repeat."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from m3e.files import read_json, read_marker, write_json, write_marker
from m3e.mining.embedding import OnProgress, cosines
from m3e.mining.known import Hashes, Known, is_among, pair_hashes
from m3e.mining.options import MiningOptions
from m3e.mining.passages import Passages
from m3e.mining.rows import Rows
from m3e.mining.selection import (
    Mask,
    Scores,
    bar_of_rank,
    choose,
    in_ranks,
    may_be_ranked,
    preferences,
    taken,
    within_scores,
)
from m3e.mining.teacher import PairScorer, checked_scores

STEP = "mining search"
QUERIES_AT_ONCE = 8192
_RERANKED_AT_ONCE = 512  # a reranker is slow, and what it said of a block is lost by a kill within it
_MOST_KNOWN = 1000
_CANDIDATES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Mined:
    """What was found for a set's queries; the arrays lie on disk.

    Attributes:
        chosen: numbers of passages, shape (queries, negatives), best first, −1 behind them where there are fewer.
        scores: their cosines; NaN where there is none.
        positive_scores: a cosine for each of the rows' :attr:`~m3e.mining.rows.Rows.answers`.
        consistent: whether each of these stays.
        skipped: passages within the range of ranks that were not taken, by rule.
    """

    chosen: NDArray[np.int64]
    scores: Scores
    positive_scores: Scores
    consistent: Mask
    skipped: dict[str, int]


@dataclass(frozen=True)
class Knowledge:
    """What must not become a negative: known positives, and negatives that rows have already (sorted pair hashes)."""

    known: Known
    given: Hashes


def mine_set(
    rows: Rows,
    query_vectors: NDArray[np.float32],
    passages: Passages,
    knowledge: Knowledge,
    options: MiningOptions,
    folder: Path,
    inputs: str | None,
    *,
    reranker: PairScorer | None = None,
    on_progress: OnProgress = lambda done, total, note: None,
) -> Mined:
    """Search and choose for each query of a set; what ``folder`` holds of the same is kept.

    Args:
        inputs: a hash of all that the result depends on; ``None`` begins anew.
    """
    search = _Search(rows, query_vectors, passages, knowledge, options, reranker)
    state = _State(folder, rows, options, inputs)
    total = len(rows.queries)
    most = QUERIES_AT_ONCE if reranker is None else _RERANKED_AT_ONCE
    step = max(1, min(most, _CANDIDATES_AT_ONCE // search.candidates))
    for start in range(state.done, total, step):
        on_progress(start, total, "search queries")
        stop = min(start + step, total)
        state.keep(start, stop, rows.answers.span(start, stop), search.block(start, stop))
    on_progress(total, total, "")
    return state.result()


@dataclass(frozen=True)
class _Found:
    chosen: NDArray[np.int64]
    scores: Scores
    positive_scores: Scores
    consistent: Mask
    skipped: Counter[str]


class _State:
    """The arrays of the result, and how many queries are done."""

    def __init__(self, folder: Path, rows: Rows, options: MiningOptions, inputs: str | None) -> None:
        self._folder = folder
        shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
            "chosen": (np.int64, (len(rows.queries), options.negatives)),
            "scores": (np.float32, (len(rows.queries), options.negatives)),
            "positive_scores": (np.float32, rows.answers.values.shape),
            "consistent": (np.bool_, rows.answers.values.shape),
        }
        marker = read_marker(folder)
        fresh = marker is None or marker["m3e"] != STEP or inputs is None or marker.get("inputs") != inputs
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self._arrays: dict[str, Any] = {
            name: open_memmap(folder / f"{name}.npy", "w+" if fresh else "r+", dtype, shape)
            for name, (dtype, shape) in shapes.items()
        }
        if fresh:
            write_json(folder / "done.json", {"queries": 0, "skipped": {}})
            write_marker(folder, STEP, inputs=inputs)
        self._facts = read_json(folder / "done.json")

    @property
    def done(self) -> int:
        return int(self._facts["queries"])

    def keep(self, start: int, stop: int, answers: slice, found: _Found) -> None:
        for name, array in self._arrays.items():
            array[answers if name in ("positive_scores", "consistent") else slice(start, stop)] = getattr(found, name)
            array.flush()
        skipped = Counter(self._facts["skipped"]) + found.skipped
        self._facts = {"queries": stop, "skipped": dict(skipped)}
        write_json(self._folder / "done.json", self._facts)

    def result(self) -> Mined:
        return Mined(**self._arrays, skipped=self._facts["skipped"])


class _Search:
    """A block of queries: what is found, what may be taken, what is taken.

    Attributes:
        candidates: passages that are looked for, for each query.
    """

    def __init__(
        self,
        rows: Rows,
        query_vectors: NDArray[np.float32],
        passages: Passages,
        knowledge: Knowledge,
        options: MiningOptions,
        reranker: PairScorer | None,
    ) -> None:
        self._rows = rows
        self._vectors = query_vectors
        self._passages = passages
        self._knowledge = knowledge
        self._options = options
        self._reranker = reranker
        needed = options.ranks[1] if options.negatives else 0
        most_known = int(rows.answers.lengths.max(initial=0))
        # what is known is found, too, and taken out
        self.candidates = max(needed, options.consistency or 0) + min(most_known, _MOST_KNOWN) + 1

    def block(self, start: int, stop: int) -> _Found:
        answers, options = self._rows.answers, self._options
        positives = answers.values[answers.span(start, stop)]
        owners = answers.owners(start, stop)
        positive_scores = cosines(self._vectors, self._passages.vectors, owners, positives)
        owners = owners - start
        scores, numbers = self._passages.search(np.array(self._vectors[start:stop]), self.candidates)
        queries, found = self._rows.queries.keys[start:stop], self._passages.keys[numbers]
        counts = may_be_ranked(self._knowledge.known, queries, found, np.zeros(found.shape, np.bool_))
        consistent = np.ones(len(positives), np.bool_)
        if options.consistency is not None:
            consistent[:] = positive_scores >= bar_of_rank(scores, counts, options.consistency)[owners]
        lowest = _lowest(positive_scores, owners, consistent, stop - start)
        allowed = in_ranks(counts, options.ranks) & np.isfinite(lowest)[:, None]
        skipped = within_scores(scores, allowed, lowest, options)
        given = is_among(pair_hashes(queries[:, None], found), self._knowledge.given)
        allowed &= ~given
        order = preferences(queries, found, options)
        if self._reranker is not None and options.negatives:
            bars = self._bars(start, positives, owners, consistent, np.asarray(allowed.any(axis=1)))
            skipped["reranker"] = self._ask(start, allowed, order, numbers, bars)
        columns = choose(allowed, order, options.negatives)
        return _Found(
            taken(numbers, columns, -1), taken(scores, columns, np.nan), positive_scores, consistent, +skipped
        )

    def _bars(
        self, start: int, positives: NDArray[np.int64], owners: NDArray[np.int64], consistent: Mask, asked: Mask
    ) -> Scores:
        """The highest score by the reranker that a negative of each query may have."""
        chosen = np.flatnonzero(consistent & asked[owners])
        scores = np.full(len(positives), np.nan, np.float32)
        scores[chosen] = self._score(start + owners[chosen], positives[chosen])
        known = np.isfinite(scores)
        return _lowest(scores, owners, known, len(asked)) - np.float32(self._options.reranker_margin)

    def _ask(
        self, start: int, allowed: Mask, order: NDArray[np.uint64], numbers: NDArray[np.int64], bars: Scores
    ) -> int:
        """Take from ``allowed`` what the reranker puts above the bar, until those that would be chosen are below it."""
        passed = np.zeros(allowed.shape, np.bool_)
        refused = 0
        while True:
            columns = choose(allowed, order, self._options.negatives)
            queries, places = np.nonzero(columns >= 0)
            places = columns[queries, places]
            new = ~passed[queries, places]
            queries, places = queries[new], places[new]
            if not len(queries):
                return refused
            scores = self._score(start + queries, numbers[queries, places])
            # a passage as good as the positive is likely one
            good = scores < bars[queries] if self._options.reranker_margin == 0 else scores <= bars[queries]
            passed[queries[good], places[good]] = True
            allowed[queries[~good], places[~good]] = False
            refused += int((~good).sum())

    def _score(self, queries: NDArray[np.int64], numbers: NDArray[np.int64]) -> Scores:
        assert self._reranker is not None
        texts = zip(self._rows.queries.take(queries), self._passages.texts(numbers), strict=True)
        return checked_scores(self._reranker, list(texts))


def _lowest(scores: Scores, owners: NDArray[np.int64], counted: Mask, queries: int) -> Scores:
    """The lowest of each query's scores that count; −inf where none does."""
    lowest = np.full(queries, np.inf, np.float32)
    np.minimum.at(lowest, owners[counted], scores[counted])
    lowest[~np.isfinite(lowest)] = -np.inf
    return lowest
