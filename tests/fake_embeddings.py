"""An OpenAI-compatible server in a thread that misbehaves on request and counts what it is asked."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import threading
import time
from collections import Counter, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np


def vector_of(model: str, text: str, dimension: int = 8) -> np.ndarray:
    """The unit vector that the server gives a text: a hash, so that order and side can be checked."""
    digest = hashlib.sha256(f"{model}\n{text}".encode()).digest()
    values = np.frombuffer(digest, "<u1")[:dimension].astype(np.float32) - 127.5
    return values / np.linalg.norm(values)


class FakeServer:
    """Use as a context manager.

    Attributes:
        script: what to do with the next POSTs, one entry each: a status (or a status, message and headers),
            ``"cut"`` (half a body), ``"slow"`` (longer than any patience), ``"close"`` (no answer), or a list: wait
            for so many POSTs in all, then so many seconds, then do one of these; answers follow.
        odd: text to what its vector becomes: a list of numbers, or ``"missing"`` or ``"twice"``.
        limit: characters a text may have; ``texts`` a request may hold at most ``batch``.
        posts: model and texts of each POST, in the order they came.
        paid: how often each (model, text) was answered.
    """

    def __init__(self, models: list[str] | None = None, key: str | None = None) -> None:
        self.models = ["small"] if models is None else models
        self.key = key
        self.script: deque[Any] = deque()
        self.odd: dict[str, Any] = {}
        self.limit = 10_000
        self.batch = 10_000
        self.encodings = ("float", "base64")
        self.shuffle = False
        self.posts: list[tuple[str, list[str]]] = []
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.paid: Counter[tuple[str, str]] = Counter()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def __enter__(self) -> FakeServer:
        handler = type("Handler", (_Handler,), {"fake": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    @property
    def name(self) -> str:
        return f"api:{self.url}#small"

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        rows = []
        for index, text in enumerate(body["input"]):
            odd = self.odd.get(text)
            values = vector_of(body["model"], text) if odd is None or isinstance(odd, str) else odd
            self.paid[body["model"], text] += 1
            if odd == "missing":
                continue
            rows += [{"object": "embedding", "index": index, "embedding": self.encode(values, body)}]
            if odd == "twice":
                rows += [{"object": "embedding", "index": index, "embedding": self.encode(values, body)}]
        if self.shuffle:
            rows = rows[1::2] + rows[::2][::-1]
        tokens = sum(map(len, body["input"]))
        return {"object": "list", "data": rows, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}

    def encode(self, values: Any, body: dict[str, Any]) -> Any:
        numbers = [float(value) for value in values]
        if body.get("encoding_format") == "base64":
            return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
        return numbers


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, status: int, value: Any, headers: dict[str, str] | None = None, cut: bool = False) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    def fail(self, status: int, message: str, headers: dict[str, str] | None = None, code: str = "") -> None:
        self.reply(status, {"error": {"message": message, "type": "error", "code": code}}, headers)

    def refuses_key(self) -> bool:
        given = self.headers.get("Authorization", "")
        if self.fake.key is None or given == f"Bearer {self.fake.key}":
            return False
        self.fail(401, f"wrong key: {given.removeprefix('Bearer ')}")
        return True

    def do_GET(self) -> None:
        if self.refuses_key():
            return
        if self.path == "/v1/models" and self.fake.models:
            self.reply(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.fake.models]})
        else:
            self.fail(404, "no route")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refuses_key():
            return
        fake = self.fake
        with fake.lock:
            fake.posts.append((body["model"], body["input"]))
            fake.bodies.append(body)
            fake.times.append(time.monotonic())
            fake.at_once += 1
            fake.most_at_once = max(fake.most_at_once, fake.at_once)
            step = fake.script.popleft() if fake.script else None
        try:
            self.act(body, step)
        finally:
            with fake.lock:
                fake.at_once -= 1

    def act(self, body: dict[str, Any], step: Any) -> None:
        fake = self.fake
        if isinstance(step, list):
            posts, seconds, step = step
            deadline = time.monotonic() + 10
            while len(fake.posts) < posts and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(seconds)
        if step == "slow":
            time.sleep(1.5)
            self.close_connection = True
        elif step == "close":
            self.close_connection = True
        elif step == "cut":
            self.reply(200, {"data": [{"index": 0, "embedding": [0.0] * 8}]}, cut=True)
        elif isinstance(step, int):
            self.fail(step, "by script")
        elif isinstance(step, tuple):
            self.fail(*step)
        elif self.path != "/v1/embeddings" or body["model"].removesuffix(":query") != "small":
            self.fail(404, f"the model {body['model']} does not exist")
        elif body.get("encoding_format", "float") not in fake.encodings:
            self.fail(400, "encoding_format is not known")
        elif len(body["input"]) > fake.batch:
            self.fail(422, f"batch size {len(body['input'])} > maximum allowed batch size {fake.batch}")
        elif longest := next((len(text) for text in body["input"] if len(text) > fake.limit), None):
            self.fail(
                400, f"This model's maximum context length is {fake.limit} tokens, you requested {longest} tokens"
            )
        else:
            with fake.lock:
                value = fake.answer(body)
            time.sleep(0.01)
            self.reply(200, value)
