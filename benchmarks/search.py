"""Exact search side by side with FAISS, sentence-transformers and mteb: the same vectors, the same answers.

    python benchmarks/search.py [--quick] --json benchmarks/results/search.json

300,000 documents, 2,000 queries, 768 numbers each, the best 100. The vectors are clustered, of length 1, and rounded
to the type in which ours lie on disk; the peers get the very same numbers as fp32 arrays in memory. Ours reads its
file (from the page cache) inside the measured time; FAISS's `add` lies outside it. Runs alternate, medians count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.pop("OPENBLAS_CORETYPE", None)  # it would hold the peers' matrix products to an older processor

import numpy as np
import torch

from m3e.files import write_json
from m3e.machine import machine
from m3e.retrieval.exact import top_k
from m3e.retrieval.vector_folder import VectorFolder, VectorWriter

Array = np.ndarray[Any, np.dtype[Any]]
Found = tuple[Array, Array]

FULL = {"documents": 300_000, "queries": 2_000, "dimension": 768, "k": 100, "runs": 5}
QUICK = {"documents": 100_000, "queries": 1_000, "dimension": 768, "k": 100, "runs": 3}
CLUSTERS = 200
TIE = 1e-6
"""Scores nearer than this are equal: fp32 products of 768 numbers differ by as much between libraries."""


def clustered(count: int, dimension: int, seed: int) -> Array:
    """Unit vectors, each at a cosine of about 0.6 to one of the centres."""
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, dimension), dtype=np.float32)
    random = np.random.default_rng(seed)
    rows = centres[random.integers(0, CLUSTERS, count)]
    rows += 1.3 * random.standard_normal((count, dimension), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def store(folder: Path, settings: dict[str, int], dtype: Any) -> VectorFolder:
    writer = VectorWriter(folder, settings["dimension"], dtype, "clustered")
    for start in range(0, settings["documents"], 50_000):
        writer.append(clustered(min(50_000, settings["documents"] - start), settings["dimension"], 1 + start))
    return writer.finish()


def by_faiss(queries: Array, corpus: Array, k: int) -> Callable[[], Found]:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(corpus.shape[1])
    index.add(corpus)
    return lambda: index.search(queries, k)


def by_sentence_transformers(queries: Array, corpus: Array, k: int) -> Callable[[], Found]:
    from sentence_transformers.util import dot_score, semantic_search

    left, right = torch.from_numpy(queries), torch.from_numpy(corpus)

    def run() -> Found:
        hits = semantic_search(left, right, top_k=k, score_function=dot_score)
        scores = np.array([[hit["score"] for hit in found] for found in hits], dtype=np.float32)
        return scores, np.array([[hit["corpus_id"] for hit in found] for found in hits])

    return run


class Ready:
    """An mteb encoder whose vectors are there already: encoding is a slice."""

    def __init__(self, queries: Array, corpus: Array) -> None:
        from mteb.models import ModelMeta

        self.mteb_model_meta = ModelMeta.create_empty({"name": "benchmark/ready", "revision": "1"})
        self.queries, self.corpus = torch.from_numpy(queries), torch.from_numpy(corpus)

    def encode(self, inputs: Any, *, prompt_type: Any, **_: Any) -> torch.Tensor:
        if prompt_type.value == "query":
            return self.queries
        first = int(inputs[0]["text"])
        return self.corpus[first : first + len(inputs)]

    def similarity(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left @ right.T


def by_mteb(queries: Array, corpus: Array, k: int) -> Callable[[], Found]:
    import mteb.models.search_wrappers as wrappers
    from datasets import Dataset

    from m3e.evaluation.mteb_tasks import own_task

    asked, documents = (
        Dataset.from_dict({"id": names, "text": names})
        for names in ([str(number) for number in range(len(part))] for part in (queries, corpus))
    )
    context: dict[str, Any] = {
        "task_metadata": own_task("Search", "retrieval", "test", "1").metadata,
        "hf_split": "test",
        "hf_subset": "default",
        "encode_kwargs": {"batch_size": 50_000, "show_progress_bar": False},
        "num_proc": None,
    }

    # the search alone is compared: mteb is spared its preparation of texts, which takes as long again
    wrappers.create_dataloader = lambda dataset, **_: dataset  # type: ignore[assignment,misc]

    def run() -> Found:
        search = wrappers.SearchEncoderWrapper(Ready(queries, corpus))  # type: ignore[arg-type]
        search.index(documents, **context)
        found = search.search(asked, top_k=k, **context)
        ordered = [
            sorted(((score, int(name)) for name, score in hits.items()), reverse=True) for hits in found.values()
        ]
        scores = np.array([[score for score, _ in hits] for hits in ordered], dtype=np.float32)
        return scores, np.array([[row for _, row in hits] for hits in ordered])

    return run


def recall(found: Array, expected: Found, queries: Array, corpus: Array) -> dict[str, float]:
    """The share of the brute force's answers found; and where scores nearer than ``TIE`` are equal."""
    scores, rows = expected
    same = right = 0
    for query in range(len(rows)):
        same += len(np.intersect1d(found[query], rows[query]))
        own = corpus[found[query]].astype(np.float64) @ queries[query]
        right += int((own >= scores[query, -1] - TIE).sum())
    return {"recall": right / rows.size, "recall_strict": same / rows.size}


def brute_force(queries: Array, corpus: Array, k: int) -> Found:
    """The best by fp32 products and a full sort of what reaches the k-th."""
    scores, rows = [], []
    for start in range(0, len(queries), 100):
        products = queries[start : start + 100] @ corpus.T
        best = np.argpartition(-products, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(products, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        scores.append(np.take_along_axis(values, order, axis=1))
        rows.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(scores), np.concatenate(rows)


def measure(contenders: dict[str, Callable[[], Found]], runs: int) -> tuple[dict[str, list[float]], dict[str, Array]]:
    """Seconds of each run, alternating, after one run that warms up; and what was found."""
    found = {name: contender()[1] for name, contender in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, contender in contenders.items():
            started = time.perf_counter()
            contender()
            seconds[name].append(time.perf_counter() - started)
            print(f"{name}: {seconds[name][-1]:.2f} s", flush=True)
    return seconds, found


def run(settings: dict[str, int], dtype: Any, folder: Path) -> dict[str, Any]:
    vectors = store(folder / "vectors", settings, dtype)
    corpus = vectors.read(0, len(vectors))
    queries = clustered(settings["queries"], settings["dimension"], 7)
    k = settings["k"]
    seconds, found = measure(
        {
            "ours": lambda: top_k(queries, vectors, k),
            "faiss_flat": by_faiss(queries, corpus, k),
            "sentence_transformers_default": by_sentence_transformers(queries, corpus, k),
            "mteb_search": by_mteb(queries, corpus, k),
        },
        settings["runs"],
    )
    expected = brute_force(queries, corpus, k)
    results = {
        name: {
            "seconds": statistics.median(times),
            "runs": times,
            **recall(found[name], expected, queries, corpus),
        }
        for name, times in seconds.items()
    }
    ours = results.pop("ours")
    return {
        "ours": {**settings, "dtype": dtype, **ours},
        "peers": results,
        "ratios": {name: peer["seconds"] / ours["seconds"] for name, peer in results.items()},
        "machine": machine().as_dict(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a third of the documents, half of the queries")
    parser.add_argument("--dtype", choices=["fp16", "bf16", "fp32"], default="bf16", help="of ours on disk")
    options = parser.parse_args()
    torch.set_num_threads(machine().threads if "OMP_NUM_THREADS" not in os.environ else torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        result = run(QUICK if options.quick else FULL, options.dtype, Path(folder))
    for name, ratio in result["ratios"].items():
        print(f"{name}: {ratio:.2f} times as long as ours")
    print(f"recall {result['ours']['recall']}, strictly {result['ours']['recall_strict']}")
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
