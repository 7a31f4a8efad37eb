"""The search's peak memory does not depend on the corpus; killed for real, it goes on and ends in the same answer."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from m3e.files import read_json
from m3e.retrieval.exact import top_k
from m3e.retrieval.vector_folder import VectorFolder, VectorWriter, open_vectors
from tests.slow.processes import ROOT, offline_environment

pytestmark = pytest.mark.slow

SEARCH = """
import sys
from pathlib import Path
import numpy as np
from m3e.retrieval.exact import top_k
from m3e.retrieval.vector_folder import open_vectors
corpus = open_vectors(Path(sys.argv[1]))
top_k(corpus.read(0, 700), corpus, 200, block=2048, query_block=350, checkpoint=Path(sys.argv[2]), save_every=0.0)
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> VectorFolder:
    """100,000 clustered vectors of 256 numbers in fp16."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(100, 256)).astype(np.float32)
    writer = VectorWriter(tmp_path_factory.mktemp("vectors") / "v", 256, "fp16", "x")
    for _ in range(5):
        rows = centres[random.integers(0, 100, 20_000)] + random.normal(size=(20_000, 256))
        writer.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return writer.finish()


def test_a_killed_search_goes_on_and_ends_in_the_same_answer(tmp_path: Path, corpus: VectorFolder) -> None:
    expected = top_k(corpus.read(0, 700), corpus, 200)
    folder = tmp_path / "checkpoint"
    command = [sys.executable, "-c", SEARCH, str(corpus.path), str(folder)]
    for wanted in ("running.npz", "queries-000000.npz"):
        process = subprocess.Popen(command, env=offline_environment())
        end = time.monotonic() + 120
        while not (folder / wanted).exists():
            assert process.poll() is None, "the search ended before it could be killed"
            assert time.monotonic() < end
            time.sleep(0.001)
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
    reached: list[int] = []
    found = top_k(
        corpus.read(0, 700),
        open_vectors(corpus.path),
        200,
        block=2048,
        query_block=350,
        checkpoint=folder,
        save_every=0.0,
        on_scored=lambda done, total: reached.append(done),
    )
    assert reached[0] >= 350 * len(corpus)  # the first half is not searched again
    assert np.array_equal(found[1], expected[1])
    assert np.array_equal(found[0], expected[0])


def test_twice_the_corpus_takes_the_same_memory(tmp_path: Path) -> None:
    """T2Ranking's shape, a fiftieth of it, by the benchmark itself."""
    report = tmp_path / "shape.json"
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "t2ranking_shape.py"),
        "--scale",
        "0.02",
        "--json",
        str(report),
    ]
    subprocess.run(command, env=offline_environment(), check=True, timeout=600, capture_output=True)
    ours = read_json(report)["ours"]
    assert (ours["passages"], ours["twice_the_corpus"]["passages"]) == (46_073, 92_146)
    assert ours["target_found_first"] == ours["twice_the_corpus"]["target_found_first"] == 1.0
    assert ours["peak_growth"] < 0.1
    assert ours["peak_bytes"] < 1.5 * 2**30
