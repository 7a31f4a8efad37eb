"""The FastAPI application: routes of OpenAI's API, of probes, of the page."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from m3e.errors import MissingExtraError
from m3e.models.readme import ModelCard
from m3e.serving.card import card_object
from m3e.serving.failures import ApiError, encode_json
from m3e.serving.gate import FACTS, Gate
from m3e.serving.options import ServeOptions
from m3e.serving.page import read_page
from m3e.serving.schema import openapi_document
from m3e.serving.search import SearchRoute
from m3e.serving.service import Service

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

    from m3e.inference import Encoder

_PAGE_HEADERS = {
    "cache-control": "no-cache",
    # the page's own policy says what it may load; only a header can say who may frame it
    "content-security-policy": "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_ROUTES = (
    "/v1/embeddings",
    "/v1/models",
    "/v1/search",
    "/openai/deployments/{model}/embeddings",
    "/healthz",
    "/readyz",
    "/metrics",
    "/card",
    "/openapi.json",
    "/",
)


def create_app(
    encoder: Encoder,
    name: str,
    options: ServeOptions | None = None,
    *,
    store: Any = None,
    card: ModelCard | None = None,
) -> FastAPI:
    """The application that serves a model; ``app.state.service`` is its :class:`Service`.

    Args:
        encoder: of the model.
        name: the id under which it is served; ``name:query`` is the second one.
        options: limits, keys, aliases.
        store: a vector store of ``m3e.retrieval``, for ``/v1/search``.
        card: what the model's files say about it, for the page.

    Raises:
        MissingExtraError: FastAPI or the Prometheus client is not installed.
    """
    try:
        from fastapi import FastAPI
        from starlette.exceptions import HTTPException
    except ImportError as error:
        raise MissingExtraError("fastapi", "serve") from error
    service = Service(encoder, name, options or ServeOptions())
    search = None if store is None else SearchRoute(service, store)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.open()
        yield
        service.close()

    app = FastAPI(title="m3e", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    app.state.service = service
    app.add_middleware(Gate, service=service)
    app.add_exception_handler(HTTPException, _refuse)
    _add_api(app, service, search)
    _add_probes(app, service)
    _add_page(app, service, search, card or ModelCard())
    return app


def _add_api(app: FastAPI, service: Service, search: SearchRoute | None) -> None:
    async def embeddings(request: Request) -> Response:
        answer = await service.embeddings(
            dict(request.scope["headers"]),
            request.receive,
            request.scope[FACTS],
            request.path_params.get("model"),
        )
        return _json(answer.body, {"x-m3e-truncated": str(answer.truncated)})

    async def models(request: Request) -> Response:
        return _json(encode_json({"object": "list", "data": [service.ids.card(model) for model in service.ids.all]}))

    async def model(request: Request) -> Response:
        return _json(encode_json(service.ids.card(request.path_params["model"])))

    async def run_search(request: Request) -> Response:
        if search is None:
            raise ApiError(404, "This server has no store to search; start it with m3e serve MODEL --store URL.")
        facts = request.scope[FACTS]
        return _json(await search.answer(dict(request.scope["headers"]), request.receive, facts))

    _route(app, "POST", "/v1/embeddings", embeddings)
    _route(app, "POST", "/openai/deployments/{model:path}/embeddings", embeddings)
    _route(app, "GET", "/v1/models", models)
    _route(app, "GET", "/v1/models/{model:path}", model)
    _route(app, "POST", "/v1/search", run_search)


def _add_probes(app: FastAPI, service: Service) -> None:
    async def healthz(request: Request) -> Response:
        alive = service.batcher.alive or service.stopping
        return _json(encode_json({"status": "ok" if alive else "failed"}), status=200 if alive else 503)

    async def readyz(request: Request) -> Response:
        ready = service.batcher.alive and not service.stopping
        return _json(encode_json({"status": "ready" if ready else "stopping"}), status=200 if ready else 503)

    async def metrics(request: Request) -> Response:
        from starlette.responses import Response

        body, kind = service.metrics.page()
        return Response(body, media_type=kind)

    _route(app, "GET", "/healthz", healthz)
    _route(app, "GET", "/readyz", readyz)
    _route(app, "GET", "/metrics", metrics)


def _add_page(app: FastAPI, service: Service, search: SearchRoute | None, card: ModelCard) -> None:
    document = openapi_document(
        service.ids.all, service.encoder.dimension, service.options.max_items, searches=search is not None
    )

    async def page(request: Request) -> Response:
        from starlette.responses import HTMLResponse

        return HTMLResponse(read_page(), headers=_PAGE_HEADERS)

    async def show_card(request: Request) -> Response:
        rows = None if search is None else await search.facts()
        return _json(encode_json(card_object(service, card, rows)))

    async def openapi(request: Request) -> Response:
        return _json(encode_json(document))

    async def favicon(request: Request) -> Response:
        from starlette.responses import Response

        return Response(status_code=204)

    app.openapi_schema = document
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", "") != "/openapi.json"]
    _route(app, "GET", "/openapi.json", openapi)
    _route(app, "GET", "/card", show_card)
    _route(app, "GET", "/favicon.ico", favicon)
    _route(app, "GET", "/", page)


def _route(app: FastAPI, method: str, path: str, answer: Callable[[Request], Awaitable[Response]]) -> None:
    async def run(request: Request) -> Response:
        request.scope[FACTS].route = path
        return await answer(request)

    app.add_route(path, run, methods=[method])


async def _refuse(request: Request, error: Any) -> Response:
    """Starlette's own refusals in our shape."""
    method, path = request.scope["method"], request.scope["path"]
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        verbs = ", ".join(verb for verb in allowed.split(", ") if verb != "HEAD")
        found = ApiError(405, f"{path} takes {verbs}, not {method}.", headers={"allow": allowed})
    elif error.status_code == 404:
        found = ApiError(404, f"There is no {method} {path[:100]} here; {_nearest(path)}", code="not_found")
    else:
        found = ApiError(error.status_code, str(error.detail))
    return _json(found.body(), found.headers, found.status)


def _nearest(path: str) -> str:
    """What would be right in place of a path that does not exist."""
    last = path.rsplit("/", 1)[-1]
    right = next((route for route in _ROUTES if last and route.endswith("/" + last)), None)
    close = [right] if right else difflib.get_close_matches(path, _ROUTES, 1)
    if close:
        return f"did you mean {close[0]}?"
    return f"there are {', '.join(_ROUTES)}. OpenAI clients take the address with /v1 at its end as base_url."


def _json(body: bytes, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    from starlette.responses import Response

    return Response(body, status, headers, "application/json")
