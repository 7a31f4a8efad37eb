"""Rounds: fair, bounded, complete."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest

from m3e.inference.tokens import Tokens
from m3e.serving.batcher import Batcher, ClosedError, QueueFullError, Round


def tokens(*lengths: int, first: int = 0) -> Tokens:
    """Texts of these lengths; the first id of each is its number, from ``first``."""
    ids = [[first + index, *([0] * (length - 1))] for index, length in enumerate(lengths)]
    return Tokens(ids, [False] * len(ids), [0] * len(ids))


class Model:
    """An encoder that gives each text its first id twice, waits at a gate, and remembers its rounds."""

    def __init__(self, closed: bool = False) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.rounds: list[list[int]] = []
        if not closed:
            self.gate.set()

    def __call__(self, given: Tokens) -> Any:
        self.rounds.append([ids[0] for ids in given.ids])
        self.entered.set()
        assert self.gate.wait(10)
        return np.array([[ids[0], ids[0]] for ids in given.ids], np.float32)


def batcher(model: Any, **limits: Any) -> Batcher:
    return Batcher(model, **{"round_tokens": 100, "queue_tokens": 10_000, "queue_requests": 100, **limits})


async def until_entered(model: Model) -> None:
    assert await asyncio.to_thread(model.entered.wait, 10)
    model.entered.clear()


def test_vectors_come_back_in_the_order_of_the_texts() -> None:
    model = Model()

    async def run() -> Any:
        work = batcher(model, round_tokens=10)
        job = work.submit(tokens(3, 9, 1, 5, 2, 8))
        found = await job.vectors
        work.close()
        return found, work

    found, work = asyncio.run(run())
    assert found[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert sorted(index for done in model.rounds for index in done) == [0, 1, 2, 3, 4, 5]
    assert len(model.rounds) > 1
    assert (work.tokens, work.requests) == (0, 0)


def test_a_text_alone_goes_at_once_and_what_comes_meanwhile_shares_the_next_round() -> None:
    model = Model(closed=True)

    async def run() -> list[Any]:
        work = batcher(model)
        jobs = [work.submit(tokens(5))]
        await until_entered(model)
        jobs += [work.submit(tokens(5, first=10 * index)) for index in range(1, 5)]
        model.gate.set()
        found = [(await job.vectors)[0, 0] for job in jobs]
        work.close()
        return found

    assert asyncio.run(run()) == [0, 10, 20, 30, 40]
    assert model.rounds == [[0], [10, 20, 30, 40]]


def test_a_short_request_does_not_wait_for_a_long_one() -> None:
    model = Model(closed=True)

    async def run() -> None:
        work = batcher(model, round_tokens=50)
        long = work.submit(tokens(*[10] * 100))
        await until_entered(model)
        short = work.submit(tokens(5, first=1000))
        model.gate.set()
        await short.vectors
        assert (await long.vectors)[:, 0].tolist() == list(range(100))
        work.close()

    asyncio.run(run())
    assert 1000 in model.rounds[1]
    assert len(model.rounds[1]) > 1  # the long one goes on beside it
    assert len(model.rounds) < 30


def test_long_requests_share_and_none_is_starved() -> None:
    model = Model(closed=True)

    async def run() -> None:
        work = batcher(model, round_tokens=40)
        first = work.submit(tokens(*[10] * 20))
        await until_entered(model)
        others = [work.submit(tokens(*[10] * 8, first=100 * index)) for index in range(1, 7)]
        model.gate.set()
        await asyncio.gather(first.vectors, *(job.vectors for job in others))
        work.close()

    asyncio.run(run())
    assert all(len(done) == 4 for done in model.rounds[:-1])
    for start in range(0, 12, 2):  # within two rounds everyone gets on
        assert {index // 100 for done in model.rounds[1 + start : 3 + start] for index in done} >= {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("lengths", [[512], [30, 512, 5], [0, 0, 0], [1] * 500, [101, 100, 99, 1]])
def test_a_round_holds_its_budget_or_a_single_text_more(lengths: list[int]) -> None:
    rounds: list[Round] = []

    async def run() -> None:
        work = batcher(lambda given: np.ones((len(given), 2), np.float32), on_round=rounds.append)
        assert len(await work.submit(tokens_of(lengths)).vectors) == len(lengths)
        work.close()

    def tokens_of(sizes: list[int]) -> Tokens:
        return Tokens([[0] * size for size in sizes], [False] * len(sizes), [0] * len(sizes))

    asyncio.run(run())
    assert sum(done.texts for done in rounds) == len(lengths)
    assert sum(done.tokens for done in rounds) == sum(lengths)
    assert all(done.tokens < 100 + max(lengths) for done in rounds)


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    model = Model(closed=True)

    async def run() -> None:
        work = batcher(model, queue_tokens=20)
        kept = [work.submit(tokens(15)), work.submit(tokens(900))]  # room is asked for before, not after
        with pytest.raises(QueueFullError) as refused:
            work.submit(tokens(1))
        assert 1 <= refused.value.retry_after <= 60
        with pytest.raises(QueueFullError):
            work.check_room()
        model.gate.set()
        await asyncio.gather(*(job.vectors for job in kept))
        while work.tokens:
            await asyncio.sleep(0.001)
        work.check_room()
        work.close()

    asyncio.run(run())


def test_requests_are_bounded_too() -> None:
    model = Model(closed=True)

    async def run() -> None:
        work = batcher(model, queue_requests=3)
        kept = [work.submit(tokens(1)) for _ in range(3)]
        with pytest.raises(QueueFullError):
            work.submit(tokens(1))
        model.gate.set()
        await asyncio.gather(*(job.vectors for job in kept))
        work.close()

    asyncio.run(run())


def test_who_hangs_up_is_not_encoded_and_gives_its_room_back() -> None:
    model = Model(closed=True)

    async def run() -> None:
        work = batcher(model)
        first = work.submit(tokens(5))
        await until_entered(model)
        gone = work.submit(tokens(7, 7, first=50))
        assert (work.tokens, work.requests) == (19, 2)
        work.drop(gone)
        work.drop(gone)
        assert (work.tokens, work.requests) == (5, 1)
        model.gate.set()
        await first.vectors
        work.close()

    asyncio.run(run())
    assert model.rounds == [[0]]


def test_a_request_that_is_dropped_half_way_leaves_no_trace() -> None:
    model = Model(closed=True)

    async def run() -> None:
        work = batcher(model, round_tokens=10)
        half = work.submit(tokens(*[10] * 5))
        await until_entered(model)
        work.drop(half)
        after = work.submit(tokens(4, first=70))
        model.gate.set()
        assert (await after.vectors)[0, 0] == 70
        work.close()
        assert (work.tokens, work.requests) == (0, 0)

    asyncio.run(run())
    assert model.rounds == [[0], [70]]


@pytest.mark.parametrize("problem", ["error", "not finite"])
def test_a_round_that_fails_fails_its_requests_only(problem: str) -> None:
    calls: list[int] = []

    def model(given: Tokens) -> Any:
        calls.append(len(given))
        if len(calls) == 1:
            if problem == "error":
                raise MemoryError("too much")
            return np.full((len(given), 2), np.nan, np.float32)
        return np.ones((len(given), 2), np.float32)

    async def run() -> None:
        work = batcher(model, round_tokens=10)
        with pytest.raises((MemoryError, FloatingPointError)):
            await work.submit(tokens(9, 9, 9)).vectors
        assert (await work.submit(tokens(3)).vectors).tolist() == [[1, 1]]
        assert work.alive
        work.close()
        assert (work.tokens, work.requests) == (0, 0)

    asyncio.run(run())
    assert calls == [1, 1]


def test_closing_finishes_what_was_submitted_and_takes_no_more() -> None:
    model = Model()

    async def run() -> None:
        work = batcher(model)
        jobs = [work.submit(tokens(60)) for _ in range(5)]
        await asyncio.to_thread(work.close)
        assert [len(await job.vectors) for job in jobs] == [1] * 5
        with pytest.raises(ClosedError):
            work.submit(tokens(1))
        assert not work.alive
        work.open()
        assert len(await work.submit(tokens(1)).vectors) == 1
        work.close()

    asyncio.run(run())


def test_many_requests_at_once_get_each_their_own() -> None:
    def model(given: Tokens) -> Any:
        time.sleep(0.0005)
        return np.array([[ids[0], ids[0]] for ids in given.ids], np.float32)

    async def ask(work: Batcher, number: int) -> bool:
        count = 1 + number % 7
        found = await work.submit(
            tokens(*[1 + (number * step) % 40 for step in range(count)], first=number * 10)
        ).vectors
        return bool((found[:, 0] == np.arange(number * 10, number * 10 + count)).all())

    async def run() -> list[bool]:
        work = batcher(model, queue_requests=1000, queue_tokens=10**6)
        right = await asyncio.gather(*(ask(work, number) for number in range(300)))
        work.close()
        return right

    assert all(asyncio.run(run()))
