"""The work of a server: requests to vectors, through one queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m3e.inference.encoder import DOCUMENT_PROMPTS, Vectors
from m3e.inference.tokens import Tokens
from m3e.serving.answers import embeddings_body, shorten
from m3e.serving.batcher import Batcher, ClosedError, Job, QueueFullError, Round
from m3e.serving.bodies import (
    ClientGoneError,
    EmbeddingRequest,
    check_content,
    parse_embedding_request,
    parse_object,
    read_body,
)
from m3e.serving.failures import stopping, too_busy
from m3e.serving.gate import Facts
from m3e.serving.ids import ServedIds
from m3e.serving.keys import Keys
from m3e.serving.metrics import Metrics
from m3e.serving.options import ServeOptions

if TYPE_CHECKING:
    from m3e.inference import Encoder

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_INLINE_BYTES = 4096
"""Bodies up to this size are tokenised where they arrive: a thread costs more than it saves."""

_INLINE_TEXTS = 16
"""The same for answers."""


@dataclass(frozen=True)
class Answer:
    """The body of an answer and what was done for it."""

    body: bytes
    tokens: int
    truncated: int


class Service:
    """A model, its ids, its queue and its counters.

    Args:
        encoder: of the model.
        name: under which it is served.
        options: limits, keys, aliases.

    Attributes:
        stopping: no more requests are taken.
        open_requests: that are not answered yet.
    """

    def __init__(self, encoder: Encoder, name: str, options: ServeOptions) -> None:
        self.encoder = encoder
        self.options = options
        self.ids = ServedIds(name, options.aliases)
        self.keys = Keys(options.keys)
        self.batcher = Batcher(
            encoder.encode_tokens,
            round_tokens=options.round_tokens,
            queue_tokens=options.queue_tokens,
            queue_requests=options.queue_requests,
            on_round=self._count_round,
        )
        self.metrics = Metrics(lambda: self.batcher.tokens, lambda: self.batcher.requests)
        self.stopping = False
        self.open_requests = 0
        self._buffered = 0
        self._threads = ThreadPoolExecutor(2, "m3e-requests")
        prompts = encoder.model.prompts or {}
        self._prompts = {
            True: "query" if prompts.get("query") else None,
            False: next((prompt for prompt in DOCUMENT_PROMPTS if prompts.get(prompt)), None),
        }

    async def embeddings(
        self, headers: dict[bytes, bytes], receive: Receive, facts: Facts, model: str | None = None
    ) -> Answer:
        """Answer a request of ``/v1/embeddings``.

        Args:
            headers: of the request.
            receive: of ASGI.
            facts: for the log, filled in.
            model: an id that the address names, in place of the body's.

        Raises:
            ApiError: the request is refused.
            ClientGoneError: the client hung up.
        """
        self.check_room()
        size = 0

        def count(more: int) -> None:
            nonlocal size
            if self._buffered + more > self.options.max_buffered:
                raise too_busy(1)
            self._buffered += more
            size += more

        try:
            body = await self.read(headers, receive, count)
            request, tokens = await self._in_thread_if(len(body) > _INLINE_BYTES, self._prepare, body, model)
        finally:
            self._buffered -= size
        facts.model = request.model
        facts.texts = len(request.texts)
        facts.tokens = sum(tokens.lengths)
        facts.truncated = sum(tokens.cut)
        vectors = await self._encode(tokens, receive)
        answer = await self._in_thread_if(len(vectors) > _INLINE_TEXTS, _body, request, vectors, facts.tokens)
        self.metrics.embedded(request.model, facts.texts, facts.tokens, facts.truncated)
        return Answer(answer, facts.tokens, facts.truncated)

    async def read(
        self, headers: dict[bytes, bytes], receive: Receive, count: Callable[[int], None] = lambda more: None
    ) -> bytes:
        """The body of a request, within the limits.

        Raises:
            ApiError: it is no JSON, too large, or stops arriving.
            ClientGoneError: the client hung up.
        """
        check_content(headers)
        length = headers.get(b"content-length", b"")
        announced = int(length) if length.isdigit() else None
        return await read_body(receive, announced, self.options.max_body, self.options.body_seconds, count)

    def check_room(self) -> None:
        """Refuse before any work when the queue is full.

        Raises:
            ApiError: 429.
        """
        try:
            self.batcher.check_room()
        except QueueFullError as error:
            raise too_busy(error.retry_after) from None

    def submit(self, tokens: Tokens) -> Job:
        """Queue texts.

        Raises:
            ApiError: 429, there is no room; 503, the server stops.
        """
        try:
            return self.batcher.submit(tokens)
        except QueueFullError as error:
            raise too_busy(error.retry_after) from None
        except ClosedError:
            raise stopping() from None

    def tokenise(self, texts: list[str], *, is_query: bool) -> Tokens:
        """Tokens of texts, with the prompt of queries or of passages where the model has one."""
        return self.encoder.tokenise(texts, prompt_name=self._prompts[is_query])

    def warm_up(self) -> float:
        """Encode some texts, so that the first request finds everything loaded; the seconds it took."""
        started = time.perf_counter()
        for texts in (["预热"], ["预热 warm-up " * 8] * 16):
            self.encoder.encode_tokens(self.tokenise(texts, is_query=False))
        return time.perf_counter() - started

    def open(self) -> None:
        """Take requests; needed only after :meth:`close`."""
        self.batcher.open()
        self._threads = ThreadPoolExecutor(2, "m3e-requests")

    def close(self) -> None:
        """Finish what was accepted and stop the threads."""
        self.batcher.close()
        self._threads.shutdown()

    def _prepare(self, body: bytes, model: str | None) -> tuple[EmbeddingRequest, Tokens]:
        request = parse_embedding_request(
            parse_object(body), self.ids, self.encoder.dimension, self.options.max_items, model
        )
        return request, self.tokenise(request.texts, is_query=request.is_query)

    async def _encode(self, tokens: Tokens, receive: Receive) -> Vectors:
        """The vectors of ``tokens``; a client that hangs up meanwhile is not encoded for."""
        job = self.submit(tokens)
        gone = asyncio.ensure_future(_hang_up(receive, job, self.batcher))
        try:
            return await job.vectors
        except asyncio.CancelledError:
            self.batcher.drop(job)
            if gone.done() and not gone.cancelled():
                raise ClientGoneError from None
            raise
        finally:
            gone.cancel()

    async def _in_thread_if(self, large: bool, function: Callable[..., Any], *arguments: Any) -> Any:
        if not large:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _count_round(self, done: Round) -> None:
        self.metrics.round(done)


async def _hang_up(receive: Receive, job: Job, batcher: Batcher) -> None:
    """Wait until the client is gone, then drop its job."""
    while (await receive())["type"] != "http.disconnect":
        pass
    batcher.drop(job)
    job.vectors.cancel()


def _body(request: EmbeddingRequest, vectors: Vectors, tokens: int) -> bytes:
    if request.dimensions is not None:
        vectors = shorten(vectors, request.dimensions)
    return embeddings_body(vectors, model=request.model, tokens=tokens, as_base64=request.base64)
