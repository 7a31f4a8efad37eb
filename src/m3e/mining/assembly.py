"""A set's rows with what was mined for them, as staged rows again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from m3e.mining.embedding import cosines
from m3e.mining.known import Known
from m3e.mining.options import MiningOptions
from m3e.mining.output import DECIMALS, staged_table
from m3e.mining.passages import Passages
from m3e.mining.rows import Rows
from m3e.mining.search import Mined


class MinedRows:
    """The rows of a set after mining.

    Attributes:
        counts: filled while the rows are taken: ``rows`` and ``positives`` that stay, ``inconsistent_rows``,
            ``inconsistent_positives``, ``given`` negatives that stay, ``given_positives`` that were no negatives,
            ``mined``, ``short`` rows with fewer mined than asked, ``none``: rows without any.
    """

    def __init__(
        self,
        rows: Rows,
        mined: Mined,
        query_vectors: NDArray[np.float32],
        passages: Passages,
        known: Known,
        options: MiningOptions,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._rows = rows
        self._mined = mined
        self._vectors = query_vectors
        self._passages = passages
        self._known = known
        self._options = options

    def tables(self) -> Iterator[pa.Table]:
        """The rows that stay, in order, some thousand at a time."""
        for start, table in self._rows.tables():
            yield self._table(table, start, start + table.num_rows)

    def _table(self, table: pa.Table, start: int, stop: int) -> pa.Table:
        rows, options = self._rows, self._options
        queries = rows.query[start:stop]
        kept, positive_scores = self._positives(queries, start, stop)
        given = self._given(queries, start, stop)
        chosen = self._mined.chosen[queries]
        texts = iter(self._passages.texts(chosen[chosen >= 0]))
        negatives = [[next(texts) for _ in range(count)] for count in (chosen >= 0).sum(axis=1).tolist()]
        scores = self._mined.scores[queries]
        out: dict[str, list[Any]] = {name: [] for name in table.column_names}
        cells = table.to_pylist()
        for index, row in enumerate(cells):
            stays = kept[index]
            if not stays:
                self.counts["inconsistent_rows"] += 1
                continue
            old = given[index]
            out["row"].append(row["row"])
            out["query"].append(row["query"])
            out["positives"].append([row["positives"][place] for place in stays])
            out["negatives"].append([row["negatives"][place] for place, _ in old] + negatives[index])
            out["label"].append(row["label"])
            if options.scores:
                out["positive_scores"].append([positive_scores[index][place] for place in stays])
                new = _short(scores[index, : len(negatives[index])])
                out["negative_scores"].append([score for _, score in old] + new)
            else:
                # scores of some of the texts are no scores of the row
                same = not options.negatives and len(old) == len(row["negatives"])
                before = row["positive_scores"] if same else None
                out["positive_scores"].append(None if before is None else [before[place] for place in stays])
                out["negative_scores"].append(row["negative_scores"] if same else None)
            self._count(len(old), len(negatives[index]), len(stays))
        return staged_table(out)

    def _count(self, given: int, mined: int, positives: int) -> None:
        self.counts["rows"] += 1
        self.counts["positives"] += positives
        self.counts["given"] += given
        self.counts["mined"] += mined
        self.counts["short"] += mined < self._options.negatives
        self.counts["none"] += not mined and not given

    def _positives(
        self, queries: NDArray[np.int64], start: int, stop: int
    ) -> tuple[list[list[int]], list[list[float]]]:
        """For each row, which of its positives stay, and the cosines of all."""
        lists = self._rows.positives
        owners = lists.owners(start, stop) - start
        places = self._rows.answer_places(queries[owners], lists.values[lists.span(start, stop)])
        stays = self._mined.consistent[places]
        self.counts["inconsistent_positives"] += int((~stays).sum())
        scores = _split(_short(self._mined.positive_scores[places]), lists.lengths[start:stop])
        flags = _split(stays.tolist(), lists.lengths[start:stop])
        return [[place for place, flag in enumerate(row) if flag] for row in flags], scores

    def _given(self, queries: NDArray[np.int64], start: int, stop: int) -> list[list[tuple[int, float]]]:
        """For each row, which of the negatives that it had stay, each with its cosine where that is asked for."""
        lists = self._rows.negatives
        owners = queries[lists.owners(start, stop) - start]
        numbers = lists.values[lists.span(start, stop)]
        queries_keys, keys = self._rows.queries.keys[owners], self._rows.passages.keys[numbers]
        positive = self._known.positive(queries_keys, keys) | (queries_keys == keys)
        stays = ~positive
        if not self._options.negatives:  # only positives are looked at
            stays[:] = True
        elif self._options.replace:
            stays[:] = False
        else:
            self.counts["given_positives"] += int(positive.sum())
        scores = np.zeros(len(numbers), np.float32)
        if self._options.scores:
            scores = cosines(self._vectors, self._passages.vectors, owners, numbers)
        pairs = _split(list(zip(stays.tolist(), _short(scores), strict=True)), lists.lengths[start:stop])
        return [[(place, score) for place, (flag, score) in enumerate(row) if flag] for row in pairs]


def _short(scores: NDArray[np.float32]) -> list[float]:
    return [float(score) for score in scores.astype(np.float64).round(DECIMALS)]


def _split(values: list[Any], lengths: Sequence[int] | NDArray[np.int64]) -> list[list[Any]]:
    """The values in consecutive lists of these lengths."""
    found, start = [], 0
    for length in map(int, lengths):
        found.append(values[start : start + length])
        start += length
    return found
