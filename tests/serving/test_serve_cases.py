"""Failures of real users of embedding servers: base64, empty chunks, dimensions, keys, long lists; on m3e-tiny."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import pytest

from m3e.inference import Encoder
from tests.serving.api_shapes import EMBEDDINGS, refused, vectors_of

TEXT = "阳台的番茄叶子发黄怎么办"
ODD_TEXTS = [
    " ",
    "\u200b",
    "\n\n\t",
    "\u3000",
    "\x00",
    "👨\u200d👩\u200d👧",
    "ｆｕｌｌ　ｗｉｄｔｈ １２３",
    "𠮷野家",
    "مرحبا שלום",
    "e\u0301\u0301\u0301",
    "�",
    "a" * 5000,
    "长" * 3000,
    '{"input": "\\u0000"}',
    "<script>alert(1)</script>",
    "%s %.9g {0} \\ \" '",
]


def ask(client: Any, given: Any = TEXT, **fields: Any) -> Any:
    return client.post(EMBEDDINGS, json={"model": "m3e-tiny", "input": given, **fields})


class TestBase64AndFloats:
    """Case 23."""

    @pytest.mark.parametrize("fields", [{}, {"encoding_format": "float"}, {"encoding_format": None}])
    def test_floats_are_the_default(self, tiny_client: Any, tiny_encoder: Encoder, fields: dict[str, Any]) -> None:
        answer = ask(tiny_client, **fields)
        vectors = vectors_of(answer)
        body = answer.json()
        assert body["model"] == "m3e-tiny"
        assert all(isinstance(number, float) for number in body["data"][0]["embedding"])
        assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 0
        assert np.abs(vectors - tiny_encoder.encode([TEXT])).max() < 1e-6
        assert abs(np.linalg.norm(vectors) - 1) < 1e-3
        theirs = tiny_encoder.model.encode([TEXT])
        assert float(vectors[0] @ theirs[0]) / float(np.linalg.norm(theirs)) >= 0.9999

    @pytest.mark.parametrize("given", [TEXT, [TEXT], ["甲", "乙 b", " "], ODD_TEXTS])
    def test_base64_holds_the_same_numbers_bit_for_bit(self, tiny_client: Any, given: Any) -> None:
        coded = ask(tiny_client, given, encoding_format="base64")
        assert all(isinstance(item["embedding"], str) for item in coded.json()["data"])
        plain = ask(tiny_client, given)
        assert vectors_of(coded).tobytes() == vectors_of(plain).tobytes()
        assert coded.json()["usage"] == plain.json()["usage"]

    def test_base64_is_little_endian_float32(self, tiny_client: Any, tiny_encoder: Encoder) -> None:
        text = ask(tiny_client, encoding_format="base64").json()["data"][0]["embedding"]
        raw = base64.b64decode(text, validate=True)
        assert len(raw) == 4 * tiny_encoder.dimension
        assert np.abs(np.frombuffer(raw, "<f4") - tiny_encoder.encode([TEXT])[0]).max() < 1e-6

    @pytest.mark.parametrize("form", ["md5", "", "Base64", "float32", 1, True, False, [], {}, ["float"], 0.5])
    def test_another_format_is_refused(self, tiny_client: Any, form: Any) -> None:
        refused(ask(tiny_client, encoding_format=form), 400, "encoding_format", "encoding_format", "float", "base64")


class TestEmptyInput:
    """Case 25."""

    @pytest.mark.parametrize(
        "given", ["", [], None, [""], 0, 1.5, True, False, {}, {"text": "甲"}, [[]], [None], [[""]]]
    )
    def test_what_is_no_text_is_refused(self, tiny_client: Any, given: Any) -> None:
        refused(ask(tiny_client, given), 400, "input", "input")

    def test_a_body_without_input_is_refused(self, tiny_client: Any) -> None:
        refused(tiny_client.post(EMBEDDINGS, json={"model": "m3e-tiny"}), 400, "input", "input", "missing")
        refused(tiny_client.post(EMBEDDINGS, json={"model": "m3e-tiny", "inputs": ["甲"]}), 400, "input", "missing")

    @pytest.mark.parametrize(
        ("given", "index"),
        [
            (["甲", "", "乙"], 1),
            (["", "甲"], 0),
            (["甲", "乙", ""], 2),
            (["甲"] * 50 + [""], 50),
            (["甲", None], 1),
            (["甲", ["乙"]], 1),
            (["甲", {"text": "乙"}], 1),
            (["甲", 7], 1),
            ([7, "甲"], 0),
            (["甲", True], 1),
        ],
    )
    def test_the_wrong_item_is_named_by_its_index(self, tiny_client: Any, given: list[Any], index: int) -> None:
        refused(ask(tiny_client, given), 400, "input", f"input[{index}]")

    @pytest.mark.parametrize("text", ODD_TEXTS)
    def test_blank_and_odd_texts_have_finite_vectors(self, tiny_client: Any, tiny_encoder: Encoder, text: str) -> None:
        alone = vectors_of(ask(tiny_client, text))
        assert alone.shape == (1, tiny_encoder.dimension)
        assert np.isfinite(alone).all()
        among = vectors_of(ask(tiny_client, ["甲", text, "乙"]))
        assert np.abs(among[1] - alone[0]).max() < 1e-5
        assert np.abs(alone - tiny_encoder.encode([text])).max() < 1e-6

    def test_half_of_a_character_is_named_by_its_index(self, tiny_client: Any) -> None:
        for body in (rb'["\u7532", "\ud83d"]', rb'["\u7532", "x\udc00y"]'):
            answer = tiny_client.post(
                EMBEDDINGS,
                content=b'{"model": "m3e-tiny", "input": ' + body + b"}",
                headers={"content-type": "application/json"},
            )
            refused(answer, 400, "input", "input[1]", "surrogate")

    @pytest.mark.parametrize("given", [[1, 2, 3], [[1, 2], [3]], [0], [[101, 102]]])
    def test_token_ids_are_refused_as_what_they_are(self, tiny_client: Any, given: Any) -> None:
        refused(ask(tiny_client, given), 400, "input", "token ids", "check_embedding_ctx_length")


class TestDimensions:
    """Case 27."""

    @pytest.mark.parametrize("own", [384, 384.0, None])
    def test_the_models_own_size_changes_nothing(self, tiny_client: Any, own: Any) -> None:
        assert ask(tiny_client, dimensions=own).json() == ask(tiny_client).json()

    @pytest.mark.parametrize("size", [1, 2, 64, 128, 256, 383])
    @pytest.mark.parametrize("form", ["float", "base64"])
    def test_fewer_are_the_first_ones_scaled_to_one(self, tiny_client: Any, size: int, form: str) -> None:
        full = vectors_of(ask(tiny_client, ["荷花什么时候开", "甲"]))
        short = vectors_of(ask(tiny_client, ["荷花什么时候开", "甲"], dimensions=size, encoding_format=form))
        assert short.shape == (2, size)
        expected = full[:, :size] / np.linalg.norm(full[:, :size], axis=1, keepdims=True)
        assert np.abs(short - expected).max() < 1e-6
        assert np.abs(np.linalg.norm(short, axis=1) - 1).max() < 1e-3

    @pytest.mark.parametrize("size", [0, 385, -1, "64", "64x", 64.5, True, [64], {}, 10**30, 1e300, ""])
    def test_sizes_that_do_not_exist_are_refused(self, tiny_client: Any, size: Any) -> None:
        refused(ask(tiny_client, dimensions=size), 400, "dimensions", "384")


class TestKeys:
    """Case 29."""

    def test_without_keys_anything_goes(self, tiny_client: Any) -> None:
        for headers in ({}, {"authorization": "Bearer EMPTY"}, {"api-key": "x"}, {"authorization": "Basic eA=="}):
            answer = tiny_client.post(EMBEDDINGS, json={"model": "m3e-tiny", "input": TEXT}, headers=headers)
            assert answer.status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {"authorization": "Bearer k-123"},
            {"authorization": "bearer k-123"},
            {"authorization": "BEARER k-123"},
            {"authorization": "Bearer   k-123  "},
            {"api-key": "k-123"},
            {"API-Key": "k-123"},
            {"authorization": "Bearer other~key"},
            {"authorization": "Basic eDp5", "api-key": "k-123"},
        ],
    )
    def test_right_keys(self, serve: Any, headers: dict[str, str]) -> None:
        client = serve(keys=("k-123", "other~key"))
        assert client.post(EMBEDDINGS, json={"model": "mini", "input": "甲"}, headers=headers).status_code == 200
        assert client.get("/v1/models", headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"authorization": "Bearer wrong-one"},
            {"authorization": "Bearer k-1234"},
            {"authorization": "Bearer k-12"},
            {"authorization": "Bearer K-123"},
            {"authorization": "Bearer"},
            {"authorization": "Bearer "},
            {"authorization": "k-123"},
            {"authorization": "Basic k-123"},
            {"authorization": "Bearer k-123 k-123"},
            {"authorization": "Bearer k-123,other~key"},
            {"api-key": ""},
            {"api-key": "wrong-one"},
            {"x-api-key": "k-123"},
            {"authorization": "Bearer k-123\u00e9".encode("latin-1").decode("latin-1")},
            {"cookie": "key=k-123"},
        ],
    )
    def test_wrong_or_no_key(self, serve: Any, headers: dict[str, str]) -> None:
        client = serve(keys=("k-123", "other~key"))
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        for method, path in (
            ("POST", EMBEDDINGS),
            ("GET", "/v1/models"),
            ("GET", "/v1/nowhere"),
            ("POST", "/v1/search"),
        ):
            answer = client.request(method, path, headers=raw, content=b"{}")
            error = refused(answer, 401, None, "Authorization: Bearer", "api-key")
            assert error["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"
            assert not any(word in answer.text for word in ("k-123", "other~key", "wrong-one"))

    def test_a_key_in_the_address_opens_nothing(self, serve: Any) -> None:
        client = serve(keys=("k-123",))
        refused(client.get("/v1/models?api-key=k-123&api_key=k-123"), 401, None)

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/", "/card", "/openapi.json"])
    def test_probes_and_the_page_need_none(self, serve: Any, path: str) -> None:
        assert serve(keys=("k-123",)).get(path).status_code == 200

    def test_a_browsers_preflight_needs_none(self, serve: Any) -> None:
        client = serve(keys=("k-123",), origins=("https://chat.example",))
        asked = {"origin": "https://chat.example", "access-control-request-method": "POST"}
        answer = client.options(EMBEDDINGS, headers={**asked, "access-control-request-headers": "authorization,x-a"})
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "https://chat.example"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == "authorization,x-a"
        assert client.options(EMBEDDINGS, headers=asked).status_code == 204


class TestManyTexts:
    """Case 31."""

    def test_a_thousand_texts(self, tiny_client: Any) -> None:
        texts = [f"第{at}号仓库存放的是{'纸箱木板油漆螺丝'[at % 4 * 2 : at % 4 * 2 + 2]}" for at in range(1000)]
        answer = ask(tiny_client, texts, encoding_format="base64")
        vectors = vectors_of(answer)
        assert len(vectors) == 1000
        for at in range(0, 1000, 50):
            assert np.abs(vectors_of(ask(tiny_client, texts[at]))[0] - vectors[at]).max() < 1e-5

    def test_two_megabytes(self, serve: Any, mini_encoder: Encoder) -> None:
        texts = [("花" if at % 2 else "猫") + "树" * 699 for at in range(1000)]
        body = json.dumps({"model": "mini", "input": texts, "encoding_format": "base64"}, ensure_ascii=False).encode()
        assert len(body) > 2_100_000
        answer = serve().post(EMBEDDINGS, content=body, headers={"content-type": "application/json"})
        vectors = vectors_of(answer)
        assert answer.headers["x-m3e-truncated"] == "1000"
        assert np.abs(vectors[:2] - mini_encoder.encode_document(texts[:2])).max() < 1e-6
        assert np.abs(vectors[::2] - vectors[0]).max() < 1e-6

    @pytest.mark.parametrize("count", [2049, 5000])
    def test_more_than_the_apis_cap_is_refused(self, tiny_client: Any, count: int) -> None:
        refused(ask(tiny_client, ["甲"] * count), 400, "input", "2048", str(count))

    def test_the_cap_itself_is_served(self, mini_client: Any) -> None:
        answer = mini_client.post(EMBEDDINGS, json={"model": "mini", "input": ["甲"] * 2048, "dimensions": 2})
        assert len(vectors_of(answer)) == 2048

    @pytest.mark.parametrize("at", [0, 1, 16, 17, 500, 999])
    def test_a_number_among_strings_is_named(self, tiny_client: Any, at: int) -> None:
        given: list[Any] = ["甲"] * 1000
        given[at] = 5
        refused(ask(tiny_client, given), 400, "input", f"input[{at}]")

    @pytest.mark.parametrize("count", [1, 15, 16, 17, 31, 32, 33, 64, 65, 100, 257])
    def test_any_number_of_texts(self, mini_client: Any, mini_encoder: Encoder, count: int) -> None:
        texts = ["今天天气很好我们去公园吧"[: 1 + at % 12] for at in range(count)]
        answer = mini_client.post(EMBEDDINGS, json={"model": "mini", "input": texts})
        assert np.abs(vectors_of(answer) - mini_encoder.encode_document(texts)).max() < 1e-6

    def test_no_body_holds_anything_but_numbers(self, tiny_client: Any) -> None:
        text = ask(tiny_client, ODD_TEXTS).text
        parsed = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
        assert all(math.isfinite(number) for item in parsed["data"] for number in item["embedding"])
