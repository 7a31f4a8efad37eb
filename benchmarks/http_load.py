"""Load on an embeddings server, from a process of its own: raw HTTP/1.1 on kept connections, as little work as can be.

    python benchmarks/http_load.py '{"url": …}'

prints one JSON object. Closed: so many clients, each of which sends its next request when it has its answer. Open: so
many requests a second whether answers come or not, as the world sends them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import numpy as np

TIMEOUT = 60.0
_CONNECTIONS = 2000
"""Open connections at most in open load: more requests than that at once are not sent, and counted."""


@dataclass(frozen=True)
class Load:
    """What to send.

    Attributes:
        clients: of closed load; 0 for open load.
        rate: requests a second of open load.
        seconds: how long.
        bodies: sent in turn.
    """

    url: str
    seconds: float
    bodies: list[str]
    clients: int = 0
    rate: float = 0.0


@dataclass
class Outcome:
    """What came back; latencies are in milliseconds and of answers with 200."""

    requests_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    statuses: dict[str, int]
    per_second: list[int]


class Connection:
    """One kept connection."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, request: bytes) -> int:
        """The status of the answer; 0 where the connection broke."""
        try:
            async with asyncio.timeout(TIMEOUT):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(*self._address, limit=2**20)
                return await self._exchange(*self._streams, request)
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            self.close()
            return 0

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        length = int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        await reader.readexactly(length)
        if b"connection: close" in lower:
            self.close()
        return int(head[9:12])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Sender:
    """Sends a load and keeps what came back."""

    def __init__(self, load: Load) -> None:
        parts = urlsplit(load.url)
        self.load = load
        self.address = (parts.hostname or "127.0.0.1", parts.port or 80)
        head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        self.requests = [f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode() for body in load.bodies]
        self.sent = 0
        self.statuses: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.moments: list[float] = []

    async def one(self, connection: Connection) -> None:
        request = self.requests[self.sent % len(self.requests)]
        self.sent += 1
        started = time.perf_counter()
        status = await connection.post(request)
        ended = time.perf_counter()
        self.statuses[str(status) if status else "no answer"] += 1
        if status == 200:
            self.latencies.append(ended - started)
            self.moments.append(ended)

    async def closed(self) -> float:
        started = time.perf_counter()

        async def client() -> None:
            connection = Connection(*self.address)
            while time.perf_counter() - started < self.load.seconds:
                await self.one(connection)
            connection.close()

        await asyncio.gather(*(client() for _ in range(self.load.clients)))
        return started

    async def open(self) -> float:
        started = time.perf_counter()
        free: list[Connection] = []
        running: set[asyncio.Task[None]] = set()

        async def send() -> None:
            connection = free.pop() if free else Connection(*self.address)
            await self.one(connection)
            free.append(connection)

        due = 0
        while (now := time.perf_counter() - started) < self.load.seconds:
            while due < now * self.load.rate:
                due += 1
                if len(running) >= _CONNECTIONS:
                    self.statuses["not sent"] += 1
                    continue
                task = asyncio.create_task(send())
                running.add(task)
                task.add_done_callback(running.discard)
            await asyncio.sleep(0.002)
        await asyncio.gather(*running)
        for connection in free:
            connection.close()
        return started

    def outcome(self, started: float) -> Outcome:
        seconds = max(self.moments, default=started + self.load.seconds) - started
        values = np.array(self.latencies or [0.0]) * 1000
        p50, p95, p99 = (round(float(np.percentile(values, share)), 2) for share in (50, 95, 99))
        counts = Counter(int(moment - started) for moment in self.moments)
        return Outcome(
            requests_per_second=round(len(self.moments) / seconds, 2),
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            statuses=dict(self.statuses),
            per_second=[counts[second] for second in range(int(seconds) + 1)],
        )


async def run(load: Load) -> Outcome:
    sender = Sender(load)
    return sender.outcome(await (sender.closed() if load.clients else sender.open()))


def main() -> None:
    try:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ImportError, ValueError):
        pass
    load = Load(**json.loads(sys.argv[1]))
    print(json.dumps(asdict(asyncio.run(run(load)))))


if __name__ == "__main__":
    main()
