"""OpenAI's own client, where it is installed: vectors, models, and the errors that it makes of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from m3e.inference import Encoder

openai = pytest.importorskip("openai")


@pytest.fixture
def connect(serve: Any) -> Callable[..., Any]:
    """``connect(api_key, …)``: OpenAI's client of a server; options are ``ServeOptions``'s."""

    def make(api_key: str = "EMPTY", azure: bool = False, **options: Any) -> Any:
        common = {"api_key": api_key, "http_client": serve(**options), "max_retries": 0}
        if azure:
            return openai.AzureOpenAI(azure_endpoint="http://testserver", api_version="2024-10-21", **common)
        return openai.OpenAI(base_url="http://testserver/v1", **common)

    return make


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_vectors(connect: Any, mini_encoder: Encoder, options: dict[str, Any]) -> None:
    answer = connect().embeddings.create(model="mini:query", input=["花开了吗", "猫"], **options)
    rows = [item.embedding for item in answer.data]
    if options.get("encoding_format") != "base64":  # asked for by name, the client leaves it as it is
        assert np.abs(np.float32(rows) - mini_encoder.encode_query(["花开了吗", "猫"])).max() < 1e-6
    assert [item.index for item in answer.data] == [0, 1]
    assert answer.usage.total_tokens > 0
    assert answer.model == "mini:query"


def test_dimensions_and_models(connect: Any) -> None:
    client = connect(aliases={"ada": "mini"})
    assert len(client.embeddings.create(model="ada", input="花", dimensions=8).data[0].embedding) == 8
    assert [model.id for model in client.models.list()] == ["mini", "mini:query", "ada", "ada:query"]
    assert client.models.retrieve("mini:query").owned_by == "m3e"


def test_azures_client(connect: Any, mini_encoder: Encoder) -> None:
    answer = connect("k", azure=True, keys=("k",)).embeddings.create(model="mini", input="花开了吗")
    assert np.abs(np.float32(answer.data[0].embedding) - mini_encoder.encode_document(["花开了吗"])[0]).max() < 1e-6


def test_errors_have_their_own_classes(connect: Any) -> None:
    ask = {"model": "mini", "input": "花"}
    with pytest.raises(openai.AuthenticationError, match="Authorization") as refused:
        connect("k-wrong", keys=("k-right",)).embeddings.create(**ask)
    assert refused.value.code == "invalid_api_key"
    client = connect(max_items=2)
    with pytest.raises(openai.NotFoundError, match="mini:query") as missing:
        client.embeddings.create(**{**ask, "model": "gpt"})
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="empty") as wrong:
        client.embeddings.create(**{**ask, "input": ["花", ""]})
    assert wrong.value.param == "input"
    client._client.app.state.service.batcher.requests = 10**6
    with pytest.raises(openai.RateLimitError) as busy:
        client.embeddings.create(**ask)
    assert int(busy.value.response.headers["retry-after"]) >= 1
    client._client.app.state.service.batcher.requests = 0
