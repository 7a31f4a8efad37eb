"""Dealing chunks out to worker processes, with threads in the place of processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest

from m3e.errors import ModelError
from m3e.inference.chunk_store import EncodedChunk
from m3e.inference.texts import Chunk
from m3e.inference.workers import _deal


class Worker(threading.Thread):
    """Looks like a process to the one that deals."""

    def __init__(self, connection: Any, work: Callable[[Chunk], Any], exitcode: int | None = 0) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._answer = work
        self.exitcode = exitcode
        self.done: list[str] = []

    def run(self) -> None:
        try:
            while True:
                chunk = self._connection.recv()
                answer = self._answer(chunk)
                if answer is None:
                    break
                self.done.append(chunk.digest)
                self._connection.send(answer)
        except (EOFError, OSError):
            pass
        self._connection.close()


def encoded(chunk: Chunk) -> EncodedChunk:
    return EncodedChunk(chunk.digest, np.full((len(chunk.texts), 2), float(chunk.digest), np.float32), 1)


def started(*workers: tuple[Callable[[Chunk], Any], int | None]) -> dict[Any, Worker]:
    processes = {}
    for work, exitcode in workers:
        ours, theirs = Pipe()
        processes[ours] = Worker(theirs, work, exitcode)
        processes[ours].start()
    return processes


def chunks(count: int) -> Iterator[Chunk]:
    return (Chunk([f"{number}"] * (number % 3 + 1), str(number)) for number in range(count))


@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_every_chunk_is_encoded_once(count: int) -> None:
    together = threading.Barrier(2, timeout=20)

    def both(chunk: Chunk) -> EncodedChunk:
        if count == 50 and int(chunk.digest) < 2:
            together.wait()  # neither goes on before the other has work too
        return encoded(chunk)

    processes = started((both, 0), (both, 0))
    found = list(_deal(processes, chunks(count)))
    assert sorted(int(chunk.digest) for chunk in found) == list(range(count))
    assert all(len(chunk.vectors) == int(chunk.digest) % 3 + 1 for chunk in found)
    if count == 50:
        assert all(worker.done for worker in processes.values())


def test_an_error_of_a_worker_is_told() -> None:
    processes = started((lambda chunk: "MemoryError: no more" if chunk.digest == "4" else encoded(chunk), 0))
    with pytest.raises(ModelError, match="a worker process failed: MemoryError: no more"):
        list(_deal(processes, chunks(9)))


@pytest.mark.parametrize(
    ("exitcode", "reason"), [(-9, "was killed by signal 9, perhaps for want of memory"), (1, "stopped")]
)
def test_the_death_of_a_worker_is_told(exitcode: int, reason: str) -> None:
    processes = started((lambda chunk: None if chunk.digest == "4" else encoded(chunk), exitcode))
    with pytest.raises(ModelError, match=f"a worker process {reason}.*finished chunks are kept.*--workers"):
        list(_deal(processes, chunks(9)))
