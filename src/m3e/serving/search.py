"""``/v1/search``: a vector store behind the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from m3e.errors import M3EError, StoreError
from m3e.files import json_safe
from m3e.serving.bodies import check_text, parse_object, shown
from m3e.serving.failures import ApiError, bad_request, encode_json
from m3e.serving.gate import Facts

if TYPE_CHECKING:
    from m3e.inference import Encoder
    from m3e.inference.encoder import Vectors
    from m3e.retrieval.searching import Mode
    from m3e.retrieval.stores import Hit, Store
    from m3e.serving.service import Service

MODES = ("dense", "bm25", "hybrid")
MAX_TOP_K = 1000


@dataclass(frozen=True)
class SearchRequest:
    """What a client asks of ``/v1/search``; ``filters`` are conditions on metadata that must all hold."""

    query: str
    top_k: int
    mode: Mode
    filters: list[str]


def parse_search_request(value: dict[str, Any]) -> SearchRequest:
    """The checked fields of a body.

    Raises:
        ApiError: 400, names the field.
    """
    query = value.get("query")
    if not isinstance(query, str) or not query:
        raise bad_request("query must be a string that is not empty.", "query")
    check_text("query", query)
    top_k = value.get("top_k", 10)
    top_k = 10 if top_k is None else top_k
    whole = type(top_k) is int or (isinstance(top_k, float) and top_k.is_integer())
    if not whole or not 1 <= top_k <= MAX_TOP_K:
        raise bad_request(f"top_k must be a whole number from 1 to {MAX_TOP_K}, not {shown(top_k)}.", "top_k")
    mode = value.get("mode") or "dense"
    if mode not in MODES:
        raise bad_request(f"mode must be one of {', '.join(MODES)}, not {shown(mode)}.", "mode")
    given = value.get("filter")
    filters = [given] if isinstance(given, str) else [] if given is None else given
    if not isinstance(filters, list) or not all(isinstance(part, str) and part for part in filters):
        raise bad_request("filter must be a condition like 'city=北京', or a list of them.", "filter")
    for part in filters:
        check_text("filter", part)
    return SearchRequest(query, int(top_k), cast("Mode", mode), filters)


class SearchRoute:
    """Searches a store with the served model; queries take their turn in the server's own queue.

    Args:
        service: of the model.
        store: of :func:`m3e.retrieval.open_store`.

    Raises:
        StoreError: the store's vectors are another model's.
    """

    def __init__(self, service: Service, store: Store) -> None:
        self._service = service
        self._store = store
        self._encoder = _QueuedEncoder(service)
        store.check_model(cast("Encoder", self._encoder), service.ids.name)

    async def answer(
        self, headers: dict[bytes, bytes], receive: Callable[[], Awaitable[MutableMapping[str, Any]]], facts: Facts
    ) -> bytes:
        """The body of the answer to a request.

        Raises:
            ApiError: the request is refused, or the store does not answer.
        """
        self._service.check_room()
        asked = parse_search_request(parse_object(await self._service.read(headers, receive)))
        facts.model, facts.texts = self._service.ids.name, 1
        self._encoder.loop = asyncio.get_running_loop()
        try:
            hits = await asyncio.to_thread(self._search, asked)
        except StoreError as error:
            raise ApiError(503, str(error), code="store_failed") from None
        except M3EError as error:
            raise bad_request(str(error), None) from None
        rows = [{"id": hit.id, "score": hit.score, "text": hit.text, "metadata": hit.metadata} for hit in hits]
        return encode_json({"model": self._service.ids.name, "hits": json_safe(rows)})

    async def facts(self) -> dict[str, Any]:
        """What the page shows of the store."""
        rows = await asyncio.to_thread(self._store.count)
        return {"url_kind": self._store.url.scheme, "rows": rows}

    def _search(self, asked: SearchRequest) -> list[Hit]:
        from m3e.retrieval import search
        from m3e.retrieval.filters import conditions_of

        try:
            conditions_of(asked.filters)
        except M3EError as error:
            raise bad_request(str(error), "filter") from None
        encoder = cast("Encoder", self._encoder)
        return search(self._store, encoder, asked.query, asked.top_k, asked.mode, asked.filters)


class _QueuedEncoder:
    """The served encoder as a store's search uses it, from another thread than the event loop's.

    Attributes:
        loop: in which the server runs.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.loop: asyncio.AbstractEventLoop | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service.encoder, name)

    def encode_query(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries, made in the server's rounds."""
        service = self._service
        tokens = service.tokenise(list(texts), is_query=True)

        async def run() -> Vectors:
            return await service.submit(tokens).vectors

        assert self.loop is not None
        vectors = asyncio.run_coroutine_threadsafe(run(), self.loop).result()
        service.metrics.embedded(service.ids.name, len(texts), sum(tokens.lengths), sum(tokens.cut))
        return vectors
