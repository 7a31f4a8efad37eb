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
from m3e.inference.tokens import Tokens

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


def test_tokens_made_apart_give_the_same_vectors(mini) -> None:
    encoder = Encoder(mini, dtype="fp32")
    expected = encoder.encode(TEXTS, prompt_name="query")
    parts = [encoder.tokenise(TEXTS[:3], prompt_name="query"), encoder.tokenise(TEXTS[3:], prompt="问")]
    joined = Tokens.join(parts)
    assert joined.lengths == [len(ids) for ids in joined.ids]
    assert np.abs(encoder.encode_tokens(joined) - expected).max() < 1e-6
    chosen = joined.take([5, 0, 5])
    assert np.abs(encoder.encode_tokens(chosen) - expected[[5, 0, 5]]).max() < 1e-6
    assert encoder.tokenise(["猫" * 62, "猫" * 63]).cut == [False, True]
    assert encoder.encode_tokens(joined.take([])).shape == (0, 32)


def test_prompts_of_several_lengths_in_one_batch_are_left_out_of_the_pooling(mini_folder) -> None:
    modules = [Transformer(str(mini_folder)), Pooling(32, "mean", include_prompt=False), Normalize()]
    model = SentenceTransformer(modules=modules, prompts={"query": "问订单", "document": "答"}, device="cpu")
    encoder = Encoder(model, dtype="fp32")
    both = Tokens.join([encoder.tokenise(["猫狗", "今天"], prompt_name=name) for name in ("query", "document")])
    expected = [model.encode(["猫狗", "今天"], prompt_name=name) for name in ("query", "document")]
    assert np.abs(encoder.encode_tokens(both) - np.concatenate(expected)).max() < 1e-5


@pytest.mark.parametrize("dim", [1, 8, 32])
def test_shorter_vectors_have_length_one(mini, dim: int) -> None:
    whole = Encoder(mini, dtype="fp32").encode(TEXTS)
    encoder = Encoder(mini, dtype="fp32", dim=dim)
    ours = encoder.encode(TEXTS)
    assert ours.shape == (len(TEXTS), dim)
    assert encoder.dimension == dim
    cut = whole[:, :dim]
    assert np.abs(ours - cut / np.linalg.norm(cut, axis=1, keepdims=True)).max() < 1e-6


@pytest.mark.parametrize("dim", [0, -1, 33])
def test_dimensions_that_the_model_does_not_have_are_refused(mini, dim: int) -> None:
    with pytest.raises(SettingsError, match=r"1\.\.32"):
        Encoder(mini, dim=dim)


def test_the_dimension_that_a_model_is_set_to(mini) -> None:
    mini.truncate_dim = 8
    ours = Encoder(mini, dtype="fp32").encode(TEXTS)
    theirs = mini.encode(TEXTS)
    assert ours.shape == theirs.shape
    assert (ours * theirs).sum(axis=1) == pytest.approx(np.linalg.norm(theirs, axis=1), abs=1e-5)


def test_many_texts_are_tokenised_ahead_and_keep_their_order(mini, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m3e.inference.encoder._TEXTS_AT_ONCE", 3)
    encoder = Encoder(mini, dtype="fp32")
    texts = [f"第{index}号订单" + "猫" * (index * 7 % 70) for index in range(20)]
    assert np.abs(encoder.encode(texts, show_progress=True) - mini.encode(texts)).max() < 1e-5
    assert encoder.cut == sum(index * 7 % 70 + len(f"第{index}号订单") > 62 for index in range(20))


def test_long_texts_are_tokenised_in_smaller_parts(mini, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m3e.inference.encoder._CHARACTERS_AT_ONCE", 100)
    encoder = Encoder(mini, dtype="fp32")
    seen: list[int] = []
    tokenise = encoder._tokeniser
    monkeypatch.setattr(encoder, "_tokeniser", lambda texts, prefix: seen.append(len(texts)) or tokenise(texts, prefix))
    texts = ["猫" * size for size in (1, 99, 1, 300, 2, 2, 50, 50)]
    assert np.abs(encoder.encode(texts) - mini.encode(texts)).max() < 1e-5
    assert seen == [2, 1, 1, 3, 1]


def test_an_error_while_tokenising_ahead_is_raised(mini, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m3e.inference.encoder._TEXTS_AT_ONCE", 2)
    encoder = Encoder(mini, dtype="fp32")
    monkeypatch.setattr(encoder, "_tokeniser", lambda texts, prefix: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        encoder.encode(["猫"] * 9)


def test_tokens_are_those_of_sentence_transformers(mini) -> None:
    for text in (*TEXTS, "A Cat", "<s> </s> <pad>", "ＡＢＣ１２３", "\u200b", "a\nb\tc"):
        expected = mini.preprocess([text])["input_ids"][0].tolist()
        assert Encoder(mini, dtype="fp32").tokenise([text]).ids[0] == expected, text


def test_a_shared_tokenizer_may_be_used_in_between(mini) -> None:
    encoder = Encoder(mini, dtype="fp32")
    expected = encoder.encode(TEXTS)
    mini.tokenizer(TEXTS, padding="max_length", max_length=9, truncation=True)
    assert np.array_equal(encoder.encode(TEXTS), expected)


def test_tokenizers_in_python(mini) -> None:
    """They say nothing of texts that they cut; what they cut is counted all the same."""
    from transformers import BertConfig, BertModel, ByT5Tokenizer

    config = BertConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=64
    )
    mini[0].model = BertModel(config).eval()
    mini[0].processor = ByT5Tokenizer()
    mini.max_seq_length = 10
    encoder = Encoder(mini, dtype="fp32")
    texts = ["a" * 8, "a" * 9, "a" * 10, "猫"]
    assert np.abs(encoder.encode(texts) - mini.encode(texts)).max() < 1e-5
    assert encoder.tokenise(texts).cut == [False, False, True, False]
