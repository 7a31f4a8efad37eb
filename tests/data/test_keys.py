"""The one key: the fast way is the slow way, and what must be equal is."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3e.data.keys import code_points, hash_of_key, hashes_of_keys, is_blank, key_hash, text_key, text_keys

AWKWARD = ["👨‍👩‍👧", "❤️", "葛󠄀", "1️⃣", "İ", "ſ", "ﬁ", "㈱", "①", "²", "é", "é", "\u200b", "\ud83d", "\udc68", "\0", "　"]
ANY = st.text(st.characters(), max_size=8)  # halves of surrogate pairs too
TEXTS = st.lists(st.one_of(ANY, st.lists(st.one_of(ANY, st.sampled_from(AWKWARD))).map("".join)), max_size=12)


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_many_keys_at_once_are_each_text_s_key(texts: list[str]) -> None:
    assert text_keys(texts) == [text_key(text) for text in texts]


def test_every_character_between_others() -> None:
    """Also those that its neighbours compose with, reorder or change the case of."""
    for frame in ("{}", "a{}b", "가{}", "Σ{}", "{}\u0301", "か{}"):
        texts = [frame.format(chr(point)) for point in range(0x20100)]
        assert text_keys(texts) == [text_key(text) for text in texts]


COMBINING = [
    "\u0301",
    "\u0323",
    "\u3099",
    "ﾞ",
    "\u1161",
    "\u11a8",
    "\u09be",
    "\u0345",
    "Σ",
    "ς",
    "İ",
    "ᄀ",
    "e",
    "か",
    "ﾊ",
    "各",
]


@given(st.lists(st.lists(st.sampled_from(COMBINING), max_size=5).map("".join), max_size=5))
@settings(max_examples=300, deadline=None)
def test_characters_that_become_one(texts: list[str]) -> None:
    assert text_keys(texts) == [text_key(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("订单１２３，什么时候 发货？", "订单123什么时候发货"),
        ("ＡＢＣ　会员卡", "abc会员卡"),
        ("a\u200bb\ufeffc\u00add", "abcd"),
        ("葛󠄀饰区", "葛饰区"),  # a variation selector only chooses a picture
        ("❤️", "❤"),
        ("👨‍👩‍👧 家庭", "家庭"),
        ("👨‍👩‍👧", "👨👩👧"),  # of nothing but symbols, they are the key
        ("？！。", "?!。"),
        (" \u200b\t", ""),
        ("\ud83d", ""),
        ("नमस्ते", "नमस्ते"),  # marks are part of their letters
        ("1⃣", "1"),
    ],
)
def test_keys(text: str, key: str) -> None:
    assert text_key(text) == key
    assert text_keys(["前", text, "后"]) == ["前", key, "后"]


def test_is_blank_is_what_has_no_key() -> None:
    for text in ["", " \u3000", "\u200b\ufeff", "\0\x07"]:
        assert is_blank(text)
        assert text_key(text) == ""
    assert not is_blank("？")


@given(st.lists(ANY, max_size=8))
@settings(max_examples=100, deadline=None)
def test_code_points(texts: list[str]) -> None:
    points, ends = code_points(texts)
    assert points.tolist() == [ord(char) for text in texts for char in text]
    assert ends.tolist() == np.cumsum([len(text) for text in texts]).tolist()


def test_hashes_are_blake2b_of_the_key() -> None:
    expected = int.from_bytes(hashlib.blake2b("订单123".encode(), digest_size=8).digest(), "little")
    assert key_hash("订单　１２３！") == expected == hash_of_key("订单123")
    assert hashes_of_keys(["订单123", "", "a"]).tolist() == [expected, hash_of_key(""), hash_of_key("a")]
    assert hashes_of_keys([]).dtype == np.uint64
