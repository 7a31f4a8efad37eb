"""Exact nearest texts in bounded memory.

The corpus goes by in blocks. A block's products with a tile of queries are taken in bf16 where the processor is
fast at it; their greatest in groups show which documents can be among the best at all (`m3e.retrieval.products` has
the bound), and only those are scored again, in fp32. So the answer is that of fp32 brute force on the vectors as
they are stored, and choosing costs little beside the products.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from m3e.errors import DataError, SettingsError
from m3e.machine import bf16_is_fast
from m3e.retrieval.blocks import Block, blocks
from m3e.retrieval.checkpoint import Checkpoint
from m3e.retrieval.products import Bf16Products, Fp32Products, full_precision
from m3e.retrieval.running import MOST_ROWS, RunningTop, encode
from m3e.retrieval.vector_folder import VectorFolder

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, np.dtype[Any]]

BLOCK_ROWS = 16_384
QUERY_ROWS = 8_192
_TILE = 512
_GROUP = 32
_PAIRS = 1_000_000


def top_k(
    queries: Array,
    corpus: Array | VectorFolder,
    k: int,
    *,
    block: int = BLOCK_ROWS,
    query_block: int = QUERY_ROWS,
    products: Literal["auto", "bf16", "fp32"] = "auto",
    on_scored: Callable[[int, int], None] = lambda done, total: None,
    checkpoint: Path | None = None,
    save_every: float = 30.0,
) -> tuple[Array, Array]:
    """Scores and row indices of each query's ``k`` best documents, best first; ties go to the lower row.

    Args:
        queries: shape (queries, dimension).
        corpus: shape (documents, dimension), or a folder of vectors on disk.
        k: at most the number of documents are returned.
        block: documents scored at a time.
        query_block: queries searched in one pass over the corpus; the passes follow each other.
        products: ``auto`` multiplies in bf16 where the processor is fast at it; the answer is the same.
        on_scored: called with pairs of query and document scored and pairs in all.
        checkpoint: a folder where finished query blocks and, every ``save_every`` seconds, the state of the
            running one are kept: the same search goes on from there. Remove it when the result is safe.
        save_every: seconds.

    Returns:
        Two arrays of shape (queries, min(k, documents)): fp32 dot products and int64 rows.

    Raises:
        DataError: dimensions that differ, or a vector that is not finite.
        SettingsError: a ``k`` or block below 1.
    """
    _check(queries, corpus, k, min(block, query_block))
    k = min(k, len(corpus))
    exact = np.ascontiguousarray(queries, dtype=np.float32)
    scores = np.empty((len(exact), k), dtype=np.float32)
    rows = np.empty((len(exact), k), dtype=np.int64)
    if not scores.size:
        return scores, rows
    fast = products == "bf16" or (products == "auto" and bf16_is_fast())
    kept = Checkpoint.begin(checkpoint, exact, corpus, (k, block, query_block), save_every) if checkpoint else None
    for number, span in enumerate(_spans(len(exact), query_block)):

        def scored(documents: int, span: slice = span) -> None:
            before = span.start * len(corpus)
            on_scored(before + (span.stop - span.start) * documents, scores.shape[0] * len(corpus))

        found = kept.finished(number) if kept else None
        if found is None:
            found = _Search(exact[span], k, fast).run(corpus, block, scored, kept, number)
        scores[span], rows[span] = found
        scored(len(corpus))
    return scores, rows


def _check(queries: Array, corpus: Array | VectorFolder, k: int, block: int) -> None:
    if k < 1 or block < 1:
        raise SettingsError(f"k and the blocks must be at least 1, not {k} and {block}")
    if queries.ndim != 2 or len(corpus.shape) != 2 or queries.shape[1] != corpus.shape[1]:
        raise DataError(f"queries of shape {queries.shape} cannot be compared with a corpus of shape {corpus.shape}")
    if len(corpus) > MOST_ROWS:
        raise DataError(f"a corpus holds at most {MOST_ROWS} vectors, not {len(corpus)}")
    finite = np.isfinite(queries).all(axis=1)
    if not finite.all():
        raise DataError(f"vector {int(np.argmin(finite))} of the queries is not finite; encode it again")


def _spans(count: int, most: int) -> list[slice]:
    """Equal parts of at most ``most``."""
    edges = np.linspace(0, count, -(-count // most) + 1).astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges)]


class _Search:
    """One pass over the corpus for some queries."""

    def __init__(self, queries: Array, k: int, fast: bool) -> None:
        import torch

        self.queries = torch.from_numpy(queries)
        self.products = (Bf16Products if fast else Fp32Products)(self.queries)
        self.top = RunningTop(len(queries), k)
        self.share = 1.0  # of the last tile's pairs that had to be scored again
        self._exact: torch.Tensor | None = None

    def run(
        self,
        corpus: Array | VectorFolder,
        block: int,
        on_documents: Callable[[int], None],
        kept: Checkpoint | None,
        number: int,
    ) -> tuple[Array, Array]:
        """Scores and rows of the best documents, best first."""
        first = kept.restore(number, self.top) if kept else 0
        with closing(blocks(corpus, block, first)) as parts, full_precision():
            for part in parts:
                self._take(part)
                done = part.start + len(part.vectors)
                on_documents(done)
                if kept and done < len(corpus):
                    kept.save(number, self.top, done)
        found = self.top.best()
        if kept:
            kept.finish(number, found)
        return found

    def _take(self, block: Block) -> None:
        exact = self._in_fp32(block.vectors)
        self.products.load(block, exact)
        pairs: list[tuple[Array, Array]] = []
        waiting = first = 0
        for start in range(0, len(self.queries), _TILE):
            stop = min(start + _TILE, len(self.queries))
            queries, columns = self._survivors(slice(start, stop))
            self.share = len(columns) / (len(exact) * (stop - start))
            pairs.append((queries + (start - first), columns))
            waiting += len(columns)
            if waiting > _PAIRS or stop == len(self.queries):
                queries, columns = (np.concatenate(part) for part in zip(*pairs, strict=True))
                scores = _exact_scores(self.queries[first:stop], exact, queries, columns)
                self.top.add(queries + first, encode(scores, columns + block.start), first, stop)
                pairs, waiting, first = [], 0, stop

    def _in_fp32(self, vectors: torch.Tensor) -> torch.Tensor:
        import torch

        if vectors.dtype == torch.float32:
            return vectors
        if self._exact is None or len(self._exact) < len(vectors):
            self._exact = torch.empty(vectors.shape, dtype=torch.float32)
        return self._exact[: len(vectors)].copy_(vectors)

    def _survivors(self, tile: slice) -> tuple[Array, Array]:
        """The pairs whose approximate score leaves them a chance: queries of the tile, in order, and columns."""
        import torch

        floor = torch.from_numpy(self.top.floor[tile])
        unknown = bool(torch.isinf(floor).any())
        scores = self.products.scores(tile)
        group = self._group(scores.shape[1], unknown)
        grouped = scores.view(len(scores), group, -1)
        greatest = _greatest(grouped)
        turned = False
        if unknown and greatest.shape[1] >= self.top.k:
            kth = _kth(greatest, self.top.k)
            if bool((kth <= 0).any()) and (turned := self.products.turn(scores)):
                greatest = _greatest(grouped)
                kth = _kth(greatest, self.top.k)
            # as many groups as k have a document that reaches it
            floor = torch.maximum(floor, self.products.least(self.products.decode(kth), tile))
            self.top.floor[tile] = floor.numpy()
        cut = self.products.cut(floor, tile)
        if not turned and bool((cut < 0).any()) and self.products.turn(scores):
            greatest = _greatest(grouped)
        hits = np.flatnonzero((greatest > cut[:, None]).numpy())
        queries, columns = np.divmod(hits, greatest.shape[1])
        if group == 1:
            return queries, columns
        chosen = grouped.numpy()[queries, :, columns] > cut.numpy()[queries][:, None]
        hit, place = np.divmod(np.flatnonzero(chosen), group)
        return queries[hit], place * greatest.shape[1] + columns[hit]

    def _group(self, width: int, unknown: bool) -> int:
        """How many columns to take the greatest of: a power of two that divides ``width``."""
        group = _GROUP
        while group > 1 and (
            width % group or (width // group < 2 * self.top.k if unknown else group * self.share > 0.25)
        ):
            group //= 2
        return group


def _greatest(grouped: torch.Tensor) -> torch.Tensor:
    """The greatest of each group; shape (queries, groups)."""
    return grouped.amax(1) if grouped.shape[1] > 1 else grouped[:, 0]


def _kth(numbers: torch.Tensor, k: int) -> torch.Tensor:
    """The k-th greatest of each row."""
    import torch

    place = numbers.shape[1] - k
    return torch.from_numpy(np.partition(numbers.numpy(), place, axis=1)[:, place])


def _exact_scores(queries: torch.Tensor, corpus: torch.Tensor, which: Array, columns: Array) -> Array:
    """Dot products in fp32 of the pairs (which[i], columns[i])."""
    import torch

    # by document, so that the long side, the corpus, is read once and in order
    order = np.argsort(columns.astype(np.uint16) if len(corpus) <= 2**16 else columns, kind="stable")
    ends = np.concatenate([[0], np.cumsum(np.bincount(columns, minlength=len(corpus)))])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        pairs = torch.sparse_csr_tensor(
            torch.from_numpy(ends),
            torch.from_numpy(which[order]),
            torch.zeros(len(columns)),
            size=(len(corpus), len(queries)),
            check_invariants=False,
        )
        scored = torch.sparse.sampled_addmm(pairs, corpus, queries.T, beta=0.0)
    scores = np.empty(len(columns), dtype=np.float32)
    scores[order] = scored.values().numpy()
    return scores
