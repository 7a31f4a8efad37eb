from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, StaticEmbedding, Transformer

from m3e.errors import DataError, SettingsError
from m3e.inference import Encoder
from m3e.inference.encoder import batches_by_tokens

TEXTS = ["今天天气很好" * repeat for repeat in (1, 9, 3, 30)] + ["猫", "", "a cat, 123", " "]


@pytest.mark.parametrize("prompt_name", [None, "query", "document"])
@pytest.mark.parametrize("budget", [1, 50, 4096])
def test_the_vectors_of_sentence_transformers(mini, prompt_name: str | None, budget: int) -> None:
    encoder = Encoder(mini, dtype="fp32", token_budget=budget)
    ours = encoder.encode(TEXTS, prompt_name=prompt_name)
    assert ours.dtype == np.float32
    assert np.abs(ours - mini.encode(TEXTS, prompt_name=prompt_name)).max() < 1e-5


def test_bf16_stays_close_and_comes_out_in_fp32(mini) -> None:
    ours = Encoder(mini, dtype="bf16").encode(TEXTS)
    assert ours.dtype == np.float32
    assert (ours * mini.encode(TEXTS)).sum(axis=1).min() > 0.999
    assert next(mini.parameters()).dtype.itemsize == 4, "the user's model must stay as it was"


def test_query_and_document_prompts(mini) -> None:
    encoder = Encoder(mini, dtype="fp32")
    assert np.allclose(encoder.encode_query(["猫"]), encoder.encode(["问猫"]), atol=1e-6)
    assert np.allclose(encoder.encode_document(["猫"]), encoder.encode(["答猫"]), atol=1e-6)
    assert np.allclose(encoder.encode(["猫"], prompt="订单"), encoder.encode(["订单猫"]), atol=1e-6)


@pytest.mark.parametrize("include_prompt", [True, False])
def test_poolings_that_leave_the_prompt_out(mini_folder, include_prompt: bool) -> None:
    pooling = Pooling(32, "mean", include_prompt=include_prompt)
    modules = [Transformer(str(mini_folder)), pooling, Normalize()]
    model = SentenceTransformer(modules=modules, prompts={"query": "问订单"}, device="cpu")
    ours = Encoder(model, dtype="fp32").encode(["猫狗", "今天天气很好"], prompt_name="query")
    assert np.abs(ours - model.encode(["猫狗", "今天天气很好"], prompt_name="query")).max() < 1e-5


def test_static_models(mini) -> None:
    model = SentenceTransformer(modules=[StaticEmbedding(mini.tokenizer, embedding_dim=8), Normalize()], device="cpu")
    ours = Encoder(model).encode(TEXTS)
    assert np.isfinite(ours).all()
    assert np.abs(ours - model.encode(TEXTS)).max() < 1e-6


def test_cut_texts_are_counted(mini) -> None:
    encoder = Encoder(mini)
    encoder.encode(["猫" * 62, "猫" * 63, "猫" * 500])
    assert encoder.cut == 2
    encoder.encode(["猫"])
    assert encoder.cut == 0


def test_a_vector_does_not_depend_on_its_neighbours(mini) -> None:
    encoder = Encoder(mini, dtype="fp32")
    alone = encoder.encode(["退货怎么办"])[0]
    assert np.abs(encoder.encode(["退货怎么办", *TEXTS])[0] - alone).max() < 1e-6


def test_no_texts_give_no_rows(mini) -> None:
    assert Encoder(mini).encode([]).shape == (0, 32)


@pytest.mark.parametrize(("texts", "part"), [("一个字符串", "list"), (["好", None], "text 1"), ([3], "text 0")])
def test_what_is_not_a_list_of_strings_is_refused(mini, texts: object, part: str) -> None:
    with pytest.raises(DataError, match=part):
        Encoder(mini).encode(texts)  # type: ignore[arg-type]


def test_unknown_prompts_and_settings_are_refused(mini) -> None:
    with pytest.raises(SettingsError, match="query, document"):
        Encoder(mini).encode(["猫"], prompt_name="passage")
    with pytest.raises(SettingsError, match="fp8"):
        Encoder(mini, dtype="fp8")  # type: ignore[arg-type]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 600), max_size=200), st.integers(1, 3000))
def test_batches_hold_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(batches_by_tokens(lengths, budget))
    assert sorted(int(index) for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget
