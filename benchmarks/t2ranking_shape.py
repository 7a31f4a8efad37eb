"""The whole of T2Ranking's shape in a few gigabytes: search and metrics, where the 2023 way needed 79.5 GiB.

    python benchmarks/t2ranking_shape.py --json benchmarks/results/t2ranking_shape.json
    python benchmarks/t2ranking_shape.py --scale 0.02

2,303,643 passages, 24,832 queries, 768 numbers each, the best 1,000, then every metric that mteb reports. The vectors
are synthetic and clustered: a query lies near one passage, the others of its cluster are near it too. They are
written to a folder block by block (3.5 GB, twice that for the corpus doubled; `--folder` keeps them for another run).
The search runs in a process of its own, whose peak resident memory is what counts; then again with twice the corpus.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from m3e.files import write_json
from m3e.machine import machine
from m3e.retrieval.vector_folder import Precision, VectorFolder, VectorWriter, open_vectors

PASSAGES, QUERIES, DIMENSION, K = 2_303_643, 24_832, 768, 1000
JUDGED = 16
"""Judged passages a query: T2Ranking's dev set has 400,536 judgements."""
PASSAGES_A_CLUSTER = 500
CUTOFFS = (1, 3, 5, 10, 20, 100, 1000)
BYTES_AN_ANSWER, OLD_CHUNK = 73, 50_000
"""What BEIR 1.0.1 kept, as uniem called it: the best 1,001 of every chunk of 50,000, 73 bytes each (measured)."""

Array = np.ndarray[Any, np.dtype[Any]]


def old_way_bytes(passages: int, queries: int) -> int:
    return math.ceil(passages / OLD_CHUNK) * min(K + 1, passages) * queries * BYTES_AN_ANSWER


def block_of_passages(number: int, rows: int, centres: Array) -> Array:
    random = np.random.default_rng([1, number])
    found = centres[random.integers(0, len(centres), rows)]
    found += 1.2 * random.standard_normal(found.shape, dtype=np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def write_passages(folder: Path, passages: int, dtype: Precision) -> VectorFolder:
    clusters = max(4, passages // PASSAGES_A_CLUSTER)
    centres = np.random.default_rng(0).standard_normal((clusters, DIMENSION), dtype=np.float32)
    writer = VectorWriter(folder, DIMENSION, dtype, f"t2ranking-shape-{passages}")
    rows = 16_384
    for start in range(writer.rows if not writer.finished else passages, passages, rows):
        writer.append(block_of_passages(start // rows, min(rows, passages - start), centres))
    return writer.finish()


def queries_near(folder: VectorFolder, count: int) -> tuple[Array, Array]:
    """Queries, and the passage that each lies nearest to by construction."""
    random = np.random.default_rng(2)
    targets = random.choice(len(folder), count, replace=False)
    rows = np.concatenate([folder.read(int(row), int(row) + 1) for row in targets])
    rows += 1.5 / math.sqrt(DIMENSION) * random.standard_normal(rows.shape, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows, targets


def judge(targets: Array, passages: int) -> dict[str, dict[str, int]]:
    """The passage that a query was made from with grade 3, others by chance with 0 to 2."""
    random = np.random.default_rng(3)
    others = random.integers(0, passages, (len(targets), JUDGED - 1))
    grades = random.integers(0, 3, others.shape)
    found: dict[str, dict[str, int]] = {}
    for query, target in enumerate(targets.tolist()):
        judged = dict(zip(map(str, others[query].tolist()), grades[query].tolist(), strict=True))
        found[f"q{query}"] = {**judged, str(target): 3}
    return found


def search(folder: Path, count: int) -> dict[str, Any]:
    """Search and metrics in this process; its peak memory."""
    from m3e.evaluation.mteb_search import ArrayRun, score_run
    from m3e.retrieval.exact import top_k

    import_module("mteb")  # its import takes seconds, and is neither search nor metrics
    vectors = open_vectors(folder)
    queries, targets = queries_near(vectors, count)
    relevant = judge(targets, len(vectors))
    started = time.monotonic()

    def show(done: int, total: int) -> None:
        left = (time.monotonic() - started) * (total / done - 1)
        print(f"\r{done / total:6.1%}, {left:5.0f} s left", end="", file=sys.stderr, flush=True)

    scores, rows = top_k(queries, vectors, K, on_scored=show)
    searched = time.monotonic()
    run = ArrayRun([f"q{query}" for query in range(count)], vectors.ids(), scores, rows)
    result = score_run(run, relevant, CUTOFFS)
    scored = time.monotonic()
    print(file=sys.stderr)
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "passages": len(vectors),
        "queries": count,
        "k": scores.shape[1],
        "dtype": vectors.dtype,
        "search_seconds": searched - started,
        "metric_seconds": scored - searched,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "ndcg_at_10": result.ndcg["NDCG@10"],
        "recall_at_1000": result.recall["Recall@1000"],
        "target_found_first": float((rows[:, 0] == targets).mean()),
    }


def in_own_process(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return value


def measured(folder: Path, passages: int, queries: int, dtype: str) -> dict[str, Any]:
    """Vectors written and searched, each in a process of its own."""
    target = folder / f"passages-{passages}-{dtype}"
    in_own_process("--write", str(target), "--passages", str(passages), "--dtype", dtype)
    return in_own_process("--search", str(target), "--queries", str(queries))


def compare(folder: Path, scale: float, dtype: str) -> dict[str, Any]:
    passages, queries = round(PASSAGES * scale), round(QUERIES * scale)
    ours = measured(folder, passages, queries, dtype)
    double = measured(folder, 2 * passages, queries, dtype)
    old = old_way_bytes(passages, queries)
    return {
        "ours": {**ours, "twice_the_corpus": double, "peak_growth": double["peak_bytes"] / ours["peak_bytes"] - 1},
        "peers": {"uniem_manner": {"peak_bytes": old, "gib": round(old / 2**30, 1), "extrapolated": True}},
        "ratios": {"uniem_manner": old / ours["peak_bytes"]},
        "machine": machine().as_dict(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the passages and of the queries")
    parser.add_argument("--scale", type=float, default=1.0, help="of the passages and of the queries")
    parser.add_argument("--dtype", choices=["fp16", "bf16"], default="fp16")
    parser.add_argument("--folder", type=Path, help="where the vectors stay; by default a temporary folder")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--passages", type=int, default=PASSAGES, help=argparse.SUPPRESS)
    parser.add_argument("--queries", type=int, default=QUERIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        print(json.dumps({"rows": len(write_passages(options.write, options.passages, options.dtype))}))
        return
    if options.search:
        print(json.dumps(search(options.search, options.queries)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        result = compare(options.folder or Path(temporary), 0.02 if options.quick else options.scale, options.dtype)
    ours = result["ours"]
    print(f"peak {ours['peak_bytes'] / 2**30:.2f} GiB, {ours['peak_growth']:+.1%} with twice the corpus")
    print(f"search {ours['search_seconds']:.0f} s, metrics {ours['metric_seconds']:.0f} s")
    print(f"the 2023 way: {result['peers']['uniem_manner']['gib']} GiB")
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
