"""How an endpoint is asked, what that will cost and what it did cost."""

from __future__ import annotations

from dataclasses import dataclass

from m3e.errors import SettingsError


@dataclass(frozen=True)
class ApiOptions:
    """How an endpoint is asked.

    Attributes:
        query_prompt: put before each query.
        document_prompt: put before each document.
        dimensions: asked of the server; ``None`` asks for nothing.
        price: of a million tokens, in any currency, for estimates.
        batch_tokens: estimated tokens a request.
        batch_texts: texts a request.
        concurrency: requests at a time.
        retries: tries of a request after the first.
        backoff: seconds before the first retry.
        timeout: seconds without a byte.
    """

    query_prompt: str = ""
    document_prompt: str = ""
    dimensions: int | None = None
    price: float | None = None
    batch_tokens: int = 16_384
    batch_texts: int = 2_048
    concurrency: int = 4
    retries: int = 6
    backoff: float = 1.0
    timeout: float = 120.0

    def __post_init__(self) -> None:
        for name in ("batch_tokens", "batch_texts", "concurrency", "timeout"):
            if getattr(self, name) <= 0:
                raise SettingsError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("retries", "backoff", "price"):
            if (getattr(self, name) or 0) < 0:
                raise SettingsError(f"{name} must be at least 0, not {getattr(self, name)}")
        if self.dimensions is not None and self.dimensions < 1:
            raise SettingsError(f"dimensions must be at least 1, not {self.dimensions}")


@dataclass(frozen=True)
class Cost:
    """What texts will cost: those to send, their estimated tokens, and those whose vectors are here already."""

    texts: int = 0
    tokens: int = 0
    cached: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.texts + other.texts, self.tokens + other.tokens, self.cached + other.cached)


@dataclass
class Usage:
    """What was sent and answered so far; ``tokens`` as the server counts them, 0 where it does not say."""

    texts: int = 0
    requests: int = 0
    tokens: int = 0
    cached: int = 0
