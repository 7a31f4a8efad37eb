"""One deduplication of a parquet file of pairs, ours or a peer's, in a process that ``benchmarks/data.py`` measures.

    python benchmarks/dedup_peers.py NAME PAIRS.parquet FOLDER

``FOLDER/kept.npy`` holds the numbers of the rows that a peer keeps; ours leaves its shards in ``FOLDER/out``.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from measured import report

GRAM, THRESHOLD, PERMUTATIONS = 3, 0.8, 128
PROCESSES = 2


Work = Callable[[], dict[str, Any]]
"""What is timed: libraries are imported before it."""


def ours(path: Path, folder: Path) -> Work:
    """The whole pipeline: normalise, filters, exact and near-duplicates, shards."""
    from m3e.data.engine import start_engine
    from m3e.data.pipeline import PipelineOptions
    from m3e.data.prepare import run_pipeline
    from m3e.data.sets import plan_of_path

    start_engine()

    def work() -> dict[str, Any]:
        prepared = run_pipeline([plan_of_path(path)], folder / "out", PipelineOptions())
        entry = prepared.manifest["datasets"][0]
        return {"rows_in": entry["rows_in"], "rows_out": entry["rows_out"], "dropped": entry["dropped"]}

    return work


def datasketch(path: Path, folder: Path) -> Work:
    """``datasets`` with two processes, MinHash over character 3-grams of the joined row, MinHashLSH."""
    return _datasketch(path, folder, one_by_one=False)


def datasketch_update(path: Path, folder: Path) -> Work:
    """The same with ``MinHash.update`` for each n-gram, as most scripts have it, in place of ``update_batch``."""
    return _datasketch(path, folder, one_by_one=True)


def rensa(path: Path, folder: Path) -> Work:
    """rensa's R-MinHash (Rust) over the same n-grams, and its LSH."""
    from rensa import RMinHash, RMinHashLSH

    def work() -> dict[str, Any]:
        lsh = RMinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, num_bands=16)
        kept = []
        for number, (text, positive) in enumerate(_pairs(path)):
            minhash = RMinHash(num_perm=PERMUTATIONS, seed=42)
            minhash.update(_grams(_clean(text), _clean(positive)))
            if not lsh.query(minhash):
                lsh.insert(number, minhash)
                kept.append(number)
        return _save(kept, folder)

    return work


def semhash(path: Path, folder: Path) -> Work:
    """semhash with our static model: rows whose vectors are alike, a looser notion of a duplicate."""
    from semhash import SemHash

    from m3e.models import load

    model = load("m3e-static", device="cpu")

    def work() -> dict[str, Any]:
        records = [
            {"text": _clean(text), "text_pos": _clean(positive), "number": str(number)}
            for number, (text, positive) in enumerate(_pairs(path))
        ]
        hashed = SemHash.from_records(records, columns=["text", "text_pos"], model=model)
        return _save([int(row["number"]) for row in hashed.self_deduplicate(threshold=0.95).selected], folder)

    return work


WORKS: dict[str, Callable[[Path, Path], Work]] = {
    work.__name__: work for work in (ours, datasketch, datasketch_update, rensa, semhash)
}


def _datasketch(path: Path, folder: Path, *, one_by_one: bool) -> Work:
    import datasets
    from datasketch import MinHash, MinHashLSH

    scheme = getattr(MinHash(num_perm=4), "scheme", None)
    known = {"scheme": scheme} if scheme else {}  # datasketch 2 asks for it where hashes are given

    def sign(row: dict[str, str]) -> dict[str, Any]:
        text, positive = _clean(row["text"]), _clean(row["text_pos"])
        grams = [gram.encode() for gram in _grams(text, positive)]
        minhash = MinHash(num_perm=PERMUTATIONS)
        if one_by_one:
            for gram in grams:
                minhash.update(gram)
        else:
            minhash.update_batch(grams)
        return {"text": text, "text_pos": positive, "hashes": minhash.hashvalues}

    def work() -> dict[str, Any]:
        rows = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(folder / "cache"))
        rows = rows.map(sign, num_proc=PROCESSES)
        lsh = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
        kept = []
        for number, row in enumerate(rows.select_columns(["hashes"]).with_format("numpy")):
            minhash = MinHash(num_perm=PERMUTATIONS, hashvalues=row["hashes"], **known)
            if not lsh.query(minhash):
                lsh.insert(number, minhash)
                kept.append(number)
        rows.select(kept).remove_columns("hashes").to_parquet(str(folder / "kept.parquet"))
        return _save(kept, folder)

    return work


def _clean(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()


def _grams(text: str, positive: str) -> list[str]:
    joined = f"{text}\n{positive}"
    return list({joined[start : start + GRAM] for start in range(len(joined) - GRAM + 1)})


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=8192):
            yield from zip(batch["text"].to_pylist(), batch["text_pos"].to_pylist(), strict=True)


def _save(kept: list[int], folder: Path) -> dict[str, Any]:
    np.save(folder / "kept.npy", np.array(kept, np.int64))
    return {"rows_out": len(kept)}


def main() -> None:
    name, path, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    report(lambda: WORKS[name](path, folder))


if __name__ == "__main__":
    main()
