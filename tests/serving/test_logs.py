"""Log lines: JSON, with what an operator needs, without texts and keys."""

from __future__ import annotations

import json
import logging
import logging.config
from typing import Any

import pytest

from m3e.serving.logs import JsonFormatter, log_config, logger
from tests.serving.api_shapes import EMBEDDINGS


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What was logged so far, parsed."""
    found: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(JsonFormatter().format(record))

    monkeypatch.setattr(logger, "handlers", [Keep()])
    monkeypatch.setattr(logger, "level", logging.INFO)
    monkeypatch.setattr(logger, "propagate", False)
    logger.manager._clear_cache()
    yield lambda: [json.loads(line) for line in found]
    logger.manager._clear_cache()


def test_a_line_for_every_request(serve: Any, lines: Any) -> None:
    client = serve(keys=("k-secret",))
    key = {"authorization": "Bearer k-secret"}
    client.post(EMBEDDINGS, json={"model": "mini:query", "input": ["花" * 100, "猫"], "user": "who"}, headers=key)
    client.get("/v1/models/nothing", headers=key)
    client.post(EMBEDDINGS, json={}, headers={"authorization": "Bearer k-wrong"})
    client.get("/k-secret/path?key=k-secret", headers=key)
    client.get("/healthz")
    done = lines()
    assert [line["status"] for line in done] == [200, 404, 401, 404]
    assert [line["route"] for line in done] == [EMBEDDINGS, "/v1/models/{model:path}", "unknown", "unknown"]
    assert {line["event"] for line in done} == {"request"}
    first = done[0]
    assert (first["model"], first["texts"], first["truncated"], first["tokens"]) == ("mini:query", 2, 1, 64 + 4)
    assert first["ms"] > 0
    assert first["time"].endswith("Z")
    written = json.dumps(done, ensure_ascii=False)
    assert not any(word in written for word in ("花", "猫", "k-secret", "k-wrong", "who", "nothing"))


def test_a_failure_leaves_its_place_and_not_its_message(serve: Any, lines: Any, mini_encoder: Any) -> None:
    class Failing:
        def __getattr__(self, name: str) -> Any:
            return getattr(mini_encoder, name)

        def tokenise(self, texts: list[str], **options: Any) -> Any:
            raise ValueError(f"cannot read {texts}")

    answer = serve(encoder=Failing()).post(EMBEDDINGS, json={"model": "mini", "input": "花开"})
    assert answer.status_code == 500
    failed, request = lines()
    assert failed["event"] == "failed"
    assert failed["error"] == "ValueError"
    assert any("test_logs.py" in place for place in failed["trace"])
    assert request["level"] == "error"
    assert "花" not in json.dumps([failed, request], ensure_ascii=False)


@pytest.mark.parametrize(
    ("level", "ours", "theirs"),
    [("debug", "DEBUG", "WARNING"), ("info", "INFO", "WARNING"), ("error", "ERROR", "ERROR")],
)
def test_levels(level: str, ours: str, theirs: str) -> None:
    config = log_config(level)
    logging.config.dictConfigClass(config)  # it is a valid configuration
    assert config["loggers"]["m3e.serving"]["level"] == ours
    assert config["loggers"]["uvicorn"]["level"] == theirs
