"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from m3e.errors import MissingExtraError
from m3e.serving.batcher import Round

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Counters and histograms of one app, in a registry of its own.

    Args:
        queue_tokens: tokens that wait or are being encoded.
        queue_requests: the same for requests.
    """

    def __init__(self, queue_tokens: Callable[[], float], queue_requests: Callable[[], float]) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
        except ImportError as error:
            raise MissingExtraError("prometheus-client", "serve") from error
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter("m3e_requests", "Requests.", ["route", "model", "code"], registry=registry)
        self._seconds = Histogram(
            "m3e_request_seconds",
            "From head to answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._texts = Counter("m3e_texts", "Texts embedded.", ["model"], registry=registry)
        self._tokens = Counter("m3e_tokens", "Tokens of texts embedded.", ["model"], registry=registry)
        self._truncated = Counter(
            "m3e_truncated_texts", "Texts cut to the model's length.", ["model"], registry=registry
        )
        self._batch_tokens = Histogram("m3e_batch_tokens", "Tokens a round.", buckets=_TOKENS, registry=registry)
        self._batch_texts = Histogram("m3e_batch_texts", "Texts a round.", buckets=_TEXTS, registry=registry)
        self._batch_requests = Histogram(
            "m3e_batch_requests", "Requests that share a round.", buckets=_TEXTS, registry=registry
        )
        self._batch_seconds = Histogram("m3e_batch_seconds", "Seconds a round.", buckets=_SECONDS, registry=registry)
        Gauge("m3e_queue_tokens", "Tokens that wait or are being encoded.", registry=registry).set_function(
            queue_tokens
        )
        Gauge("m3e_queue_requests", "Requests that wait or are being encoded.", registry=registry).set_function(
            queue_requests
        )

    def request(self, route: str, model: str, code: int, seconds: float) -> None:
        """Count an answered request; ``model`` is one of the served ids, or empty."""
        self._requests.labels(route, model, str(code)).inc()
        self._seconds.labels(route).observe(seconds)

    def embedded(self, model: str, texts: int, tokens: int, truncated: int) -> None:
        """Count texts that were embedded."""
        self._texts.labels(model).inc(texts)
        self._tokens.labels(model).inc(tokens)
        self._truncated.labels(model).inc(truncated)

    def round(self, done: Round) -> None:
        """Count a round of work."""
        self._batch_tokens.observe(done.tokens)
        self._batch_texts.observe(done.texts)
        self._batch_requests.observe(done.requests)
        self._batch_seconds.observe(done.seconds)

    def page(self) -> tuple[bytes, str]:
        """The text that Prometheus reads, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self.registry), CONTENT_TYPE_LATEST
