"""Batches formed across requests, by tokens.

One thread works in rounds. A round takes a fair share of every request that waits, so a request of a thousand texts
does not hold up a short one, and a text that comes alone goes at once: nothing waits for a batch to fill.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from m3e.inference.encoder import Vectors
from m3e.inference.tokens import Tokens

_LONGEST_RETRY = 60
_SMOOTHING = 0.2


class QueueFullError(Exception):
    """As much waits as may wait; ``retry_after`` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"try again in {retry_after} s")
        self.retry_after = retry_after


class ClosedError(Exception):
    """The batcher takes no more work."""


@dataclass(frozen=True)
class Round:
    """One round of work, for the metrics."""

    requests: int
    texts: int
    tokens: int
    seconds: float


class Job:
    """The texts of one request, on their way to vectors.

    Attributes:
        vectors: a future of the vectors, shape (texts, dimension), in the order of the texts.
    """

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.lengths = tokens.lengths
        self.loop = asyncio.get_running_loop()
        self.vectors: asyncio.Future[Vectors] = self.loop.create_future()
        # longest first, so that texts of one round are of like length
        self.order = sorted(range(len(tokens)), key=lambda index: -self.lengths[index])
        self.taken = 0
        self.left = len(tokens)
        self.rows: Vectors | None = None

    def take(self, share: int, least: int) -> tuple[list[int], int]:
        """The next texts of at most ``share`` tokens (but at least so many texts), and their tokens."""
        start, spent = self.taken, 0
        while self.taken < len(self.order):
            length = self.lengths[self.order[self.taken]]
            if self.taken - start >= least and spent + length > share:
                break
            spent += length
            self.taken += 1
        return self.order[start : self.taken], spent

    def untaken_tokens(self) -> int:
        """Tokens that no round has taken yet."""
        return sum(self.lengths[index] for index in self.order[self.taken :])

    def fill(self, indices: list[int], vectors: Vectors) -> bool:
        """Put a round's vectors in their places; whether all are there."""
        if self.rows is None:
            self.rows = np.empty((len(self.order), vectors.shape[1]), dtype=np.float32)
        self.rows[indices] = vectors
        self.left -= len(indices)
        return self.left == 0

    def finish(self, error: Exception | None = None) -> None:
        """Give the waiting request its vectors or the error, from whatever thread."""
        try:
            self.loop.call_soon_threadsafe(self._settle, error)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    def _settle(self, error: Exception | None) -> None:
        if self.vectors.done():
            return
        if error is not None:
            self.vectors.set_exception(error)
        elif self.rows is not None:
            self.vectors.set_result(self.rows)


class Batcher:
    """Encodes what requests submit, in rounds of bounded size.

    Args:
        encode: tokens to vectors; called by one thread only.
        round_tokens: tokens a round.
        queue_tokens: no request is taken while so many tokens wait or are being encoded.
        queue_requests: the same for requests.
        on_round: told of every round.
    """

    def __init__(
        self,
        encode: Callable[[Tokens], Vectors],
        *,
        round_tokens: int,
        queue_tokens: int,
        queue_requests: int,
        on_round: Callable[[Round], None] = lambda done: None,
    ) -> None:
        self._encode = encode
        self._round_tokens = round_tokens
        self._queue_tokens = queue_tokens
        self._queue_requests = queue_requests
        self._on_round = on_round
        self._jobs: deque[Job] = deque()
        self._ready = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._speed = 0.0
        self.tokens = 0
        self.requests = 0

    @property
    def alive(self) -> bool:
        """Whether work is being done, or would be if there were any."""
        return not self._closed and (self._thread is None or self._thread.is_alive())

    def check_room(self) -> None:
        """Refuse when the queue is full.

        Raises:
            QueueFullError: says when to try again.
        """
        if self.tokens >= self._queue_tokens or self.requests >= self._queue_requests:
            seconds = self.tokens / self._speed if self._speed else 1.0
            raise QueueFullError(min(_LONGEST_RETRY, max(1, math.ceil(seconds))))

    def submit(self, tokens: Tokens) -> Job:
        """Queue texts; ``await`` the job's ``vectors``. Call it in the event loop.

        Raises:
            QueueFullError: there is no room.
            ClosedError: the batcher was closed.
        """
        job = Job(tokens)
        size = sum(job.lengths)
        with self._ready:
            if self._closed:
                raise ClosedError
            self.check_room()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="m3e-encode", daemon=True)
                self._thread.start()
            self._jobs.append(job)
            self.tokens += size
            self.requests += 1
            self._ready.notify()
        return job

    def drop(self, job: Job) -> None:
        """Forget what was not encoded yet of a request whose client is gone."""
        with self._ready:
            if job in self._jobs:
                self._jobs.remove(job)
                self.tokens -= job.untaken_tokens()
                self.requests -= 1

    def open(self) -> None:
        """Take work; it does so from the start, and again after :meth:`close`."""
        with self._ready:
            self._closed = False

    def close(self) -> None:
        """Finish what was submitted, then stop."""
        with self._ready:
            self._closed = True
            self._ready.notify()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._ready:
                while not self._jobs and not self._closed:
                    self._ready.wait()
                if not self._jobs:
                    return
                parts, size = self._next_round()
            started = time.perf_counter()
            finished = self._encode_round(parts)
            seconds = time.perf_counter() - started
            with self._ready:
                self.tokens -= size
                self.requests -= finished
                speed = size / max(seconds, 1e-9)
                self._speed = speed if not self._speed else (1 - _SMOOTHING) * self._speed + _SMOOTHING * speed
            self._on_round(Round(len(parts), sum(len(indices) for _, indices in parts), size, seconds))

    def _next_round(self) -> tuple[list[tuple[Job, list[int]]], int]:
        """A fair share of every waiting request, oldest first, and the tokens of all.

        Whoever is left out for lack of room is first in the next round.
        """
        taken: dict[Job, list[int]] = {}
        room = self._round_tokens
        waiting = self._jobs
        moved = True
        while waiting and room > 0 and moved:
            moved = False
            share = max(1, room // len(waiting))
            again: deque[Job] = deque()
            while waiting and room > 0:
                job = waiting.popleft()
                # a text that is longer than its share goes alone: everyone gets on
                indices, spent = job.take(min(share, room), least=0 if job in taken else 1)
                taken.setdefault(job, []).extend(indices)
                moved = moved or bool(indices)
                room -= spent
                if job.taken < len(job.order):
                    again.append(job)
            waiting.extend(again)
        parts = list(taken.items())
        return parts, sum(job.lengths[index] for job, indices in parts for index in indices)

    def _encode_round(self, parts: list[tuple[Job, list[int]]]) -> int:
        """Encode a round and hand out what is complete; the number of requests that are done with."""
        try:
            vectors = self._encode(Tokens.join([job.tokens.take(indices) for job, indices in parts]))
            if not np.isfinite(vectors).all():
                raise FloatingPointError("the model made numbers that are not finite")
        except Exception as error:
            return self._fail(parts, error)
        start = finished = 0
        for job, indices in parts:
            if job.fill(indices, vectors[start : start + len(indices)]):
                job.finish()
                finished += 1
            start += len(indices)
        return finished

    def _fail(self, parts: list[tuple[Job, list[int]]], error: Exception) -> int:
        """Give up the requests of a round that failed; the thread goes on with the next."""
        with self._ready:
            for job, _ in parts:
                if job in self._jobs:
                    self._jobs.remove(job)
                    self.tokens -= job.untaken_tokens()
        for job, _ in parts:
            job.finish(error)
        return len(parts)
