"""What a server allows: keys, limits, names, origins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from m3e.errors import SettingsError

MAX_ITEMS = 2048
"""The OpenAI API's cap of texts in one request."""

ROUND_TOKENS = 2048
"""Tokens a round of work: enough to keep a processor busy, and short enough that nobody waits long for the next."""


@dataclass(frozen=True)
class ServeOptions:
    """The limits and names of a server.

    Attributes:
        aliases: more names, each for one of the model's own ids (``NAME`` or ``NAME:query``).
        keys: any one of them opens the server; none: it is open to all who reach it.
        origins: web origins whose pages may call the server; ``*`` is every one.
        max_body: bytes of a request's body.
        max_items: texts in one request.
        round_tokens: tokens encoded at once; what arrived meanwhile goes into the next round.
        queue_tokens: no further request is taken while so many tokens wait.
        queue_requests: no further request is taken while so many wait.
        body_seconds: how long a client may send nothing in the middle of a body.
    """

    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    keys: tuple[str, ...] = field(default=(), repr=False)
    origins: tuple[str, ...] = ()
    max_body: int = 32 * 2**20
    max_items: int = MAX_ITEMS
    round_tokens: int = ROUND_TOKENS
    queue_tokens: int = 2**19
    queue_requests: int = 512
    body_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("max_body", "max_items", "round_tokens", "queue_tokens", "queue_requests"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def max_buffered(self) -> int:
        """Bytes of bodies that are read and not yet tokenised, of all requests together."""
        return 4 * self.max_body


def parse_aliases(given: list[str], name: str) -> dict[str, str]:
    """Each alias and the id that it stands for, from ``ALIAS``, ``ALIAS=ID`` or ``ID=ALIAS``.

    Args:
        given: as typed.
        name: of the model; its ids are ``name`` and ``name:query``.

    Raises:
        SettingsError: an alias without a name, for an unknown id, or given twice for different ids.
    """
    own = query_ids(name)
    aliases: dict[str, str] = {}
    for text in given:
        first, equals, second = (part.strip() for part in text.partition("="))
        alias, target = (second, first) if first in own and equals else (first, second if equals else name)
        if not alias or target not in own:
            raise SettingsError(f"--alias {text!r} names neither {' nor '.join(own)}; write --alias ALIAS={name}")
        if alias in own or aliases.get(alias, target) != target:
            raise SettingsError(f"--alias {text!r}: {alias} already stands for {aliases.get(alias, alias)}")
        aliases[alias] = target
    return aliases


def query_ids(name: str) -> tuple[str, str]:
    """The two ids of a model: for passages, and for queries."""
    return name, f"{name}:query"
