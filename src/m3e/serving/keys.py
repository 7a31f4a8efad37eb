"""API keys: read from options, a file, the environment; compared in constant time; never shown."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable
from pathlib import Path

from m3e.errors import SettingsError

KEYS_VARIABLE = "M3E_API_KEYS"


class Keys:
    """The keys that open a server; with none of them it is open."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accept(self, given: str | None) -> bool:
        """Whether ``given`` is one of the keys; takes the same time whichever it is like, and however long."""
        if given is None:
            return not self._digests
        digest = _digest(given)
        found = not self._digests
        for known in self._digests:
            found |= hmac.compare_digest(known, digest)
        return found

    @staticmethod
    def given(headers: dict[bytes, bytes]) -> str | None:
        """The key of a request: a bearer token, or the header ``api-key`` as Azure's clients send it."""
        scheme, _, token = headers.get(b"authorization", b"").strip().partition(b" ")
        if scheme.lower() == b"bearer" and token.strip():
            return token.strip().decode("latin-1")
        key = headers.get(b"api-key", b"").strip()
        return key.decode("latin-1") if key else None


def read_keys(options: Iterable[str], file: Path | None) -> tuple[str, ...]:
    """All keys: of the options, of a file (one a line, ``#`` starts a comment), of ``M3E_API_KEYS`` (commas between).

    Raises:
        SettingsError: an empty key, a file without any, or a key that no header can carry. No message shows a key.
    """
    keys = [_checked(key, "--api-key") for key in options]
    if file is not None:
        found = [_checked(key, str(file)) for key in _lines(file)]
        if not found:
            raise SettingsError(f"{file} holds no key; write one a line, or leave --api-keys-file out")
        keys += found
    keys += [_checked(key, KEYS_VARIABLE) for key in os.environ.get(KEYS_VARIABLE, "").split(",") if key.strip()]
    return tuple(dict.fromkeys(keys))


def _lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--api-keys-file {file} cannot be read: {type(error).__name__}") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _checked(key: str, where: str) -> str:
    key = key.strip()
    if not key:
        raise SettingsError(f"{where}: the key is empty")
    if not all("!" <= char <= "~" for char in key):
        raise SettingsError(f"{where}: a key may hold letters, digits and ASCII punctuation only, without spaces")
    return key


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("latin-1", "replace")).digest()
