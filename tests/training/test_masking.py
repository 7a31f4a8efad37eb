"""Hiding words: how many, which, and what the model sees instead."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from m3e.errors import SettingsError
from m3e.training.masking import PieceTable, mask_words

WORDPIECE = ["<pad>", "<unk>", "<s>", "</s>", "<mask>", "天", "气", "pass", "##word", "##s", "==", "##"]
MARKED = [
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    "<mask>",
    "▁pass",
    "word",
    "▁",
    "天气",
    "s",
    "<0xE4>",
    "<0xBD>",
    "<0xA0>",
    "1",
]


class Vocabulary:
    """What masking asks of a tokenizer."""

    def __init__(self, pieces: list[str], mask: int | None = 4) -> None:
        self.pieces = pieces
        self.mask_token_id = mask
        self.all_special_ids = [0, 1, 2, 3, 4]

    def get_vocab(self) -> dict[str, int]:
        return {piece: index for index, piece in enumerate(self.pieces)}


def words(pieces: list[str], *texts: list[str]) -> list[list[str]]:
    """Each text's words, joined by +."""
    table = PieceTable.of(Vocabulary(pieces))
    ids = np.array([pieces.index(piece) for text in texts for piece in text])
    starts = np.cumsum([0, *map(len, texts)])
    begins = table.word_starts(ids, starts)
    found = []
    for start, end in itertools.pairwise(starts):
        text: list[str] = []
        for place in range(start, end):
            text += [pieces[ids[place]]] if begins[place] else [f"{text.pop()}+{pieces[ids[place]]}"]
        found.append(text)
    return found


def test_suffixes_belong_to_the_piece_before() -> None:
    text = ["<s>", "天", "气", "pass", "##word", "##s", "==", "##", "</s>"]
    assert words(WORDPIECE, text) == [["<s>", "天", "气", "pass+##word+##s", "==", "##", "</s>"]]


def test_no_word_reaches_into_another_text_or_a_special_token() -> None:
    assert words(WORDPIECE, ["pass"], ["##word", "<s>", "##word"]) == [["pass"], ["##word", "<s>", "##word"]]


def test_letters_go_on_where_starts_are_marked_and_bytes_where_a_character_does() -> None:
    text = [
        "<s>",
        "▁pass",
        "word",
        "s",
        "天气",
        "word",
        "▁",
        "1",
        "s",
        "<0xE4>",
        "<0xBD>",
        "<0xA0>",
        "<0xE4>",
        "<0xBD>",
    ]
    assert words(MARKED, text) == [
        ["<s>", "▁pass+word+s", "天气", "word", "▁", "1", "s", "<0xE4>+<0xBD>+<0xA0>", "<0xE4>+<0xBD>"]
    ]


def test_pieces_are_words_where_nothing_marks_their_starts() -> None:
    plain = [piece for piece in MARKED if "▁" not in piece]
    assert words(plain, ["word", "s", "天气"]) == [["word", "s", "天气"]]


def batch(random: np.random.Generator, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Texts of 20 words, half of them of two pieces, framed by special tokens."""
    parts = []
    for _ in range(count):
        middle = [[5], [7, 8]]
        drawn = [piece for word in random.integers(0, 2, 20) for piece in middle[word]]
        parts.append([2, *drawn, 3])
    return np.concatenate(parts).astype(np.int32), np.cumsum([0, *map(len, parts)])


def test_the_share_of_words_and_what_stands_in_their_place() -> None:
    table = PieceTable.of(Vocabulary(WORDPIECE))
    random = np.random.default_rng(0)
    ids, starts = batch(random, 400)
    seen, hidden = mask_words(ids, starts, table, 0.3, random)
    assert not hidden[np.isin(ids, [2, 3])].any()
    begins = table.word_starts(ids, starts)
    ordinary = ~table.is_special[ids]
    assert hidden[begins & ordinary].mean() == pytest.approx(0.3, abs=0.02)
    # whole words: a suffix is hidden if and only if what it belongs to is
    suffixes = np.flatnonzero(ids == 8)
    assert (hidden[suffixes] == hidden[suffixes - 1]).all()
    assert (seen == ids)[~hidden].all()
    shown = seen[hidden]
    assert (shown == 4).mean() == pytest.approx(0.8, abs=0.02)
    kept = (shown == ids[hidden]).mean()
    assert kept == pytest.approx(0.1 + 0.1 / 7, abs=0.02)  # a random piece may be the same one, of seven
    assert not np.isin(shown, [0, 1, 2, 3]).any()
    assert (ids == batch(np.random.default_rng(0), 400)[0]).all()  # the batch itself stays


def test_one_word_at_least_is_hidden() -> None:
    table = PieceTable.of(Vocabulary(WORDPIECE))
    ids = np.array([2, 7, 8, 3], np.int32)
    for seed in range(20):
        _, hidden = mask_words(ids, np.array([0, 4]), table, 0.01, np.random.default_rng(seed))
        assert hidden.tolist() == [False, True, True, False]
    _, hidden = mask_words(np.array([2, 3], np.int32), np.array([0, 2]), table, 0.3, np.random.default_rng(0))
    assert not hidden.any()
    _, hidden = mask_words(ids, np.array([0, 4]), table, 0.0, np.random.default_rng(0))
    assert not hidden.any()


def test_masks_are_the_seeds() -> None:
    table = PieceTable.of(Vocabulary(WORDPIECE))
    ids, starts = batch(np.random.default_rng(3), 5)
    first, again, other = (mask_words(ids, starts, table, 0.3, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_a_tokenizer_without_a_mask_token() -> None:
    with pytest.raises(SettingsError, match="no mask token"):
        PieceTable.of(Vocabulary(WORDPIECE, mask=None))
