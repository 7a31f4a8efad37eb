"""Tokenizers trained on text: what they must know, and what they must keep apart."""

from __future__ import annotations

import random
from typing import Any

import pytest

from m3e.errors import SettingsError
from m3e.models.tokenizers import (
    INDENTS,
    OPERATORS,
    SPECIAL_TOKENS,
    fixed_pieces,
    gb2312,
    train_tokenizer,
    unknown_share,
)

KINDS = ("unigram", "wordpiece")
WORDS = ["今天", "天气", "很好", "公园", "散步", "我们", "密码", "重置", "password", "reset", "server", "name", "user"]


def corpus(count: int = 400) -> list[str]:
    draw = random.Random(0)
    prose = ["，".join(draw.choice(WORDS) + draw.choice(WORDS) for _ in range(5)) + "。" for _ in range(count)]
    code = ["def getUserName(self):\n    if a == b:\n        return self.user_name != 12345"] * (count // 4)
    return [*prose, *code]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return train_tokenizer(corpus(), kind=request.param, vocabulary=7300)


def tokens(tokenizer: Any, text: str) -> list[str]:
    found: list[str] = tokenizer.encode(text, add_special_tokens=False).tokens
    return found


def test_special_tokens_come_first_and_frame_texts(tokenizer: Any) -> None:
    assert [tokenizer.id_to_token(index) for index in range(5)] == list(SPECIAL_TOKENS.values())
    assert tokenizer.encode("今").tokens == ["<s>", "今", "</s>"]
    assert tokenizer.encode("今", "天").tokens == ["<s>", "今", "</s>", "天", "</s>"]


def test_every_common_character_is_known_whatever_the_text(tokenizer: Any) -> None:
    characters = gb2312()
    assert len(characters) == 6763
    assert unknown_share(tokenizer, characters) == (0, 0)
    assert [tokens(tokenizer, char) for char in characters[::500]] == [[char] for char in characters[::500]]


def test_operators_and_indents_are_pieces(tokenizer: Any) -> None:
    for operator in OPERATORS:
        assert tokens(tokenizer, f"a{operator}b") == ["a", operator, "b"]
    for indent in INDENTS:
        assert tokens(tokenizer, f"a\n{indent}b") == ["a", "\n", indent, "b"]
    assert tokens(tokenizer, "a\n\tb") == ["a", "\n", "\t", "b"]


def test_deeper_code_differs_from_shallower_code(tokenizer: Any) -> None:
    ids = {tuple(tokenizer.encode(f"if a:\n{' ' * depth}return b").ids) for depth in range(1, 20)}
    assert len(ids) == 19
    assert tokenizer.token_to_id("<unk>") not in {index for row in ids for index in row}


def test_blanks_that_say_nothing_are_left_out(tokenizer: Any) -> None:
    plain = tokenizer.encode("a b\n  c").ids
    for typed in ("  a b\n  c\n", "a  b\n  c", "a\tb \t\n\n\n  c", "a b\r\n  c", "a b\u2028  c", "a\u200b b\n  c"):
        assert tokenizer.encode(typed).ids == plain, typed


def test_digits_stand_one_by_one(tokenizer: Any) -> None:
    assert tokens(tokenizer, "2026年12月") == ["2", "0", "2", "6", "年", "1", "2", "月"]


def test_humps_are_cut_also_where_capitals_are_lost(tokenizer: Any) -> None:
    assert tokens(tokenizer, "getUserName") == tokens(tokenizer, "get user name")
    assert tokens(tokenizer, "HTTPServer") == tokens(tokenizer, "http server")
    assert tokens(tokenizer, "PASSWORD") == tokens(tokenizer, "password")


@pytest.mark.parametrize("kind", KINDS)
def test_capitals_may_stay(kind: Any) -> None:
    cased = train_tokenizer(corpus(), kind=kind, vocabulary=7300, lower_case=False)
    assert "".join(tokens(cased, "getUserName")).replace("##", "") == "getUserName"
    assert tokens(cased, "Ab") != tokens(cased, "ab")
    first = {token.lstrip("#")[0] for token in tokens(cased, "getUserName") if not token.startswith("##")}
    assert {"g", "U", "N"} <= first
    assert unknown_share(cased, ["The QUICK brown Fox"]) == (0, 0)


def test_words_that_are_frequent_are_pieces(tokenizer: Any) -> None:
    assert tokens(tokenizer, "password") == ["password"]


def test_only_unigram_has_pieces_of_several_chinese_characters() -> None:
    unigram, wordpiece = (train_tokenizer(corpus(2000), kind=kind, vocabulary=7300) for kind in KINDS)
    assert tokens(wordpiece, "公园散步") == ["公", "园", "散", "步"]
    assert len(tokens(unigram, "公园散步")) < 4


def test_what_is_left_is_bytes_or_one_unknown_token() -> None:
    unigram, wordpiece = (train_tokenizer(corpus(), kind=kind, vocabulary=7300) for kind in KINDS)
    assert tokens(unigram, "a😀b") == ["a", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "b"]
    assert unigram.decode(unigram.encode("饕😀餮").ids) == "饕😀餮"
    assert unknown_share(unigram, ["a😀b"]) == (0, pytest.approx(4 / 6))
    assert tokens(wordpiece, "a😀b") == ["a", "<unk>", "b"]
    assert tokens(wordpiece, "caféпривет")[-7:] == ["<unk>"] * 7
    assert unknown_share(wordpiece, ["a😀b"]) == (pytest.approx(1 / 3), 0)


def test_characters_of_the_text_join_the_alphabet(tokenizer: Any) -> None:
    kind = "unigram" if tokenizer.token_to_id("<0x00>") is not None else "wordpiece"
    traditional = train_tokenizer([*corpus(), *["資料庫"] * 5, "龖"], kind=kind, vocabulary=7300)
    assert unknown_share(traditional, ["庫資"]) == (0, 0)
    assert traditional.token_to_id("龖") is None  # seen once
    assert tokenizer.token_to_id("庫") is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_without_room_is_refused(kind: Any) -> None:
    least = len(fixed_pieces(kind)) + len(SPECIAL_TOKENS)
    with pytest.raises(SettingsError, match=f"vocabulary of {least:,} has no room for words: .* alone are {least:,}"):
        train_tokenizer(corpus(), kind=kind, vocabulary=least)
    assert train_tokenizer(corpus(), kind=kind, vocabulary=least + 40).get_vocab_size() <= least + 40


def test_no_text() -> None:
    with pytest.raises(SettingsError, match="there is no text"):
        train_tokenizer(["", " \n"])
