"""Hashes of n-grams, against a dictionary of Python's own slices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3e.data.ngrams import gram_hashes

FEW_LETTERS = st.lists(st.text("ab中👨\ud83d", max_size=12), max_size=8)


def slices(texts: list[str], size: int) -> list[tuple[str, int]]:
    return [
        (text[start : start + size], owner) for owner, text in enumerate(texts) for start in range(len(text) - size + 1)
    ]


@given(FEW_LETTERS, st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_equal_grams_have_equal_hashes_and_no_others(texts: list[str], size: int) -> None:
    hashes, owners = gram_hashes(texts, size)
    grams = slices(texts, size)
    assert owners.tolist() == [owner for _, owner in grams]
    by_gram: dict[str, int] = {}
    for (gram, _), value in zip(grams, hashes.tolist(), strict=True):
        assert by_gram.setdefault(gram, value) == value
    assert len(set(by_gram.values())) == len(by_gram)


@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["ab", "ab", "ab"], ["a", "", "bc"]])
def test_texts_of_fewer_characters_have_none(texts: list[str]) -> None:
    hashes, owners = gram_hashes(texts, 3)
    assert (len(hashes), len(owners)) == (0, 0)


def test_no_gram_crosses_from_text_to_text() -> None:
    hashes, owners = gram_hashes(["abc", "de", "cde"], 3)
    crossing, _ = gram_hashes(["bcd"], 3)
    assert owners.tolist() == [0, 2]
    assert crossing[0] not in hashes


def test_no_collisions_among_many_grams_wherever_they_stand() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, rng.integers(0x4E00, 0x4E20, 400))) for _ in range(100)]
    hashes, _ = gram_hashes(texts, 3)
    grams = [gram for gram, _ in slices(texts, 3)]
    assert len(set(hashes.tolist())) == len(set(grams))
    first = dict(zip(grams, hashes.tolist(), strict=True))
    alone, _ = gram_hashes(grams[:500], 3)
    assert alone.tolist() == [first[gram] for gram in grams[:500]]
