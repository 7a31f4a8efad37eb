from __future__ import annotations

import numpy as np
import pytest

from m3e.errors import DataError, SettingsError
from m3e.inference.tfidf import TfidfEncoder

TEXTS = ["今天天气很好，我们去公园", "订单怎么退货", "怎样退货", "How to reset my passwords", "password reset"]


@pytest.fixture(scope="module")
def encoder() -> TfidfEncoder:
    return TfidfEncoder()


def test_vectors_are_unit_fp32_and_near_where_words_are_shared(encoder: TfidfEncoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((5, 1024), np.float32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    likeness = vectors @ vectors.T
    assert likeness[3, 4] > 0.6
    assert likeness[1, 2] > 0.2 > np.abs(likeness[0, 1:]).max()


def test_a_vector_depends_on_no_other_text(encoder: TfidfEncoder) -> None:
    alone = np.stack([encoder.encode([text])[0] for text in TEXTS])
    many = encoder.encode(["花园"] * 600 + TEXTS)[600:]
    assert np.array_equal(alone, many)
    assert np.array_equal(alone, TfidfEncoder().encode_query(TEXTS))
    assert np.array_equal(alone, encoder.encode_document(TEXTS))


def test_scripts_are_one(encoder: TfidfEncoder) -> None:
    left, right = encoder.encode(["訂單退貨", "订单退货"])
    assert np.array_equal(left, right)


def test_rare_words_weigh_more(encoder: TfidfEncoder) -> None:
    both, common, rare = encoder.encode(["我们 量子力学", "我们", "量子力学"])
    assert both @ rare > both @ common > 0


def test_hashing_keeps_cosines_of_the_exact_vectors() -> None:
    """Against one place for each word: the error of a random projection to n numbers is about 1 / sqrt(n)."""
    texts = [f"{a}{b}{c}" for a in ("公园", "发票") for b in ("天气", "电影", "番茄") for c in ("学校", "火车", "手机")]
    small, large = (TfidfEncoder(size).encode(texts) for size in (1024, 1 << 16))
    errors = (small @ small.T) - (large @ large.T)
    assert float(np.sqrt((errors**2).mean())) < 0.05


def test_texts_without_words_give_zeros_and_no_nan(encoder: TfidfEncoder) -> None:
    assert encoder.encode([]).shape == (0, 1024)
    assert not encoder.encode(["", "。 ", "the of"]).any()


def test_what_is_not_text_is_refused(encoder: TfidfEncoder) -> None:
    with pytest.raises(DataError, match="text 1"):
        encoder.encode(["好", None])  # type: ignore[list-item]
    with pytest.raises(SettingsError, match="dimension"):
        TfidfEncoder(2)
