"""What every request passes: the key, the preflight, the count, the log line, and the shape of errors."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m3e.serving.bodies import ClientGoneError
from m3e.serving.failures import ApiError, stopping, wrong_key
from m3e.serving.keys import Keys
from m3e.serving.logs import log, logger

if TYPE_CHECKING:
    from m3e.serving.service import Service

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths for machines: they answer while the server stops, too."""

OPEN_PATHS = PROBES | {"/", "/card", "/openapi.json", "/favicon.ico"}
"""Paths that need no key: they hold no texts."""

FACTS = "m3e.facts"
_CLIENT_CLOSED = 499
_EXPOSED = b"retry-after, www-authenticate, x-m3e-truncated, x-request-id"


@dataclass
class Facts:
    """What a request turned out to be, filled in on the way, for its log line.

    Attributes:
        route: the pattern of its path; other text of a path may be a secret.
    """

    route: str = "unknown"
    model: str = ""
    texts: int = 0
    tokens: int = 0
    truncated: int = 0


class Gate:
    """ASGI middleware around the whole app."""

    def __init__(self, app: AsgiApp, service: Service) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        path = _tidy(scope["path"])
        headers = dict(scope["headers"])
        facts = Facts()
        request_id = secrets.token_hex(8)
        # HEAD is GET without a body, and servers leave the body out by themselves
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        inner = {**scope, "path": path, "raw_path": path.encode(), "method": method, FACTS: facts}
        extra = [(b"x-request-id", request_id.encode()), *self._cors_headers(headers)]
        status = _CLIENT_CLOSED

        async def send_more(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        counted = path not in PROBES
        self.service.open_requests += counted
        try:
            await self._answer(inner, headers, receive, send_more)
        finally:
            self.service.open_requests -= counted
            self._record(method, facts, request_id, status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        try:
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                await self._preflight(headers, send)
                return
            self._check(scope["path"], headers)
            await self.app(scope, receive, send)
        except ApiError as error:
            await send_error(error, send)
        except ClientGoneError:
            return
        except Exception:
            logger.exception("failed", extra={"facts": {"route": scope[FACTS].route}})
            await send_error(ApiError(500, "The server failed at this request; its log has the place."), send)

    def _check(self, path: str, headers: dict[bytes, bytes]) -> None:
        keys = self.service.keys
        if keys and path not in OPEN_PATHS:
            given = Keys.given(headers)
            if not keys.accept(given):
                raise wrong_key(given=given is not None)
        if self.service.stopping and path not in PROBES:
            raise stopping()

    async def _preflight(self, headers: dict[bytes, bytes], send: Send) -> None:
        """A browser's question before a request of another origin; it cannot carry a key."""
        answer = [(b"vary", b"origin, access-control-request-headers")]
        if self._cors_headers(headers):
            answer += [
                (b"access-control-allow-methods", b"GET, POST"),
                (b"access-control-allow-headers", headers.get(b"access-control-request-headers", b"*")),
                (b"access-control-max-age", b"600"),
            ]
        await send({"type": "http.response.start", "status": 204, "headers": answer})
        await send({"type": "http.response.body", "body": b""})

    def _cors_headers(self, headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        origins = self.service.options.origins
        origin = headers.get(b"origin")
        if not origins or origin is None or not ("*" in origins or origin.decode("latin-1") in origins):
            return []
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"origin"),
        ]

    def _record(self, method: str, facts: Facts, request_id: str, status: int, seconds: float) -> None:
        self.service.metrics.request(facts.route, facts.model, status, seconds)
        if facts.route in PROBES:
            return
        log(
            logging.INFO if status < 500 else logging.ERROR,
            "request",
            request_id=request_id,
            method=method,
            route=facts.route,
            status=status,
            model=facts.model,
            texts=facts.texts,
            tokens=facts.tokens,
            truncated=facts.truncated,
            ms=round(seconds * 1000, 2),
        )


async def send_error(error: ApiError, send: Send) -> None:
    """Answer with an error."""
    body = error.body()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def _tidy(path: str) -> str:
    """A path without doubled slashes and without one at its end, as base addresses are often joined."""
    if "//" in path:
        path = re.sub("/{2,}", "/", path)
    return path.rstrip("/") or "/"
