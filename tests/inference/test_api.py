"""Endpoints as encoders, against a server that misbehaves: right vectors or a named text, and nothing paid twice."""

from __future__ import annotations

import email.utils
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3e.errors import DataError, ModelError, SettingsError
from m3e.inference import ApiEncoder, ApiOptions
from m3e.inference.api_cache import Answer, VectorCache
from m3e.inference.api_client import Endpoint
from m3e.inference.api_lengths import cut_to_tokens, estimate_tokens, share_that_fits
from tests.fake_embeddings import FakeServer, vector_of

TEXTS = [f"第{number}件订单什么时候到" for number in range(20)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    for name in ("M3E_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with FakeServer() as fake:
        yield fake


@pytest.fixture
def connect(server: FakeServer, tmp_path: Path):
    """``connect(**options)``: a new encoder, as another run would make it, with one cache for all."""

    def make(name: str | None = None, **options: object) -> ApiEncoder:
        quick = {"backoff": 0.01, "timeout": 1.0, "retries": 3, "batch_texts": 4, "concurrency": 2}
        return ApiEncoder(name or server.name, ApiOptions(**(quick | options)), cache=tmp_path / "cache")

    return make


def expected(texts: list[str], model: str = "small") -> np.ndarray:
    return np.stack([vector_of(model, text) for text in texts])


def test_vectors_come_in_the_order_of_the_texts(server: FakeServer, connect) -> None:
    server.shuffle = True
    vectors = connect().encode(TEXTS)
    assert (vectors.dtype, vectors.shape) == (np.float32, (20, 8))
    assert np.array_equal(vectors, expected(TEXTS))
    assert set(server.paid.values()) == {1}
    assert all(len(texts) <= 4 for _, texts in server.posts)


@pytest.mark.parametrize("encodings", [("float", "base64"), ("float",)])
def test_floats_and_base64_are_the_same_vectors(server: FakeServer, connect, encodings: tuple[str, ...]) -> None:
    server.encodings = encodings
    assert np.allclose(connect().encode(TEXTS), expected(TEXTS), atol=1e-7)
    kinds = {body.get("encoding_format") for body in server.bodies if body.get("encoding_format") in encodings}
    assert kinds == ({"base64"} if "base64" in encodings else set())
    assert set(server.paid.values()) == {1}


def test_nothing_is_paid_twice_within_a_run_or_between_runs(server: FakeServer, connect) -> None:
    doubled = TEXTS[:5] * 3
    assert np.array_equal(connect().encode(doubled), expected(doubled))
    assert sum(server.paid.values()) == 5
    again = connect()
    assert np.array_equal(again.encode(TEXTS), expected(TEXTS))
    assert set(server.paid.values()) == {1}
    assert (again.usage.texts, again.usage.cached) == (15, 5)
    posts = len(server.posts)
    assert np.array_equal(connect().encode(TEXTS[::-1]), expected(TEXTS[::-1]))
    assert len(server.posts) == posts


def test_models_prompts_sides_and_dimensions_are_apart_in_the_cache(server: FakeServer, connect) -> None:
    plain = connect().encode(["猫"])
    asked = connect(query_prompt="问：")
    assert np.array_equal(asked.encode_query(["猫"]), expected(["问：猫"]))
    assert np.array_equal(asked.encode_document(["猫"]), plain)
    assert np.array_equal(asked.encode(["猫"], prompt="答："), expected(["答：猫"]))
    assert not np.array_equal(asked.encode_query(["猫"]), plain)
    connect(dimensions=8).encode(["猫"])
    assert server.bodies[-1]["dimensions"] == 8
    assert server.paid["small", "猫"] == 2


def test_queries_go_to_the_query_model_only_where_it_is_listed(server: FakeServer, connect) -> None:
    assert not connect().has_both_prompts
    connect().encode_query(["猫"])
    server.models = ["small", "small:query"]
    both = connect()
    assert both.has_both_prompts
    assert np.array_equal(both.encode_query(["猫"]), expected(["猫"], "small:query"))
    assert np.array_equal(both.encode_document(["猫"]), expected(["猫"]))
    assert [model for model, _ in server.posts] == ["small", "small:query"]


@pytest.mark.parametrize("trouble", [429, 500, 502, 503, "cut", "close", "slow"])
def test_what_may_pass_is_tried_again(server: FakeServer, connect, trouble: object) -> None:
    server.script.extend([trouble, trouble])
    encoder = connect()
    assert np.array_equal(encoder.encode(TEXTS), expected(TEXTS))
    assert encoder.retried == 2
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("trouble", [429, 500, "slow"])
def test_retries_end_and_the_error_names_a_text(server: FakeServer, connect, trouble: object) -> None:
    server.script.extend([trouble] * 50)
    with pytest.raises(ModelError, match=r"no answer in 4 tries.*asked for text \d+ \('第.*and 3 more"):
        connect(timeout=0.2).encode(TEXTS)
    assert not server.paid


@pytest.mark.parametrize("as_date", [False, True])
def test_a_server_that_says_how_long_to_wait_is_obeyed(server: FakeServer, connect, as_date: bool) -> None:
    seconds = email.utils.formatdate(time.time() + 2, usegmt=True) if as_date else "0.6"
    server.script.append((429, "slow down", {"Retry-After": seconds}))
    connect().encode(["猫"])
    assert server.times[1] - server.times[0] > 0.55


def test_a_wait_without_end_is_an_error(server: FakeServer, connect) -> None:
    server.script.append((429, "tomorrow", {"Retry-After": "86400"}))
    with pytest.raises(ModelError, match="86400 s"):
        connect().encode(["猫"])


def test_after_a_failure_the_next_run_pays_only_for_the_rest(server: FakeServer, connect) -> None:
    server.script.extend([None, None, *[500] * 50])
    with pytest.raises(ModelError):
        connect().encode(TEXTS)
    paid = sum(server.paid.values())
    assert 4 <= paid <= 8
    server.script.clear()
    assert np.array_equal(connect().encode(TEXTS), expected(TEXTS))
    assert sum(server.paid.values()) == 20


@pytest.mark.parametrize(
    ("status", "words"),
    [(400, "refuses the request"), (401, "M3E_API_KEY"), (403, "M3E_API_KEY"), (404, "it lists: small")],
)
def test_a_refusal_is_not_repeated_and_says_what_would_be_right(server, connect, status: int, words: str) -> None:
    server.script.append(status)
    with pytest.raises(ModelError, match=words) as raised:
        connect().encode(["猫"])
    assert len(server.posts) == 1
    assert "\n" not in str(raised.value)


def test_an_unknown_model_lists_the_known(server: FakeServer, connect) -> None:
    with pytest.raises(ModelError, match=r"'big'.*it lists: small"):
        connect(f"api:{server.url}#big").encode(["猫"])


def test_an_empty_account_is_not_waited_for(server: FakeServer, connect) -> None:
    server.script.append((429, "you exceeded your quota", {}, "insufficient_quota"))
    with pytest.raises(ModelError, match="quota"):
        connect().encode(["猫"])
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ([1.0] * 7, "7 numbers instead of 8"),
        ([], "0 numbers instead of 8"),
        ([float("nan")] * 8, "not finite"),
        ([float("inf"), *[0.0] * 7], "not finite"),
        ("missing", "no vector came back"),
    ],
)
@pytest.mark.parametrize("encodings", [("float", "base64"), ("float",)])
def test_a_wrong_vector_names_its_text_and_the_others_are_kept(server, connect, odd, words, encodings) -> None:
    server.odd[TEXTS[7]] = odd
    server.encodings = encodings
    with pytest.raises(ModelError, match=rf"text 7 \('{TEXTS[7]}'\): .*{words}"):
        connect(batch_texts=20).encode(TEXTS)
    assert len(server.posts) <= 2
    del server.odd[TEXTS[7]]
    assert np.array_equal(connect().encode(TEXTS), expected(TEXTS))
    assert {text: times for (_, text), times in server.paid.items() if times > 1} == {TEXTS[7]: 2}


def test_two_vectors_for_one_text_make_all_of_the_answer_doubtful(server: FakeServer, connect) -> None:
    server.odd[TEXTS[7]] = "twice"
    with pytest.raises(ModelError, match=r"text 7 .*2 vectors came back"):
        connect(batch_texts=20).encode(TEXTS)
    server.odd.clear()
    assert np.array_equal(connect().encode(TEXTS), expected(TEXTS))


def test_long_texts_are_cut_counted_and_counted_again_from_the_cache(server: FakeServer, connect) -> None:
    server.limit = 50
    texts = [*TEXTS, "长" * 60, "长文" * 400]
    for _ in range(2):
        encoder = connect()
        vectors = encoder.encode(texts)
        assert encoder.cut == 2
        assert np.array_equal(vectors[:20], expected(TEXTS))
    assert {text for _, text in server.paid if text.startswith("长")} == {"长" * 48, "长文" * 24}
    assert set(server.paid.values()) == {1}
    encoder.encode(TEXTS)
    assert encoder.cut == 0


def test_a_batch_that_is_too_large_is_halved_and_the_lesson_kept(server: FakeServer, connect) -> None:
    server.batch = 3
    encoder = connect(batch_texts=20)
    assert np.array_equal(encoder.encode(TEXTS), expected(TEXTS))
    assert set(server.paid.values()) == {1}
    refused = sum(len(texts) > 3 for _, texts in server.posts)
    encoder.encode([f"再{text}" for text in TEXTS])
    assert sum(len(texts) > 3 for _, texts in server.posts) == refused


def test_batches_are_by_tokens(server: FakeServer, connect) -> None:
    texts = ["长" * 100 + str(number) for number in range(8)] + [f"短{number}" for number in range(40)]
    connect(batch_tokens=210, batch_texts=2048).encode(texts)
    assert sorted({len(batch) for _, batch in server.posts})[0] == 2
    assert all(sum(map(estimate_tokens, batch)) <= 210 for _, batch in server.posts)


def test_a_few_requests_run_at_once(server: FakeServer, connect) -> None:
    connect(batch_texts=1, concurrency=3).encode(TEXTS)
    assert 2 <= server.most_at_once <= 3


def test_empty_texts_are_sent_as_a_space(server: FakeServer, connect) -> None:
    vectors = connect().encode(["", " ", "猫"])
    assert np.isfinite(vectors).all()
    assert np.array_equal(vectors[0], vectors[1])
    assert ("small", "") not in server.paid


def test_no_texts_give_no_rows(server: FakeServer, connect) -> None:
    encoder = connect()
    assert encoder.encode([]).shape == (0, 8)
    assert encoder.dimension == 8
    assert len(server.posts) == 1


def test_keys_come_from_the_environment_and_are_never_shown(server, connect, monkeypatch, caplog, capfd) -> None:
    server.key = "sk-right"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(ModelError, match="refuses the key") as raised:
        connect()
    assert "sk-secret" not in str(raised.value) + caplog.text + "".join(capfd.readouterr())
    monkeypatch.setenv("M3E_API_KEY", "sk-right")
    assert connect().encode(["猫"]).shape == (1, 8)
    monkeypatch.delenv("M3E_API_KEY")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ModelError, match="wants a key"):
        connect()


def test_a_redirect_is_named_and_not_followed(server: FakeServer, connect) -> None:
    server.script.append((308, "moved", {"Location": "https://elsewhere.example/v1"}))
    with pytest.raises(ModelError, match=r"https://elsewhere\.example/v1"):
        connect().encode(["猫"])


def test_a_server_that_is_not_there_is_answered_at_once(connect) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(ModelError, match=rf"{port}/v1/models cannot be reached.*running"):
        connect(f"api:http://127.0.0.1:{port}/v1#small", retries=9, backoff=9)
    assert time.monotonic() - started < 5


def test_a_failure_does_not_wait_for_the_retries_of_others(server: FakeServer, connect) -> None:
    server.script.extend([None, [3, 0, (429, "wait", {"Retry-After": "30"})], [3, 0.3, 400]])
    started = time.monotonic()
    with pytest.raises(ModelError, match="refuses the request"):
        connect(concurrency=2, timeout=20.0).encode(TEXTS)
    assert time.monotonic() - started < 20


def test_the_estimate_sends_nothing_and_knows_the_cache(server: FakeServer, connect) -> None:
    encoder = connect(query_prompt="问：")
    encoder.encode(TEXTS[:3])
    posts = len(server.posts)
    cost = encoder.estimate(TEXTS * 2)
    assert (cost.texts, cost.cached) == (17, 3)
    assert cost.tokens == sum(map(estimate_tokens, TEXTS[3:]))
    assert encoder.estimate(TEXTS[:3], prompt_name="query").texts == 3
    assert len(server.posts) == posts


def test_usage_is_what_the_server_counted(server: FakeServer, connect) -> None:
    encoder = connect()
    encoder.encode(TEXTS)
    assert (encoder.usage.texts, encoder.usage.requests) == (20, 5)
    assert encoder.usage.tokens == sum(map(len, TEXTS))


def test_progress_is_told(server: FakeServer, connect) -> None:
    encoder, seen = connect(), []
    encoder.on_texts = lambda done, total: seen.append((done, total))
    encoder.encode(TEXTS)
    assert seen[-1] == (20, 20)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


@pytest.mark.parametrize(("texts", "part"), [("一个字符串", "list"), (["好", None], "text 1")])
def test_what_is_not_a_list_of_strings_is_refused(connect, texts: object, part: str) -> None:
    with pytest.raises(DataError, match=part):
        connect().encode(texts)


@pytest.mark.parametrize(
    ("name", "base", "model"),
    [
        ("api:http://host:80#m", "http://host:80/v1", "m"),
        ("api:http://host/v1/#BAAI/bge-m3", "http://host/v1", "BAAI/bge-m3"),
        ("api:https://host/a/v2/embeddings#a:b#c", "https://host/a/v2", "a:b#c"),
        ("api:https://host/x?api-version=1#m", "https://host/x?api-version=1", "m"),
    ],
)
def test_names_of_endpoints(name: str, base: str, model: str) -> None:
    endpoint = Endpoint.parse(name)
    assert (endpoint.base_url, endpoint.model) == (base, model)
    assert endpoint.url("embeddings") == base.replace("x?", "x/embeddings?") if "?" in base else f"{base}/embeddings"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("api:http://host/v1", "names no model"),
        ("api:host/v1#m", "no http address"),
        ("api:#m", "no http"),
        ("api:http://me:secret@host/v1#m", "M3E_API_KEY"),
    ],
)
def test_names_that_are_no_endpoint(name: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as raised:
        Endpoint.parse(name)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"retries": -1}, {"price": -1.0}, {"dimensions": 0}])
def test_options_outside_their_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(options))):
        ApiOptions(**options)


def test_the_revision_is_all_that_decides_the_vectors(server: FakeServer, connect) -> None:
    same = {connect().revision for _ in range(2)}
    others = {
        connect(query_prompt="问").revision,
        connect(document_prompt="问").revision,
        connect(dimensions=4).revision,
    }
    assert (len(same), len(same | others)) == (1, 4)
    assert connect().name == "small@127.0.0.1"


def test_several_writers_share_a_cache(tmp_path: Path) -> None:
    caches = [VectorCache("http://host", tmp_path) for _ in range(4)]
    keys = [VectorCache.key(["m"], str(number)) for number in range(80)]

    def write(cache: VectorCache, part: list[bytes]) -> None:
        for key in part:
            cache.put({key: Answer(np.frombuffer(key[:8], "<f4"), False)})

    threads = [threading.Thread(target=write, args=(cache, keys[at::4])) for at, cache in enumerate(caches)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = VectorCache("http://host", tmp_path).get(keys)
    assert all(found[key].vector.tobytes() == key[:8] for key in keys)
    assert VectorCache("http://other", tmp_path).get(keys) == {}


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    path = VectorCache("http://host", tmp_path).path
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(DataError, match=path.name):
        VectorCache("http://host", tmp_path)


@given(st.text(max_size=300), st.integers(0, 80))
def test_a_cut_text_is_a_beginning_within_its_tokens(text: str, tokens: int) -> None:
    cut = cut_to_tokens(text, tokens)
    assert text.startswith(cut)
    assert not cut or estimate_tokens(cut) <= tokens
    assert len(cut) == len(text) or tokens < 1 or estimate_tokens(text[: len(cut) + 1]) > tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("今天天气", 4), ("weather today", 4), ("天气 is fine", 4), ("", 1), ("こんにちは", 5), ("𠮷", 1)],
)
def test_estimated_tokens(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


@pytest.mark.parametrize(
    ("reason", "tokens", "share"),
    [
        (
            "maximum context length is 8192 tokens, however you requested 10,240 tokens (10240 in your prompt)",
            9000,
            0.776,
        ),
        ("`inputs` must have less than 512 tokens. Given: 1024", 1100, 0.485),
        ("text 3 is over the limit of 512", 600, 0.75),
        ("too long", 600, 0.75),
    ],
)
def test_the_servers_words_say_how_much_fits(reason: str, tokens: int, share: float) -> None:
    assert share_that_fits(reason, tokens) == pytest.approx(share, abs=1e-3)
