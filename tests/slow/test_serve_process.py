"""``m3e serve`` as a process: signals, clients that hang up, overload, logs, many clients at once."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e import Encoder
from tests.slow.processes import ROOT, offline_environment, start_m3e

pytestmark = pytest.mark.slow

WORDS = "今天天气很好我们去公园散步吧顺便看看荷花开了没有番茄叶子发黄怎么办快递三天没动"


@dataclass(frozen=True)
class Running:
    """A server process and where it is."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def post(self, body: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any], Any]:
        """Status, parsed answer and headers."""
        return self.ask("/v1/embeddings", json.dumps(body).encode(), **headers)

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body)
        request.add_header("Content-Type", "application/json")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read()), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read()), error.headers

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def wait_until(self, true: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """``start("m3e-tiny", "--queue", 8)``: a server that answers; killed afterwards."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*arguments: object) -> Running:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = tmp_path / f"log{len(started)}"
        process = start_m3e(log, "serve", *map(str, arguments), "--port", str(port))
        started.append(process)
        server = Running(process, port, log)

        def answers() -> bool:
            assert process.poll() is None, log.read_text("utf-8")
            try:
                return server.ask("/healthz")[0] == 200
            except OSError:
                return False

        server.wait_until(answers, 90)
        return server

    yield run
    for process in started:
        process.kill()
        process.wait()


def long_request(count: int = 100) -> dict[str, Any]:
    texts = [WORDS[at % 20 :] * 12 + str(at) for at in range(count)]
    return {"model": "m3e-tiny", "input": texts, "encoding_format": "base64"}


def vectors(answer: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.stack([np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in answer["data"]])


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    return thread, found


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_was_accepted(start: Callable[..., Running], sent: signal.Signals) -> None:
    server = start("m3e-tiny", "--dtype", "fp32")
    thread, found = in_thread(lambda: server.post(long_request()))
    server.wait_until(lambda: server.metric("m3e_batch_texts_sum") > 0)
    server.process.send_signal(sent)
    server.wait_until(lambda: server.ask("/readyz")[0] == 503)
    status, answer, headers = server.post({"model": "m3e-tiny", "input": "花"})
    assert (status, answer["error"]["code"]) == (503, "server_stopping")
    assert headers["Retry-After"]
    assert thread.is_alive()  # it is still being worked on
    thread.join(120)
    status, answer, _ = found[0]
    assert status == 200
    assert len(answer["data"]) == 100
    expected = Encoder("m3e-tiny", dtype="fp32", device="cpu").encode(long_request(3)["input"])
    assert np.abs(vectors(answer)[:3] - expected).max() < 1e-5
    assert server.process.wait(20) == 0
    assert '"event": "stopped"' in server.log.read_text("utf-8")
    assert "Traceback" not in server.log.read_text("utf-8")


def test_an_idle_server_stops_at_once_though_connections_are_open(start: Callable[..., Running]) -> None:
    server = start("m3e-static")
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")
        started = time.monotonic()
        server.process.terminate()
        assert server.process.wait(10) == 0
        assert time.monotonic() - started < 5


def test_a_second_signal_ends_at_once(start: Callable[..., Running]) -> None:
    server = start("m3e-tiny", "--dtype", "fp32")

    def ask() -> Any:
        try:
            return server.post(long_request(1000))
        except OSError as error:
            return error

    thread, found = in_thread(ask)
    server.wait_until(lambda: server.metric("m3e_batch_texts_sum") > 0)
    server.process.terminate()
    server.wait_until(lambda: server.ask("/readyz")[0] == 503)
    server.process.terminate()
    assert server.process.wait(10) == -signal.SIGTERM
    thread.join(10)
    assert isinstance(found[0], OSError)


def test_a_client_that_hangs_up_is_not_encoded_for(start: Callable[..., Running]) -> None:
    server = start("m3e-tiny", "--dtype", "fp32")
    body = json.dumps(long_request(1000)).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head.encode() + b"\r\n\r\n" + body)
        server.wait_until(lambda: server.metric("m3e_batch_texts_sum") > 0)
        assert server.metric("m3e_queue_requests") == 1
    server.wait_until(lambda: server.metric("m3e_queue_requests") == 0, 5)
    server.wait_until(lambda: server.metric("m3e_queue_tokens") == 0, 5)
    assert server.metric("m3e_batch_texts_sum") < 500
    assert server.post({"model": "m3e-tiny", "input": "花"})[0] == 200


def test_an_overload_is_answered_with_200_and_429_only(start: Callable[..., Running]) -> None:
    server = start("m3e-tiny", "--dtype", "fp32", "--queue", 8)
    texts = [WORDS[at % 30 :] + str(at) for at in range(300)]
    with ThreadPoolExecutor(100) as threads:
        answers = list(threads.map(lambda text: server.post({**long_request(0), "input": [text]}), texts))
    counts = Counter(status for status, _, _ in answers)
    assert set(counts) == {200, 429}
    assert all(1 <= int(headers["Retry-After"]) <= 60 for status, _, headers in answers if status == 429)
    expected = Encoder("m3e-tiny", dtype="fp32", device="cpu").encode(texts)
    for (status, answer, _), vector in zip(answers, expected, strict=True):
        assert status == 429 or np.abs(vectors(answer)[0] - vector).max() < 1e-5
    assert server.post({"model": "m3e-tiny", "input": "花"})[0] == 200


def test_short_requests_get_through_beside_a_long_one(start: Callable[..., Running]) -> None:
    server = start("m3e-tiny", "--dtype", "fp32")
    thread, found = in_thread(lambda: server.post(long_request(200)))
    server.wait_until(lambda: server.metric("m3e_batch_texts_sum") > 0)
    waits = []
    for at in range(5):
        started = time.monotonic()
        assert server.post({"model": "m3e-tiny", "input": f"花{at}"})[0] == 200
        waits.append(time.monotonic() - started)
    assert thread.is_alive()
    thread.join(120)
    assert found[0][0] == 200
    assert max(waits) < 10


def test_many_clients_get_each_their_own_vectors(start: Callable[..., Running]) -> None:
    server = start("m3e-tiny", "--dtype", "fp32")
    texts = [(WORDS * 3)[at % 37 :][: 1 + at * 7 % 90] + str(at) for at in range(240)]
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda text: server.post({**long_request(0), "input": text}), texts))
    assert {status for status, _, _ in answers} == {200}
    assert server.metric("m3e_batch_requests_sum") > server.metric("m3e_batch_requests_count")  # rounds were shared
    found = np.concatenate([vectors(answer) for _, answer, _ in answers])
    assert np.abs(found - Encoder("m3e-tiny", dtype="fp32", device="cpu").encode(texts)).max() < 1e-5


def test_no_log_line_holds_a_text_or_a_key(start: Callable[..., Running]) -> None:
    server = start("m3e-static", "--api-key", "k-secret-1", "--log-level", "debug")
    body = {"model": "m3e-static", "input": ["绝密文本", "secret words"], "user": "somebody"}
    assert server.post(body, Authorization="Bearer k-secret-1")[0] == 200
    assert server.post(body, Authorization="Bearer k-other")[0] == 401
    assert server.post({**body, "input": ""}, api_key="k-secret-1")[0] == 400
    assert server.ask("/k-secret-1?key=k-secret-1", api_key="k-secret-1")[0] == 404
    server.process.terminate()
    assert server.process.wait(20) == 0
    log = server.log.read_text("utf-8")
    assert not any(word in log for word in ("绝密", "secret", "k-other", "somebody"))
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert [line.get("status") for line in lines if line.get("route") == "/v1/embeddings"] == [200, 400]
    assert [line["event"] for line in lines if line["event"] != "request"] == ["started", "stopped"]


def test_keys_of_the_environment_and_a_free_port(tmp_path: Path) -> None:
    log = tmp_path / "log"
    os.environ["M3E_API_KEYS"] = "k-env"
    try:
        process = start_m3e(log, "serve", "m3e-static", "--port", "0")
    finally:
        del os.environ["M3E_API_KEYS"]
    try:
        server = Running(process, 0, log)
        server.wait_until(lambda: "/v1 serves" in log.read_text("utf-8"), 90)
        port = int(log.read_text("utf-8").split("http://127.0.0.1:")[1].split("/")[0])
        server = Running(process, port, log)
        server.wait_until(lambda: '"started"' in log.read_text("utf-8"))
        body = {"model": "m3e-static", "input": "花"}
        server.wait_until(lambda: server.post(body)[0] == 401)
        assert server.post(body, api_key="k-env")[0] == 200
    finally:
        process.kill()
        process.wait()


def test_the_fuzz_with_many_examples() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/serving/test_fuzz.py"]
    environment = offline_environment(M3E_FUZZ_EXAMPLES="400")
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout[-3000:]
