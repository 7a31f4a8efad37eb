"""Store URLs: which database, where, and the store's name in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from m3e.errors import SettingsError

Scheme = Literal["lance", "chroma", "milvus", "qdrant", "postgresql"]

DEFAULT_NAME = "m3e"
KEY_VARIABLE = "M3E_STORE_KEY"
"""The environment variable with the key or token of a server."""

FORMS = (
    "a folder, chroma:PATH, milvus:FILE.db, qdrant:PATH, chroma:http://…, milvus:http://…, qdrant:http://…, "
    "postgresql://…"
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_SERVERS = ("chroma", "milvus", "qdrant")


@dataclass(frozen=True)
class StoreUrl:
    """A parsed URL.

    Attributes:
        scheme: the database.
        place: a path, or the address of a server.
        name: of the store within the database.
        shown: the URL for messages, without a password.
    """

    scheme: Scheme
    place: str
    name: str
    shown: str

    @property
    def is_server(self) -> bool:
        """Whether the database is reached over a network."""
        return self.scheme == "postgresql" or self.place.startswith(("http://", "https://"))


def parse_url(url: str) -> StoreUrl:
    """The parts of a store's URL; ``#NAME`` or ``?collection=NAME`` at its end names one of several stores.

    Raises:
        SettingsError: a scheme that is not known, no place, or a name that some database would not accept.
    """
    scheme, rest = _split_scheme(url)
    place, name = _split_name(rest)
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"--store {_without_password(url)}: the name {name!r} must be 1 to 40 ASCII letters, digits and _, "
            "a letter first"
        )
    if not place:
        raise SettingsError(f"--store {url!r} names no place; it can be {FORMS}")
    if scheme != "postgresql" and "://" in place and not (scheme in _SERVERS and _is_http(place)):
        raise SettingsError(f"--store {_without_password(url)}: {place.split(':')[0]}:// is not known; {FORMS}")
    return StoreUrl(scheme, place, name, _without_password(url))


def no_store(url: StoreUrl) -> str:
    """The message that there is nothing at ``url``."""
    return f"there is no store at {url.shown}; make it with m3e index INPUT --store {url.shown} --model MODEL"


def _split_scheme(url: str) -> tuple[Scheme, str]:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", url)  # two letters at least: C:\ is a path
    if found is None:
        return "lance", url
    scheme, rest = found[1].lower(), url[found.end() :]
    if scheme in ("postgresql", "postgres"):
        return "postgresql", f"postgresql:{rest}"
    if scheme == "lance":
        return "lance", rest
    if scheme == "chroma":
        return "chroma", rest
    if scheme == "milvus":
        return "milvus", rest
    if scheme == "qdrant":
        return "qdrant", rest
    raise SettingsError(f"--store {_without_password(url)}: {scheme}: is not known; it can be {FORMS}")


def _split_name(rest: str) -> tuple[str, str]:
    place, _, fragment = rest.partition("#")
    base, _, query = place.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    named = [value for key, value in options if key == "collection"]
    others = [(key, value) for key, value in options if key != "collection"]
    if named:
        place = f"{base}?{urlencode(others)}" if others else base
    return place, fragment or (named[-1] if named else DEFAULT_NAME)


def _is_http(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _without_password(url: str) -> str:
    found = re.match(r"(?:chroma|milvus|qdrant):(?=https?://)", url)
    prefix, address = (found[0], url[found.end() :]) if found else ("", url)
    try:
        parts = urlsplit(address)
    except ValueError:
        return url
    if "@" not in parts.netloc:
        return url
    user, _, host = parts.netloc.rpartition("@")
    shown = f"{user.split(':')[0]}:***@{host}" if ":" in user else f"{user}@{host}"
    return prefix + urlunsplit(parts._replace(netloc=shown))
