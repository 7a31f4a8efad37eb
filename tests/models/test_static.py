from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers

from m3e import load
from m3e.models.static import add_words, damp, distil, sif_weights, static_tokenizer, token_frequencies, write_static

SPECIAL = 4  # the miniature's first tokens
WORDS = ["退货", "快递", "a", "番茄黄", "退货", "cat"]


def by_its_ids(ids: list[list[int]]) -> np.ndarray:
    """Vectors of 8 numbers that a text's own ids decide, prompt and special tokens included."""
    return np.stack([np.random.default_rng(row).normal(size=8) for row in ids]).astype(np.float32)


def zipf_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "的": 1, "猫": 2, "狗": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return tokenizer


def test_each_token_is_encoded_as_a_query_of_it(mini: Any) -> None:
    seen: list[list[int]] = []

    def remember(ids: list[list[int]]) -> np.ndarray:
        seen.extend(ids)
        return by_its_ids(ids)

    table = distil(mini, remember, words=["退货"])
    prompt = mini.tokenizer.convert_tokens_to_ids("问")
    size = len(mini.tokenizer)
    text = "问" + mini.tokenizer.convert_ids_to_tokens(50)
    assert seen[50] == [2, prompt, 50, 3] == mini.tokenizer(text)["input_ids"]
    assert seen[size:] == [[2, prompt, *mini.tokenizer.convert_tokens_to_ids(["退", "货"]), 3]]
    assert len(table.rows) == len(seen) == size + 1
    assert table.tokenizer.encode("退货怎", add_special_tokens=False).ids[0] == size


def test_special_tokens_have_no_direction(mini: Any) -> None:
    table = distil(mini, by_its_ids)
    assert not table.rows[:SPECIAL].any()
    assert (np.linalg.norm(table.rows[SPECIAL:], axis=1) > 0).all()


def test_tokens_weigh_less_the_more_texts_hold_them(mini: Any) -> None:
    common = distil(mini, by_its_ids, texts=["猫"] * 50 + ["狗"])
    cat, dog = mini.tokenizer.convert_tokens_to_ids(["猫", "狗"])
    even = distil(mini, by_its_ids, texts=["猫", "狗"])
    assert np.linalg.norm(common.rows[cat]) < 0.9 * np.linalg.norm(even.rows[cat])
    assert np.linalg.norm(common.rows[dog]) > 1.1 * np.linalg.norm(even.rows[dog])


def test_only_split_words_are_added(mini: Any) -> None:
    tokenizer = static_tokenizer(mini)
    before = tokenizer.get_vocab_size()
    assert add_words(tokenizer, WORDS) == ["退货", "快递", "番茄黄", "cat"]
    assert tokenizer.get_vocab_size() == before + 4
    assert tokenizer.encode("我们退货快递", add_special_tokens=False).tokens == ["我", "们", "退货", "快递"]


def test_a_latin_word_inside_another_stays_apart(mini: Any) -> None:
    tokenizer = static_tokenizer(mini)
    add_words(tokenizer, ["cat"])
    assert "cat" in tokenizer.encode("a cat", add_special_tokens=False).tokens
    assert "cat" not in tokenizer.encode("category", add_special_tokens=False).tokens


def test_frequencies_are_the_tokenizers_own_where_it_has_them() -> None:
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("的", -1.0), ("猫", -3.0), ("狗", -9.0)], unk_id=0))
    found = token_frequencies(tokenizer)
    assert found.sum() == pytest.approx(1)
    assert found[0] == 0
    assert found[1] / found[3] == pytest.approx(np.exp(8))


def test_frequencies_follow_the_order_else() -> None:
    found = token_frequencies(zipf_tokenizer())
    assert found.sum() == pytest.approx(1)
    assert found[1] / found[3] == pytest.approx(5 / 3)


def test_counted_texts_move_frequencies_by_a_third() -> None:
    tokenizer = zipf_tokenizer()
    found = token_frequencies(tokenizer, ["狗狗狗", "狗猫", "狗", "狗"])
    assert found.sum() == pytest.approx(1)
    assert found == pytest.approx((np.array([0, 0, 1, 4]) / 5 + 2 * token_frequencies(tokenizer)) / 3)


def test_sif_halves_at_its_coefficient() -> None:
    assert sif_weights(np.array([0.0, 1e-4, 1.0]), 1e-4) == pytest.approx([1, 0.5, 1e-4], rel=1e-3)


def test_damping_shortens_long_axes_and_keeps_directions_in_place() -> None:
    generator = np.random.default_rng(0)
    vectors = (generator.normal(size=(500, 4)) * [10, 1, 1, 0.1] + 5).astype(np.float32)
    damped, axes = damp(vectors, np.arange(500), None)
    assert np.array_equal(axes, np.eye(4))
    assert damped.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-4)
    spread, before = damped.std(axis=0), vectors.std(axis=0)
    assert spread[0] / spread[1] == pytest.approx((before[0] / before[1]) ** 0.25, rel=0.1)
    centred = vectors - vectors.mean(axis=0)
    assert np.corrcoef(damped[:, 0], centred[:, 0])[0, 1] > 0.99


def test_fewer_numbers_are_the_longest_axes() -> None:
    generator = np.random.default_rng(0)
    vectors = (generator.normal(size=(500, 4)) * [0.1, 10, 1, 3]).astype(np.float32)
    damped, axes = damp(vectors, np.arange(500), 2)
    assert damped.shape == (500, 2)
    assert np.abs(axes).argmax(axis=0).tolist() == [1, 3]


def test_lower_case_comes_along(mini: Any) -> None:
    mini[0].do_lower_case = True
    assert static_tokenizer(mini).normalizer.normalize_str("ＡBc") == "abc"


@pytest.mark.parametrize("int8", [False, True])
def test_the_folder_is_plain_sentence_transformers(mini: Any, tmp_path: Path, int8: bool) -> None:
    table = distil(mini, by_its_ids)
    rows = table.rows
    small = None
    if int8:
        scales = np.abs(rows).max(axis=1, keepdims=True) / 127 + np.float32(1e-12)
        small = (np.rint(rows / scales).astype(np.int8), scales)
        rows = small[0] * scales
    file = write_static(tmp_path, table.tokenizer, table.rows, prompts={"query": ""}, int8=small)
    assert file.stat().st_size < (2500 if int8 else 4500)
    for model in (SentenceTransformer(str(tmp_path), device="cpu"), load(tmp_path, device="cpu")):
        assert np.abs(model[0].embedding.weight.detach().numpy() - rows).max() < 1e-6
        ids = mini.tokenizer.convert_tokens_to_ids(["猫", "狗"])
        mean = rows[ids].mean(axis=0)
        assert np.abs(model.encode(["猫狗"])[0] - mean / np.linalg.norm(mean)).max() < 1e-5
        assert not np.isnan(model.encode(["", " ", "𠮷"], prompt_name="query")).any()
