"""The data pipeline's speed and memory, and how it stands beside common ways to deduplicate.

    M3E_DATA=… python benchmarks/data.py --json benchmarks/results/data.json
    python benchmarks/data.py --quick --json …

Rows are made of real sentences with duplicates planted among them (``benchmarks/synthetic.py``). Every run is a
process of its own. Parts are written to the file as they are done; a part that is there is kept, so that a stopped
run goes on; ``--only PART`` runs that part again. The time to make the rows counts for nobody.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from measured import PeerMissingError, run_measured
from synthetic import Planted, row_hashes, write_pairs

from m3e.files import read_json, write_json
from m3e.machine import machine

SCALES, QUICK_SCALES = (100_000, 1_000_000, 5_000_000), (20_000, 100_000)
BESIDE, QUICK_BESIDE = 100_000, 20_000
ROUNDS = 3
WORK = Path(__file__).with_name("dedup_peers.py")

NOTES = {
    "datasketch": "datasets.map with 2 processes (NFKC and strip; MinHash of 128 permutations over the 3-grams of the "
    "joined row, update_batch), MinHashLSH at 0.8: no filters, no shards; near-duplicates of the joined row",
    "datasketch_update": "the same with MinHash.update for each n-gram, as most scripts have it",
    "rensa": "NFKC and strip, R-MinHash (Rust) over the same 3-grams, its LSH: signatures and look-ups only, in "
    "memory; no filters, no shards",
    "semhash": "vectors of our static model, USearch, cosine 0.95: another notion of a duplicate, in memory",
}
NOT_RUN = {
    "datatrove": "not run: its MinHash needs word tokenizers and word n-grams, JSON lines and four passes of its own "
    "executor; rows/s would not compare like with like",
}


def one_run(name: str, path: Path, planted: Planted, scratch: Path) -> dict[str, Any]:
    """One measured run over a file, with the share of planted duplicates that it found."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        found = run_measured(WORK, [name, str(path), folder])
        rows = pq.read_metadata(path).num_rows
        kept = kept_hashes(path, Path(folder))
    return {
        "rows": rows,
        "rows_per_second": round(rows / found["seconds"]),
        **found,
        "found": {kind: round(share, 4) for kind, share in planted.recall(kept).items()},
    }


def kept_hashes(path: Path, folder: Path) -> np.ndarray[Any, Any]:
    """The hash of each row that a run kept."""
    if (folder / "out").is_dir():
        return np.concatenate([hashes_of_file(shard) for shard in sorted((folder / "out").glob("*/*.parquet"))])
    kept: np.ndarray[Any, Any] = np.load(folder / "kept.npy")
    return hashes_of_file(path)[kept]


def hashes_of_file(path: Path) -> np.ndarray[Any, Any]:
    with pq.ParquetFile(path) as file:
        return np.concatenate([row_hashes(batch) for batch in file.iter_batches(columns=["text", "text_pos"])])


def median_run(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run of median speed, with every run's speed beside it."""
    speeds = [run["rows_per_second"] for run in runs]
    middle = statistics.median_low(speeds)
    return {**runs[speeds.index(middle)], "all_rows_per_second": speeds}


class Benchmark:
    """Parts of a result, each written when it is done."""

    def __init__(self, json: Path, scratch: Path, *, quick: bool, again: Iterable[str]) -> None:
        self._json, self._scratch = json, scratch
        self._scales = QUICK_SCALES if quick else SCALES
        self._beside = QUICK_BESIDE if quick else BESIDE
        self._rounds = 1 if quick else ROUNDS
        old = read_json(json) if json.exists() else {}
        self._parts: dict[str, Any] = {key: part for key, part in old.get("parts", {}).items() if key not in again}

    def run(self) -> None:
        self._side_by_side()
        for rows in self._scales:
            if f"scale/{rows}" not in self._parts:
                path, planted = self._pairs(rows)
                self._keep(f"scale/{rows}", one_run("ours", path, planted, self._scratch))
                path.unlink()
        for name in ("datasketch_update", "rensa", "semhash"):
            if f"beside/{name}" not in self._parts:
                self._keep(f"beside/{name}", self._peer(name))

    def _side_by_side(self) -> None:
        """Ours and datasketch by turns, on the same rows."""
        path, planted = self._pairs(self._beside)
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "datasketch": []}
        if "beside/ours" in self._parts and "beside/datasketch" in self._parts:
            return
        for _ in range(self._rounds):
            for name, done in runs.items():
                done.append(one_run(name, path, planted, self._scratch))
                print(f"{name}: {done[-1]}", flush=True)
        for name, done in runs.items():
            self._keep(f"beside/{name}", median_run(done))

    def _peer(self, name: str) -> dict[str, Any]:
        path, planted = self._pairs(self._beside)
        try:
            return one_run(name, path, planted, self._scratch)
        except PeerMissingError as error:
            return {"missing": str(error)}

    def _pairs(self, rows: int) -> tuple[Path, Planted]:
        path, plants = self._scratch / f"pairs-{rows}.parquet", self._scratch / f"planted-{rows}.npz"
        if not path.exists():
            write_pairs(path, rows).save(plants)
        return path, Planted.load(plants)

    def _keep(self, name: str, part: dict[str, Any]) -> None:
        self._parts[name] = part
        print(f"{name}: {part}", flush=True)
        write_json(self._json, self._result())

    def _result(self) -> dict[str, Any]:
        beside = {name.removeprefix("beside/"): part for name, part in self._parts.items() if name.startswith("beside")}
        scales = {name.removeprefix("scale/"): part for name, part in self._parts.items() if name.startswith("scale")}
        ours = beside.pop("ours", None)
        speeds = {name: part["rows_per_second"] for name, part in beside.items() if "rows_per_second" in part}
        peers = {name: {"note": NOTES[name], **part} for name, part in beside.items()}
        return {
            "ours": {"beside": ours, "scales": scales, "checks": checks(scales)},
            "peers": {**peers, **{name: {"note": note} for name, note in NOT_RUN.items()}},
            "ratios": {name: round(ours["rows_per_second"] / speed, 2) for name, speed in speeds.items() if ours},
            "machine": machine().as_dict(),
            "parts": self._parts,
        }


def checks(scales: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the issue asks of the largest scale, as far as it has been run; beside the seconds, the processor's."""
    sizes = sorted(map(int, scales))
    if not sizes:
        return {}
    largest = scales[str(sizes[-1])]
    found: dict[str, Any] = {
        "found_exact": largest["found"]["exact"],
        "found_near": largest["found"]["near"],
        "found_is_enough": largest["found"]["exact"] == 1 and largest["found"]["near"] >= 0.95,
        "peak_rss_mb": largest["peak_rss_mb"],
        "peak_is_below_4_gb": largest["peak_rss_mb"] < 4096,
    }
    if len(sizes) > 1:
        smaller = scales[str(sizes[-2])]
        extra = largest["rows"] - smaller["rows"]
        a_row = {name: [run[name] / run["rows"] for run in (smaller, largest)] for name in ("seconds", "cpu_seconds")}
        found |= {f"{name}_a_row_grow_by": round(last / first - 1, 3) for name, (first, last) in a_row.items()}
        found["time_is_linear"] = found["seconds_a_row_grow_by"] <= 0.2
        found["bytes_a_row_beyond"] = round((largest["peak_rss_mb"] - smaller["peak_rss_mb"]) * 2**20 / extra)
        found["bytes_are_at_most_200"] = found["bytes_a_row_beyond"] <= 200
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="20,000 and 100,000 rows, one round")
    parser.add_argument("--only", action="append", default=[], help="a part by name, to run it again; may be repeated")
    parser.add_argument("--scratch", type=Path, help="where rows and runs are written; 12 GB for 5 million rows")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="m3e-bench-", dir=options.scratch))
    try:
        Benchmark(options.json, scratch, quick=options.quick, again=options.only).run()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
