"""Requests to an OpenAI-compatible server: what is tried again, what is not, and what each refusal means."""

from __future__ import annotations

import email.utils
import http.client
import json
import os
import random
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from m3e.errors import ModelError, SettingsError

API_PREFIX = "api:"
KEY_VARIABLES = ("M3E_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the key, in order of preference."""

LONGEST_WAIT = 300.0
"""Seconds; a server that asks for more is not waited for."""

_RETRIES_OF_LISTING = 2
_TRANSIENT = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
_TOO_MUCH = re.compile(
    r"maximum context|context length|too long|too large|max(imum)?[ _-]?(input|sequence|length|tokens)|"
    r"less than \d+ tokens|token limit|tokens? per request|batch[ _-]?size|array (is )?too|exceeds?\b.*\btokens?",
    re.IGNORECASE,
)
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class TooMuchError(ModelError):
    """The server will not take so long a text, or so many texts at once; ``reason`` is what it says."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoAnswerError(ModelError):
    """All retries failed."""


class StoppedError(ModelError):
    """Given up because another request failed; that one's error is the one to show."""


class _TransientError(Exception):
    """May pass when tried again; ``wait`` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Endpoint:
    """A model on a server: the address under which ``/embeddings`` and ``/models`` are, and the model's id."""

    base_url: str
    model: str

    @classmethod
    def parse(cls, name: str) -> Endpoint:
        """The endpoint of ``api:BASE_URL#model``; an address without a path gets ``/v1``.

        Raises:
            SettingsError: says what is missing.
        """
        form = "write api:BASE_URL#model, for example api:https://api.openai.com/v1#text-embedding-3-small"
        url, _, model = name.removeprefix(API_PREFIX).partition("#")
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise SettingsError(f"{name!r} names no http address; {form}")
        if address.username or address.password:
            raise SettingsError(f"the address holds a name or password; put the key into {KEY_VARIABLES[0]} instead")
        if not model:
            raise SettingsError(f"{name!r} names no model; {form}")
        path = address.path.rstrip("/").removesuffix("/embeddings") or "/v1"
        return cls(urlunsplit((address.scheme, address.netloc, path, address.query, "")), model)

    @property
    def host(self) -> str:
        """The server's name."""
        return urlsplit(self.base_url).hostname or ""

    def url(self, route: str) -> str:
        """The address of a route."""
        address = urlsplit(self.base_url)
        return urlunsplit(address._replace(path=f"{address.path}/{route}"))


class ApiClient:
    """Requests to one endpoint; safe to use from several threads, which then wait together.

    Args:
        endpoint: server and model.
        key: sent as a bearer token; by default the first of :data:`KEY_VARIABLES` that is set. Never printed.
        retries: how often a request is tried again.
        backoff: seconds before the first retry; doubled each time, with jitter.
        timeout: seconds without a byte.

    Attributes:
        retried: requests that were tried again so far.
        stopping: set it, and threads that wait before a retry give up.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        key: str | None = None,
        *,
        retries: int = 6,
        backoff: float = 1.0,
        timeout: float = 120.0,
    ) -> None:
        self.endpoint = endpoint
        self.retries, self.backoff, self.timeout = retries, backoff, timeout
        self.retried = 0
        self._key = key or next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), None)
        self._reached = False
        self._base64 = True
        self._lock = threading.Lock()
        self._resume_at = 0.0
        self.stopping = threading.Event()
        proxies = [urllib.request.ProxyHandler({})] if endpoint.host in _LOCAL_HOSTS else []
        self._opener = urllib.request.build_opener(_NoRedirect, *proxies)

    def models(self) -> dict[str, Mapping[str, Any]] | None:
        """The models that the server lists, by id; ``None`` where it lists none.

        Raises:
            ModelError: the server cannot be reached, or refuses the key.
        """
        try:
            answer = self._send("models", None, min(self.retries, _RETRIES_OF_LISTING))
        except _RefusedError as error:
            if error.status in (401, 403):
                raise self._meaning(error) from error
            return None
        except NoAnswerError:
            return None
        rows = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(rows, list):
            return None
        return {str(row["id"]): row for row in rows if isinstance(row, dict) and "id" in row}

    def embed(self, model: str, texts: list[str], dimensions: int | None = None) -> Any:
        """The server's answer to an embeddings request, as parsed JSON.

        Raises:
            TooMuchError: a text is too long, or the texts are too many.
            ModelError: any other refusal, or no answer after all retries; one line.
        """
        body: dict[str, Any] = {"model": model, "input": texts}
        if dimensions is not None:
            body["dimensions"] = dimensions
        try:
            if self._base64:
                try:
                    return self._send("embeddings", body | {"encoding_format": "base64"})
                except _RefusedError as error:
                    if "encoding" not in error.reason:
                        raise
                    self._base64 = False
            return self._send("embeddings", body)
        except _RefusedError as error:
            raise self._meaning(error) from error

    def _send(self, route: str, body: Mapping[str, Any] | None, retries: int | None = None) -> Any:
        """One request, tried again where that may help."""
        retries = self.retries if retries is None else retries
        attempt = 0
        while True:
            self._wait()
            try:
                return self._once(route, body)
            except _TransientError as error:
                if attempt == retries or (error.wait or 0) > LONGEST_WAIT:
                    asked = f"; it asks to wait {error.wait:.0f} s" if error.wait else ""
                    raise NoAnswerError(
                        f"{self.endpoint.url(route)} gave no answer in {attempt + 1} tries: {error}{asked}; "
                        "what was answered before is kept, so run it again later"
                    ) from error
                self._pause(error.wait, attempt)
                attempt += 1

    def _once(self, route: str, body: Mapping[str, Any] | None) -> Any:
        url = self.endpoint.url(route)
        headers = {"Accept": "application/json", "User-Agent": "m3e"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None
        if body is not None:
            data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
            headers["Content-Type"] = "application/json"
        try:
            with self._opener.open(urllib.request.Request(url, data, headers), timeout=self.timeout) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            self._reached = True
            self._raise_status(error)
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(url, error) from error
        self._reached = True
        try:
            return json.loads(text)
        except ValueError as error:
            raise _TransientError(f"the answer is not JSON: {text[:60]!r}") from error

    def _raise_status(self, error: urllib.error.HTTPError) -> None:
        reason, code = self._reason(error)
        if error.code in _TRANSIENT and code != "insufficient_quota":
            raise _TransientError(f"{error.code} {reason}", _retry_after(error.headers.get("Retry-After"))) from error
        if error.code < 400:
            reason = f"a redirect to {error.headers.get('Location')}"
        raise _RefusedError(error.code, reason) from error

    def _reason(self, error: urllib.error.HTTPError) -> tuple[str, str]:
        """The message and the code in an error's body, the key blotted out."""
        try:
            text = error.read(1 << 16).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            text = ""
        code = ""
        try:
            value = json.loads(text)
            inner = value.get("error", value) if isinstance(value, dict) else value
            if isinstance(inner, dict):
                code = str(inner.get("code") or inner.get("type") or "")
                inner = inner.get("message") or inner.get("detail") or inner
            text = inner if isinstance(inner, str) else json.dumps(inner, ensure_ascii=False)
        except ValueError:
            pass
        text = " ".join(text.split())[:300] or str(error.reason)
        return (text.replace(self._key, "…") if self._key else text), code

    def _lost(self, url: str, error: Exception) -> Exception:
        """What a connection that failed means: a wrong address at first, a passing trouble later."""
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ModelError(f"{url}: its certificate cannot be verified ({cause.verify_message})")
        if isinstance(cause, ConnectionRefusedError | socket.gaierror) and not self._reached:
            return ModelError(f"{url} cannot be reached ({cause}); is the address right and the server running?")
        if isinstance(cause, TimeoutError):
            return _TransientError(f"no byte came for {self.timeout:g} s")
        return _TransientError(f"the connection broke ({type(cause).__name__}: {cause})")

    def _meaning(self, error: _RefusedError) -> ModelError:
        """The one line that a refusal deserves."""
        url = self.endpoint.base_url
        if error.status == 413 or (error.status in (400, 422) and _TOO_MUCH.search(error.reason)):
            return TooMuchError(f"{url} takes no request of this size ({error.status}): {error.reason}", error.reason)
        if error.status in (401, 403):
            what = "refuses the key" if self._key else "wants a key"
            return ModelError(f"{url} {what} ({error.status} {error.reason}); set {' or '.join(KEY_VARIABLES)}")
        if error.status == 404:
            return ModelError(
                f"{url} knows no such model or route ({error.reason}); the model asked for is "
                f"{self.endpoint.model!r}; {self._known_models()}"
            )
        return ModelError(f"{url} refuses the request ({error.status}): {error.reason}")

    def _known_models(self) -> str:
        try:
            known = self.models()
        except ModelError:
            known = None
        if known:
            return f"it lists: {', '.join(known)}"
        return "is the address the one that ends before /embeddings, often in /v1?"

    def _pause(self, asked: float | None, attempt: int) -> None:
        """Let all threads wait: as long as the server asked, else a random part of a doubling time."""
        grown = min(self.backoff * 2**attempt, LONGEST_WAIT) * random.uniform(0.5, 1.0)
        with self._lock:
            self.retried += 1
            self._resume_at = max(self._resume_at, time.monotonic() + (grown if asked is None else asked))

    def _wait(self) -> None:
        while (left := self._resume_at - time.monotonic()) > 0:
            if self.stopping.wait(left):
                raise StoppedError("stopped, since another request failed")


class _RefusedError(Exception):
    """An answer that will be the same next time."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status, self.reason = status, reason


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the key would travel to another host, and a POST would become a GET."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())
