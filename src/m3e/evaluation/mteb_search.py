"""Our exact search behind mteb's search protocol: every retrieval task in bounded memory, with mteb's figures.

mteb keeps results as dictionaries of Python numbers, a hundred bytes an answer, and pytrec_eval copies them. Where
they would be the larger part of the memory the results go on as arrays, and so do the metrics.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m3e.evaluation.measures import unit
from m3e.evaluation.ranking_metrics import judgements, order_ties, ranking_measures
from m3e.evaluation.speed import dtype_of
from m3e.files import hash_settings
from m3e.retrieval.exact import top_k
from m3e.retrieval.vector_folder import Precision, VectorFolder, VectorWriter

Array = np.ndarray[Any, np.dtype[Any]]

ARRAY_ENTRIES = 2_000_000
"""Answers (queries × k) from which results stay arrays."""
MEMORY_BYTES = 1 << 29
"""Corpus vectors that take more than this go to disk."""
_DOCUMENTS_AT_ONCE = 16_384


class ArrayRun(Mapping[str, Mapping[str, float]]):
    """Results of a search that look like mteb's dictionaries, a query at a time, and are arrays.

    Attributes:
        scores: shape (queries, k), best first.
        rows: shape (queries, k): documents by their place in ``documents``; −1 where there is none.
    """

    def __init__(self, queries: Sequence[str], documents: Sequence[str], scores: Array, rows: Array) -> None:
        self.queries = list(queries)
        self.documents = documents
        self.scores = scores
        self.rows = rows
        self._place = {query: place for place, query in enumerate(self.queries)}

    def __getitem__(self, query: str) -> dict[str, float]:
        place = self._place[query]
        pairs = zip(self.rows[place].tolist(), self.scores[place].tolist(), strict=True)
        return {self.documents[row]: score for row, score in pairs if row >= 0}

    def __iter__(self) -> Iterator[str]:
        return iter(self.queries)

    def __len__(self) -> int:
        return len(self.queries)

    def only(self, queries: Container[str]) -> ArrayRun:
        """The run of some of the queries, in the order that they have here."""
        kept = [place for place, query in enumerate(self.queries) if query in queries]
        return ArrayRun([self.queries[place] for place in kept], self.documents, self.scores[kept], self.rows[kept])

    def without_own_ids(self) -> ArrayRun:
        """The run without documents whose id is the query's."""
        row_of = {document: row for row, document in enumerate(self.documents) if document in self._place}
        own = np.array([row_of.get(query, -2) for query in self.queries])
        gone = self.rows == own[:, None]
        order = np.argsort(gone, axis=1, kind="stable")
        scores = np.take_along_axis(np.where(gone, -np.inf, self.scores), order, axis=1)
        rows = np.take_along_axis(np.where(gone, -1, self.rows), order, axis=1)
        return ArrayRun(self.queries, self.documents, scores.astype(np.float32), rows)

    def without_first(self) -> ArrayRun:
        """The run without each query's best document."""
        return ArrayRun(self.queries, self.documents, self.scores[:, 1:], self.rows[:, 1:])

    def confidence(self) -> dict[str, Array]:
        """The three confidences that mteb takes of each query: the best score, the spread, and the lead of the best."""
        there = self.rows >= 0
        values = np.where(there, self.scores, 0).astype(np.float64)
        count = np.maximum(there.sum(axis=1), 1)
        mean = values.sum(axis=1) / count
        spread = np.sqrt((np.where(there, values - mean[:, None], 0) ** 2).sum(axis=1) / count)
        second = values[:, 1] if values.shape[1] > 1 else np.zeros(len(values))
        return {"max": values[:, 0], "std": spread, "diff1": values[:, 0] - second}


class MtebSearch:
    """An mteb ``SearchProtocol`` over an encoder of mteb's protocol.

    Similarities other than cosine and dot product, and reranking of given candidates, are left to mteb's wrapper.

    Args:
        encoder: with ``encode``, ``similarity`` and ``mteb_model_meta``.
        vectors: a folder where corpora's vectors stay for later runs; without it large ones go to a temporary one.
        dtype: of vectors on disk.
        arrays: return an :class:`ArrayRun` where the answers are many.
    """

    def __init__(
        self, encoder: Any, *, vectors: Path | None = None, dtype: Precision = "fp32", arrays: bool = False
    ) -> None:
        self.encoder = encoder
        self.mteb_model_meta = encoder.mteb_model_meta
        self.vectors = vectors
        self.dtype: Precision = dtype
        self.arrays = arrays
        self._corpus: Any = None

    def index(self, corpus: Any, **_: Any) -> None:
        """Take the documents; they are encoded when they are searched."""
        self._corpus = corpus

    def search(self, queries: Any, *, top_k: int, top_ranked: Any = None, **context: Any) -> Any:
        """The best ``top_k`` documents of each query: query id to document id to score."""
        similarity = _similarity(self.encoder)
        if top_ranked is not None or similarity not in ("cosine", "dot"):
            return self._by_mteb(queries, top_k=top_k, top_ranked=top_ranked, **context)
        encode = _Encode(self.encoder, similarity == "cosine", context)
        with tempfile.TemporaryDirectory(prefix="m3e-vectors-") as folder:
            run = self._search(encode, queries, top_k, Path(folder))
        self._corpus = None
        if self.arrays and run.rows.size > ARRAY_ENTRIES:
            return run
        return {query: run[query] for query in run}

    def _search(self, encode: _Encode, queries: Any, k: int, temporary: Path) -> ArrayRun:
        wanted = encode(queries, "query")
        ids = [str(identifier) for identifier in self._corpus["id"]]
        size = len(ids) * wanted.shape[1] * 4
        corpus: Array | VectorFolder
        if self.vectors is None and size <= MEMORY_BYTES:
            corpus = np.concatenate([encode(part, "document") for part in _parts(self._corpus, 0)])
        else:
            corpus = self._on_disk(encode, wanted.shape[1], ids, temporary)
        scores, rows = top_k(wanted, corpus, k)
        return ArrayRun(list(queries["id"]), ids, scores, rows)

    def _on_disk(self, encode: _Encode, dimension: int, ids: list[str], temporary: Path) -> VectorFolder:
        fingerprint = self._fingerprint(encode) if self.vectors else "temporary"
        folder = (self.vectors or temporary) / f"{self.dtype}-{fingerprint[:16]}"
        writer = VectorWriter(folder, dimension, self.dtype, fingerprint)
        for part in _parts(self._corpus, len(ids) if writer.finished else writer.rows):
            writer.append(encode(part, "document"))
        return writer.finish(ids)

    def _fingerprint(self, encode: _Encode) -> str:
        """Of everything that decides the vectors: model, precision, prompts by task, and the documents."""
        digest = hashlib.sha256()
        for part in _parts(self._corpus, 0):
            for name in sorted(part.column_names):
                digest.update(repr((name, part[name][:])).encode())
        task = encode.context["task_metadata"]
        meta = self.mteb_model_meta
        manner = [getattr(self.encoder, "prompts", True), dtype_of(self.encoder), encode.cosine]
        return hash_settings([str(meta.name), str(meta.revision), task.name, manner, digest.hexdigest()])

    def _by_mteb(self, queries: Any, **options: Any) -> Any:
        from mteb.models import SearchEncoderWrapper

        wrapper = SearchEncoderWrapper(self.encoder)
        wrapper.task_corpus, self._corpus = self._corpus, None
        return wrapper.search(queries, **options)


@dataclass(frozen=True)
class _Encode:
    """Texts of an mteb data set to vectors, of length 1 where the similarity is the cosine."""

    encoder: Any
    cosine: bool
    context: dict[str, Any]

    def __call__(self, rows: Any, side: str) -> Array:
        from mteb._create_dataloaders import create_dataloader
        from mteb.types import PromptType

        context, options = self.context, self.context["encode_kwargs"]
        task, prompt = context["task_metadata"], PromptType(side)
        loader = create_dataloader(
            rows, task_metadata=task, prompt_type=prompt, num_proc=context.get("num_proc"), **options
        )
        vectors = self.encoder.encode(
            loader,
            task_metadata=task,
            hf_split=context["hf_split"],
            hf_subset=context["hf_subset"],
            prompt_type=prompt,
            **options,
        )
        found = np.asarray(vectors.detach().float().cpu() if hasattr(vectors, "detach") else vectors, np.float32)
        return unit(found) if self.cosine else found


def _parts(corpus: Any, first: int) -> Iterator[Any]:
    for start in range(first, len(corpus), _DOCUMENTS_AT_ONCE):
        yield corpus.select(range(start, min(start + _DOCUMENTS_AT_ONCE, len(corpus))))


def _similarity(encoder: Any) -> str:
    """``cosine``, ``dot`` or another name."""
    inner = getattr(getattr(encoder, "encoder", None), "model", None) or getattr(encoder, "model", None)
    named = getattr(inner, "similarity_fn_name", None) or encoder.mteb_model_meta.similarity_fn_name
    return str(getattr(named, "value", named) or "unknown")


@contextmanager
def exact_search(task: Any, scorer: Any, vectors: Path | None = None) -> Iterator[Any]:
    """Yield what mteb is to call for ``task``: our search around an encoder for retrieval, else ``scorer`` itself."""
    import mteb.abstasks.retrieval as retrieval
    from mteb.models import EncoderProtocol, SearchProtocol

    kind = retrieval.AbsTaskRetrieval
    encoder = isinstance(scorer, EncoderProtocol) and not isinstance(scorer, SearchProtocol)
    if not encoder or not isinstance(task, kind) or task.metadata.modalities != ["text"]:
        yield scorer
        return
    # tasks of others with scores of their own read the dictionaries
    arrays = getattr(task, "reads_arrays", type(task).task_specific_scores is kind.task_specific_scores)
    original = retrieval.RetrievalEvaluator
    retrieval.RetrievalEvaluator = _evaluator(original)
    try:
        yield MtebSearch(scorer, vectors=vectors, arrays=arrays)
    finally:
        retrieval.RetrievalEvaluator = original


def _evaluator(base: Any) -> Any:
    """An evaluator like mteb's that scores an :class:`ArrayRun` from its arrays."""

    class ArrayEvaluator(base):
        def evaluate(
            self,
            qrels: Any,
            results: Any,
            k_values: Any,
            ignore_identical_ids: bool = False,
            skip_first_result: bool = False,
        ) -> Any:
            if not isinstance(results, ArrayRun):
                return super().evaluate(qrels, results, k_values, ignore_identical_ids, skip_first_result)
            run = results.without_own_ids() if ignore_identical_ids else results
            return score_run(run.without_first() if skip_first_result else run, qrels, list(k_values))

    return ArrayEvaluator


def score_run(run: ArrayRun, relevant: Mapping[str, Mapping[str, int]], cutoffs: Sequence[int]) -> Any:
    """A ``RetrievalEvaluationResult`` of a run that is arrays, equal to what mteb makes of the dictionaries."""
    from mteb._evaluators.retrieval_metrics import nauc
    from mteb.types import RetrievalEvaluationResult

    judged = judgements(relevant, run.queries, run.documents)
    measures = ranking_measures(order_ties(run.scores, run.rows, run.documents), judged, cutoffs)
    confidences = run.confidence()

    def named(title: str, name: str, digits: int | None) -> dict[str, float]:
        means = {f"{title}@{cutoff}": float(measures[f"{name}_{cutoff}"].mean()) for cutoff in cutoffs}
        return means if digits is None else {key: round(mean, digits) for key, mean in means.items()}

    def abstention(titles: Mapping[str, str]) -> dict[str, float]:
        return {
            f"nAUC_{title}@{cutoff}_{kind}": nauc(confidence, measures[f"{name}_{cutoff}"])
            for title, name in titles.items()
            for cutoff in cutoffs
            for kind, confidence in confidences.items()
        }

    kept = [name for name in measures if not name.startswith("recip_rank")]
    columns = [measures[name].tolist() for name in kept]
    return RetrievalEvaluationResult(
        all_scores={
            query: dict(zip(kept, values, strict=True))
            for query, values in zip(run.queries, zip(*columns, strict=True), strict=True)
        },
        ndcg=named("NDCG", "ndcg_cut", 5),
        map=named("MAP", "map_cut", 5),
        recall=named("Recall", "recall", 5),
        precision=named("P", "P", 5),
        naucs=abstention({"NDCG": "ndcg_cut", "MAP": "map_cut", "Recall": "recall", "P": "P"}),
        mrr=named("MRR", "recip_rank", None),
        naucs_mrr=abstention({"MRR": "recip_rank"}),
        hit_rate=named("HitRate", "success", 5),
    )
