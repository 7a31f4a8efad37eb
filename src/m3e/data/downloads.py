"""Files of the web, fetched once into a folder and kept there."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m3e.errors import DataError
from m3e.files import atomic_file, hash_file

TIMEOUT_SECONDS = 30
_CHUNK = 1 << 20
_WEB_PAGES = ("text/html", "application/xhtml+xml")


class NotThereError(Exception):
    """Nothing can be read at a place, for the reason in the message; another place may do."""


def fetch(url: str, cache: Path, *, sha256: str | None = None) -> Path:
    """The path of what a URL gives, fetched on the first call and kept under ``cache/raw``.

    Args:
        url: http or https; proxies are taken from the environment.
        cache: see :func:`m3e.files.cache_folder`.
        sha256: of the bytes, where it is known.

    Raises:
        NotThereError: no such page, no server, a broken connection, a web page where a file should be.
        DataError: another kind of URL, other bytes than ``sha256`` says, or a folder that cannot be written.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DataError(f"{url} is not fetched: only http and https are")
    key = hashlib.sha256(f"{url} {sha256 or ''}".encode()).hexdigest()[:16]
    target = cache / "raw" / key / (Path(urllib.parse.unquote(parts.path)).name or "download")
    if target.is_file():
        return target
    try:
        with atomic_file(target) as partial:
            _fetch(url, partial, is_page=target.suffix.lower() in (".html", ".htm"))
            found = hash_file(partial) if sha256 else None
            if found != sha256:
                raise DataError(
                    f"{url} has the sha256 {found} where the card says {sha256}: the file was changed or damaged "
                    "on the way; fetch it by hand, look at it, and correct the card"
                )
    except OSError as error:
        raise DataError(f"{target.parent} cannot be written: {error.strerror or error}; set M3E_CACHE") from error
    return target


_SILENT: dict[str, str] = {}
"""Servers that did not answer in this run, and why: waiting for each again would add up over many sets."""


def _fetch(url: str, target: Path, *, is_page: bool) -> None:
    server = urllib.parse.urlsplit(url).netloc
    if server in _SILENT:
        raise NotThereError(_SILENT[server])
    try:
        response = _opener().open(
            urllib.request.Request(url, headers={"User-Agent": "m3e"}),
            timeout=TIMEOUT_SECONDS,
        )
    except urllib.error.HTTPError as error:
        raise NotThereError(f"the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        _SILENT[server] = f"no answer: {getattr(error, 'reason', None) or error}"
        raise NotThereError(_SILENT[server]) from error
    with response, target.open("wb") as file:
        if not is_page and response.headers.get_content_type() in _WEB_PAGES:
            raise NotThereError("it gives a web page, not a file")
        size = 0
        while chunk := _read(response):
            size += len(chunk)
            file.write(chunk)
        _check_size(size, response.headers)


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https only: the default one follows redirections to ftp, and opens local files."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _read(response: Any) -> bytes:
    try:
        return bytes(response.read(_CHUNK))
    except (OSError, http.client.HTTPException) as error:
        raise NotThereError(f"the connection broke: {error or type(error).__name__}") from error


def _check_size(size: int, headers: Mapping[str, str]) -> None:
    expected = headers.get("Content-Length")
    if expected is not None and expected.isdigit() and size != int(expected):
        raise NotThereError(f"the connection broke after {size:,} of {int(expected):,} bytes")
