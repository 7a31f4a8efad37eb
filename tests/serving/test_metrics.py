"""Counts that Prometheus reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from tests.serving.api_shapes import EMBEDDINGS


def samples(client: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(found: Any, name: str, **labels: str) -> float:
    return float(found.get((name, tuple(sorted(labels.items()))), 0.0))


def test_requests_texts_tokens_and_truncations(serve: Any) -> None:
    client = serve(aliases={"ada": "mini"})
    client.post(EMBEDDINGS, json={"model": "mini", "input": ["花" * 100, "猫狗", "树"]})
    client.post(EMBEDDINGS, json={"model": "ada:query", "input": "花"})
    client.post(EMBEDDINGS, json={"model": "no-such-model", "input": "花"})
    client.get("/no/such/path")
    found = samples(client)
    assert value(found, "m3e_requests_total", route=EMBEDDINGS, model="mini", code="200") == 1
    assert value(found, "m3e_requests_total", route=EMBEDDINGS, model="ada:query", code="200") == 1
    assert value(found, "m3e_requests_total", route=EMBEDDINGS, model="", code="404") == 1
    assert value(found, "m3e_requests_total", route="unknown", model="", code="404") == 1
    assert value(found, "m3e_texts_total", model="mini") == 3
    assert value(found, "m3e_tokens_total", model="mini") == 64 + 5 + 4
    assert value(found, "m3e_truncated_texts_total", model="mini") == 1
    assert value(found, "m3e_truncated_texts_total", model="ada:query") == 0
    assert value(found, "m3e_request_seconds_count", route=EMBEDDINGS) == 3
    assert value(found, "m3e_batch_texts_sum") == 4
    assert value(found, "m3e_batch_tokens_sum") == 64 + 5 + 4 + 4
    assert value(found, "m3e_queue_tokens") == value(found, "m3e_queue_requests") == 0
    assert value(found, "process_resident_memory_bytes") > 0
    assert not any("no-such-model" in str(key) for key in found)


def test_apps_count_apart(serve: Any) -> None:
    first, second = serve(), serve()
    first.post(EMBEDDINGS, json={"model": "mini", "input": "花"})
    assert value(samples(first), "m3e_texts_total", model="mini") == 1
    assert value(samples(second), "m3e_texts_total", model="mini") == 0


def test_a_queue_can_be_seen(serve: Any) -> None:
    client = serve()
    client.app.state.service.batcher.tokens = 123
    assert value(samples(client), "m3e_queue_tokens") == 123
    client.app.state.service.batcher.tokens = 0


def test_a_failed_request_counts_no_texts(serve: Any, mini_encoder: Any) -> None:
    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(mini_encoder, name)

        def encode_tokens(self, tokens: Any) -> Any:
            return np.full((len(tokens), 32), np.inf, np.float32)

    client = serve(encoder=Failing())
    assert client.post(EMBEDDINGS, json={"model": "mini", "input": "花"}).status_code == 500
    found = samples(client)
    assert value(found, "m3e_requests_total", route=EMBEDDINGS, model="mini", code="500") == 1
    assert value(found, "m3e_texts_total", model="mini") == 0
