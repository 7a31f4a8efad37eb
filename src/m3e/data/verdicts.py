"""Which rows stay: all sets' rows compared with each other, and with evaluation texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3e.data.contamination import EvaluationFile
from m3e.data.filters import RULES
from m3e.data.keys import hash_of_key
from m3e.data.near import near_duplicates
from m3e.data.pipeline import PipelineOptions, Staged
from m3e.data.staging import TEXT_KIND
from m3e.records import Kind

DROPS = (
    *RULES,
    "exact_duplicate",
    "boilerplate",
    "near_duplicate",
    "contaminated_exact",
    "contaminated_near",
    "sampled_out",
)
"""Every rule that a row can fall under, in the order in which they are applied."""

_NUMBER = {name: index + 1 for index, name in enumerate(DROPS)}


def decide(
    sets: Sequence[Staged], options: PipelineOptions, *, say: Callable[[str], None] = lambda line: None
) -> list[NDArray[np.uint8]]:
    """For each set and row 0 where it stays, or 1 + the index in :data:`DROPS` of what it falls under.

    Of duplicates the one from the set of higher quality stays, then from the set named first, then the first row.
    """
    verdicts = np.concatenate([staged.column("rule") for staged in sets]).astype(np.uint8)
    content = np.concatenate([staged.column("content") for staged in sets])
    bounds = np.cumsum([0, *(staged.rows for staged in sets)])
    order = _best_first(sets)
    if options.duplicates:
        say("looking for exact duplicates")
        _mark(verdicts, _repeated(content, order[verdicts[order] == 0]), "exact_duplicate")
    if options.filters is not None and options.filters.boilerplate is not None:
        for index, staged in enumerate(sets):
            if staged.kind not in (TEXT_KIND, Kind.SCORED_PAIR):
                part = verdicts[bounds[index] : bounds[index + 1]]
                too_common = _too_common(staged.column("positive"), part == 0, options.filters.boilerplate)
                _mark(part, too_common, "boilerplate")
    if options.near_duplicates is not None:
        say("looking for near-duplicates")
        alive = order[verdicts[order] == 0]
        near = near_duplicates([staged.signatures for staged in sets], alive, options.near_duplicates)
        _mark(verdicts, near, "near_duplicate")
    for name, rule in (("exact", "contaminated_exact"), ("near", "contaminated_near")):
        _mark(verdicts, np.concatenate([staged.column(name) for staged in sets]), rule)
    parts = [verdicts[bounds[index] : bounds[index + 1]] for index in range(len(sets))]
    for staged, part in zip(sets, parts, strict=True):
        if staged.plan.max_rows is not None:
            _mark(part, _sampled_out(staged, part, options.seed), "sampled_out")
    return parts


def counts(verdicts: NDArray[np.uint8]) -> dict[str, int]:
    """How many rows fell under each rule that any fell under."""
    totals = np.bincount(verdicts, minlength=len(DROPS) + 1)
    return {name: int(totals[_NUMBER[name]]) for name in DROPS if totals[_NUMBER[name]]}


def overlaps(sets: Sequence[Staged], files: Sequence[EvaluationFile]) -> list[dict[str, Any]]:
    """For each training set and evaluation file that share anything, how much.

    ``rows`` and ``texts`` count what is different among the evaluation file's whole rows and its texts (texts,
    queries and either sentence; of at least 6 key characters) that stand on the same side of the training set,
    ``passages`` all other texts that both have: positives and negatives, and what stands on the other side.
    """
    found = []
    for staged in sets:
        shared = staged.shared()
        texts = np.union1d(shared["queries"], shared["passages"])
        for file in files:
            same_side = _common(file.queries, shared["queries"])
            pair = {
                "train": staged.plan.name,
                "eval": file.name,
                "rows": _common(file.rows, shared["rows"]),
                "texts": same_side,
                "passages": _common(np.union1d(file.queries, file.passages), texts) - same_side,
            }
            if pair["rows"] or pair["texts"] or pair["passages"]:
                found.append(pair)
    return found


def _mark(verdicts: NDArray[np.uint8], flags: NDArray[np.bool_], rule: str) -> None:
    verdicts[flags & (verdicts == 0)] = _NUMBER[rule]


def _too_common(positives: NDArray[np.uint64], alive: NDArray[np.bool_], limit: int) -> NDArray[np.bool_]:
    """Rows whose positive more than ``limit`` rows have that are alive."""
    values, counted = np.unique(positives[alive], return_counts=True)
    return np.isin(positives, values[counted > limit])


def _best_first(sets: Sequence[Staged]) -> NDArray[np.uint32]:
    """All rows' numbers: sets of higher quality first, then as sets and rows come."""
    ranks = {"high": 0, "medium": 1, "low": 2}
    order = sorted(range(len(sets)), key=lambda index: (ranks[sets[index].plan.quality], index))
    starts = np.cumsum([0, *(staged.rows for staged in sets)])
    return np.concatenate([np.arange(starts[index], starts[index + 1], dtype=np.uint32) for index in order])


def _repeated(content: NDArray[np.uint64], order: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Rows whose content a row before them in ``order`` has."""
    values = content[order]
    by_value = np.argsort(values, kind="stable")
    values = values[by_value]
    again = np.zeros(len(content), np.bool_)
    again[order[by_value[1:][values[1:] == values[:-1]]]] = True
    return again


def _sampled_out(staged: Staged, verdicts: NDArray[np.uint8], seed: int) -> NDArray[np.bool_]:
    """All but ``max_rows`` of the rows that stay; the draw depends on the seed and the rows' content alone."""
    alive = np.flatnonzero(verdicts == 0)
    lot = staged.column("content")[alive] * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(hash_of_key(f"seed {seed}"))
    lot = (lot ^ (lot >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    out = np.zeros(len(verdicts), np.bool_)
    out[alive[np.argsort(lot, kind="stable")[staged.plan.max_rows :]]] = True
    return out


def _common(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> int:
    return int(np.isin(first, second).sum())
