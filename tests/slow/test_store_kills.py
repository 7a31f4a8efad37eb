"""Stores in processes of their own: killed while they are indexed, asked for real passages, behind a server."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e.errors import StoreError
from m3e.inference import Encoder
from m3e.retrieval import index_file, open_store, search
from m3e.retrieval.exact import top_k
from tests.retrieval.store_urls import CLIENTS, new_url, postgres
from tests.slow.processes import run_m3e, start_m3e

__all__ = ["new_url", "postgres"]

pytestmark = pytest.mark.slow

DOCUMENTS = 4000
QUERIES = ["自行车链条掉了怎么办", "公园的荷花什么时候开", "how to reset a password", "会议室", "发票丢了能不能补开"]


@pytest.fixture(scope="module")
def static() -> Encoder:
    return Encoder("m3e-static")


def generated(count: int) -> list[dict[str, Any]]:
    things = ["自行车", "荷花", "发票", "会议室", "打印机", "停车位", "password", "链条", "雨伞", "积分", "快递"]
    asks = ["坏了怎么办", "什么时候有", "在哪里领", "多少钱", "能不能换", "谁来管"]
    return [
        {"id": f"{at:05d}", "text": f"{things[at % 11]}{asks[at % 6]}，{things[at * 7 % 11]}第{at}号", "n": at}
        for at in range(count)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def contents(url: str) -> dict[str, str]:
    with open_store(url) as store:
        found = list(store.texts())
        assert store.count() == len(found) == len(dict(found)), "an id is there twice"
        return dict(found)


def rows_now(url: str) -> int:
    """How many rows a store has while another process writes to it, where that can be known; 0 where it cannot."""
    try:
        with open_store(url) as store:
            return store.count()
    except StoreError:
        return 0


@pytest.mark.parametrize("kind", CLIENTS)
def test_killed_while_indexing_nothing_is_doubled_lost_or_mixed(
    kind: str, new_url: Callable[[str], str], tmp_path: Path, static: Encoder
) -> None:
    url, rows = new_url(kind), generated(DOCUMENTS)
    documents = write(tmp_path / "documents.jsonl", rows)
    command = ("index", documents, "--store", url, "--model", "m3e-static", "--batch", "20")
    counts = _kill_often(command, url, tmp_path)
    assert any(0 < count < DOCUMENTS for count in counts), "no kill came in the middle"
    assert counts == sorted(counts), "a kill lost what an earlier run had written"
    done = run_m3e(*command, "--json", tmp_path / "i.json")
    report = json.loads((tmp_path / "i.json").read_text("utf-8"))
    assert report["unchanged"] == counts[-1], done.stdout
    assert (report["written"], report["total"]) == (DOCUMENTS - counts[-1], DOCUMENTS)
    assert contents(url) == {row["id"]: row["text"] for row in rows}
    corpus = static.encode_document([row["text"] for row in rows])
    _check_exact(url, static, corpus, [row["id"] for row in rows])


@pytest.mark.parametrize("kind", CLIENTS)
def test_killed_while_rebuilding_the_old_store_stays(
    kind: str, new_url: Callable[[str], str], tmp_path: Path, mini_model: Path, static: Encoder
) -> None:
    url, rows = new_url(kind), generated(DOCUMENTS)
    documents = write(tmp_path / "documents.jsonl", rows)
    index_file(documents, url, static, model_name="m3e-static")
    command = ("index", documents, "--store", url, "--model", mini_model, "--batch", "20", "--rebuild")
    for _ in range(2):
        process = start_m3e(tmp_path / "log", *command)
        time.sleep(random.uniform(6, 12))
        process.kill()
        process.wait(60)
        with open_store(url) as store:
            names = {"m3e-static": 384, str(mini_model.resolve()): 32}
            assert store.model.dimension == names[store.model.name]
            assert store.count() == DOCUMENTS
    run_m3e(*command)
    assert contents(url) == {row["id"]: row["text"] for row in rows}
    with open_store(url) as store:
        assert store.model.dimension == 32
        encoder = Encoder(str(mini_model))
        assert all(len(search(store, encoder, query, 10)) == 10 for query in QUERIES)


def _kill_often(command: tuple[Any, ...], url: str, tmp_path: Path) -> list[int]:
    """Start, kill at a random moment of the writing, up to three times; the rows after each kill."""
    counts: list[int] = []
    for _ in range(3):
        before = counts[-1] if counts else 0
        if before == DOCUMENTS:  # the last kill came too late
            break
        process = start_m3e(tmp_path / "log", *command)
        _wait_for_writing(process, url, before)
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        counts.append(rows_now(url))
    return counts


def _wait_for_writing(process: subprocess.Popen[bytes], url: str, before: int) -> None:
    """Until the process has begun to write; by its files, since some stores let one process in only."""
    place = Path(url.partition(":")[2])
    end = time.monotonic() + 120

    def state() -> Any:
        if url.startswith("postgresql"):
            return rows_now(url)
        entries = [place, *place.rglob("*")] if place.exists() else []
        return max((entry.stat().st_mtime_ns for entry in entries if entry.exists()), default=0)

    at_first = state()
    while time.monotonic() < end and process.poll() is None and state() in (at_first, before):
        time.sleep(0.02)
    assert process.poll() is None, "the process ended before it could be killed"


def _check_exact(url: str, encoder: Encoder, corpus: np.ndarray[Any, Any], ids: list[str]) -> None:
    scores, best = top_k(encoder.encode_query(QUERIES), corpus, 10)
    with open_store(url) as store:
        for query, expected, found in zip(QUERIES, scores, best, strict=True):
            hits = search(store, encoder, query, 10)
            assert [hit.score for hit in hits] == pytest.approx(expected.tolist(), abs=1e-5)
            cut = expected[-1] + 1e-6  # which of those that tie with the last are in is decided by id
            sure = {ids[at] for at, score in zip(found, expected, strict=True) if score > cut}
            assert sure <= {hit.id for hit in hits}


@pytest.mark.parametrize("kind", CLIENTS)
def test_ten_thousand_generated_passages(
    kind: str, new_url: Callable[[str], str], tmp_path: Path, static: Encoder
) -> None:
    url, rows = new_url(kind), generated(10_000)
    index_file(write(tmp_path / "documents.jsonl", rows), url, static)
    corpus = static.encode_document([row["text"] for row in rows])
    _check_exact(url, static, corpus, [row["id"] for row in rows])


@pytest.mark.realdata
@pytest.mark.parametrize("kind", CLIENTS)
def test_ten_thousand_real_passages(kind: str, new_url: Callable[[str], str], tmp_path: Path, static: Encoder) -> None:
    import pyarrow.parquet as pq

    source = Path(os.environ.get("M3E_DATA") or "") / "law_articles.unlabelled.parquet"
    if not os.environ.get("M3E_DATA") or not source.is_file():
        pytest.skip("wants M3E_DATA with law_articles.unlabelled.parquet")
    texts = pq.read_table(source).column(0).to_pylist()
    texts = [text for text in dict.fromkeys(texts) if text and text.strip()][:10_000]
    assert len(texts) == 10_000
    rows = [{"id": f"{at:05d}", "text": text} for at, text in enumerate(texts)]
    url = new_url(kind)
    report = index_file(write(tmp_path / "documents.jsonl", rows), url, static)
    again = index_file(tmp_path / "documents.jsonl", url, static)
    kept = {identifier for identifier, _ in _pairs(url)}
    assert (report.total, again.written, again.total) == (len(kept), 0, len(kept))
    assert len(kept) == 10_000 - report.dropped.get("zero_vector", 0)
    rows = [row for row in rows if row["id"] in kept]
    corpus = static.encode_document([row["text"] for row in rows])
    _check_exact(url, static, corpus, [row["id"] for row in rows])


def _pairs(url: str) -> list[tuple[str, str]]:
    with open_store(url) as store:
        return list(store.texts())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a real server of Chroma, or of milvus-lite's own, in a process of its own."""
    kind, port = request.param, _free_port()
    pytest.importorskip(CLIENTS[kind])
    scripts = Path(sys.executable).parent
    command = {
        "chroma": [str(scripts / "chroma"), "run", "--path", str(tmp_path / "c"), "--port", str(port)],
        "milvus": [str(scripts / "milvus-lite"), "server", "--data-dir", str(tmp_path / "m.db"), "--port", str(port)],
    }[kind]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert process.poll() is None, (tmp_path / "server.log").read_text()
        time.sleep(0.1)
    yield f"{kind}:http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


@pytest.mark.parametrize("server", ["chroma", "milvus"], indirect=True)
def test_a_server_is_a_store_too(server: str, tmp_path: Path, static: Encoder) -> None:
    rows = generated(500)
    documents = write(tmp_path / "documents.jsonl", rows)
    for written in (500, 0):
        report = index_file(documents, server, static, model_name="m3e-static", batch=100)
        assert (report.written, report.total) == (written, 500)
    _check_exact(server, static, static.encode_document([row["text"] for row in rows]), [row["id"] for row in rows])
    assert contents(server) == {row["id"]: row["text"] for row in rows}
    with open_store(server) as store:
        assert {hit.id for hit in search(store, static, "荷花", 99, filters=["n>=490"])} == {
            row["id"] for row in rows[490:]
        }
        assert search(store, static, "荷花", 3, "hybrid")
    report = index_file(documents, server, "m3e-tiny", rebuild=True)
    assert report.total == 500


@pytest.mark.parametrize("kind", CLIENTS)
def test_an_approximate_index_over_ten_thousand(
    kind: str, new_url: Callable[[str], str], tmp_path: Path, static: Encoder
) -> None:
    url, rows = new_url(kind), generated(10_000)
    documents = write(tmp_path / "documents.jsonl", rows)
    index_file(documents, url, static, ann=True)
    corpus = static.encode_document([row["text"] for row in rows])
    scores, _ = top_k(static.encode_query(QUERIES), corpus, 10)
    with open_store(url) as store:
        found = [[hit.score for hit in search(store, static, query, 10)] for query in QUERIES]
    shares = [np.mean(np.asarray(mine) >= best[-1] - 1e-5) for mine, best in zip(found, scores, strict=True)]
    assert np.mean(shares) >= 0.9
    index_file(write(tmp_path / "more.jsonl", generated(10_100)), url, static)
    assert len(contents(url)) == 10_100
