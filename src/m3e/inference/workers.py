"""Chunks encoded by several processes, each with a model of its own: on the processor's cores or on several GPUs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from m3e.errors import ModelError, first_line
from m3e.inference.chunk_encoding import ChunkEncoder, EncoderPlan
from m3e.inference.chunk_store import EncodedChunk
from m3e.inference.texts import Chunk


def encode_in_processes(
    plan: EncoderPlan, workers: int, devices: Sequence[str | None], chunks: Iterable[Chunk]
) -> Iterator[EncodedChunk]:
    """The vectors of each chunk, in the order in which they are finished.

    Args:
        plan: of the model that each process opens.
        workers: how many processes.
        devices: dealt out to the processes in turn.

    Raises:
        ModelError: a process failed, or was killed, as the system does where memory runs out.
    """
    following = iter(chunks)
    first = next(following, None)
    if first is None:
        return
    context = get_context("spawn")  # a fork would share threads that it does not have
    processes: dict[Any, Any] = {}
    try:
        for number in range(workers):
            ours, theirs = context.Pipe()
            own = replace(plan, device=devices[number % len(devices)])
            process = context.Process(target=_work, args=(theirs, own), daemon=True)
            process.start()
            theirs.close()
            processes[ours] = process
        yield from _deal(processes, chain([first], following))
    finally:
        for connection, process in processes.items():
            connection.close()
            process.terminate()
        for process in processes.values():
            process.join()


def _deal(processes: dict[Any, Any], chunks: Iterable[Chunk]) -> Iterator[EncodedChunk]:
    """Give every idle process a chunk and take what is finished until nothing is left."""
    following = iter(chunks)
    ahead = next(following, None)  # read while all are busy
    idle, busy = list(processes), set[Any]()
    while ahead is not None or busy:
        while ahead is not None and idle:
            connection = idle.pop()
            with _named_death(processes[connection]):
                connection.send(ahead)
            busy.add(connection)
            ahead = next(following, None)
        ready: Any
        for ready in wait(list(busy)):
            with _named_death(processes[ready]):
                answer = ready.recv()
            if isinstance(answer, str):
                raise ModelError(f"a worker process failed: {answer}; finished chunks are kept")
            busy.discard(ready)
            idle.append(ready)
            yield answer


@contextlib.contextmanager
def _named_death(process: Any) -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        process.join(10)
        code = process.exitcode
        why = f"was killed by signal {-code}, perhaps for want of memory" if code and code < 0 else "stopped"
        raise ModelError(
            f"a worker process {why}; finished chunks are kept: run the same command again, with fewer --workers"
        ) from error


def _work(connection: Connection, plan: EncoderPlan) -> None:
    """Encode what comes until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers itself
    threading.Thread(target=_follow_parent, daemon=True).start()
    encoder: ChunkEncoder | None = None
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            chunk = connection.recv()
            try:
                encoder = encoder or ChunkEncoder(plan)
                answer: EncodedChunk | str = encoder.encode(chunk)
            except Exception as error:
                answer = f"{type(error).__name__}: {first_line(error)}"
            connection.send(answer)


def _follow_parent() -> None:
    """End with the parent, however that ends: a chunk that nobody waits for would only take up the processor."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
