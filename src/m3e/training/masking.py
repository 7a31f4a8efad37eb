"""Hiding words of token ids from a model that shall guess them.

BERT's manner (Devlin et al. 2018, arXiv:1810.04805): of the words that are chosen, eight tokens in ten become the mask
token, one a random one, one stays. A word is hidden whole, as otherwise its own pieces give it away (Cui et al. 2019,
arXiv:1906.08101): WordPiece's suffixes belong to the piece before, so do pieces of Latin letters where the vocabulary
marks the starts of words, and the bytes of one character; else a piece is a word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3e.errors import SettingsError

_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]+")
_WORD_MARKS = ("▁", "Ġ")
_LEAST_MARKED = 0.01
_ALONE, _SUFFIX, _LETTERS, _BYTE = range(4)
MASK_SHARE, RANDOM_SHARE = 0.8, 0.1


@dataclass(frozen=True)
class PieceTable:
    """What masking must know of each piece of a vocabulary, by id.

    Attributes:
        mask: the mask token's id.
        ordinary: ids that are no special tokens.
        is_special: whether it is one.
        joins: what a piece must follow to be part of the same word: the other's ``ends``; 0 for nothing.
        ends: what can be joined to it.
    """

    mask: int
    ordinary: NDArray[np.int64]
    is_special: NDArray[np.bool_]
    joins: NDArray[np.uint8]
    ends: NDArray[np.uint8]

    @classmethod
    def of(cls, tokenizer: Any) -> PieceTable:
        """The table of a transformers tokenizer.

        Raises:
            SettingsError: it has no mask token.
        """
        mask = getattr(tokenizer, "mask_token_id", None)
        if mask is None:
            raise SettingsError(
                "the model's tokenizer has no mask token, which pre-training needs; start from scratch, or from a base "
                "that was pre-trained by masked tokens"
            )
        vocabulary = tokenizer.get_vocab()
        size = max(vocabulary.values()) + 1
        special = np.zeros(size, np.bool_)
        special[list(tokenizer.all_special_ids)] = True
        joins, ends = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
        suffixes = any(piece.startswith("##") and len(piece) > 2 for piece in vocabulary)
        marked = sum(piece.startswith(_WORD_MARKS) for piece in vocabulary) > _LEAST_MARKED * len(vocabulary)
        for piece, index in vocabulary.items():
            if not special[index]:
                joins[index], ends[index] = _joints(piece, suffixes=suffixes, marked=marked)
        known = np.zeros(size, np.bool_)
        known[list(vocabulary.values())] = True
        return cls(int(mask), np.flatnonzero(known & ~special), special, joins, ends)

    def word_starts(self, ids: NDArray[Any], starts: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each token begins a word.

        Args:
            starts: where each text begins in ``ids``, and where the last one ends.
        """
        begins = np.ones(len(ids), np.bool_)
        joins = self.joins[ids]
        begins[1:] = (joins[1:] == 0) | (joins[1:] != self.ends[ids[:-1]])
        begins[starts[:-1][starts[:-1] < len(ids)]] = True
        return begins


def _joints(piece: str, *, suffixes: bool, marked: bool) -> tuple[int, int]:
    """A piece's entries in ``joins`` and ``ends``."""
    if suffixes:
        return (_SUFFIX if piece.startswith("##") and len(piece) > 2 else _ALONE), _SUFFIX
    if piece.startswith("<0x") and len(piece) == 6:
        value = int(piece[3:5], 16)
        return (_BYTE if 0x80 <= value < 0xC0 else _ALONE), _BYTE  # how UTF-8 goes on with a character
    if marked and _LATIN.fullmatch(piece.lstrip("".join(_WORD_MARKS))):
        return (_ALONE if piece.startswith(_WORD_MARKS) else _LETTERS), _LETTERS
    return _ALONE, _ALONE


def mask_words(
    ids: NDArray[np.int32], starts: NDArray[Any], table: PieceTable, share: float, random: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Token ids as the model sees them, and which of them it must guess.

    Args:
        ids: of all texts, one after the other.
        starts: where each text begins, and where the last one ends.
        share: of the words that are hidden, each with this probability; one at least, where there is any.
    """
    words = np.cumsum(table.word_starts(ids, starts)) - 1
    ordinary = ~table.is_special[ids]
    chosen = random.random(int(words[-1]) + 1 if len(words) else 0) < share
    hidden = chosen[words] & ordinary if len(words) else np.zeros(0, np.bool_)
    if share > 0 and not hidden.any() and ordinary.any():
        hidden = ordinary & (words == random.choice(words[ordinary]))
    places = np.flatnonzero(hidden)
    draws = random.random(len(places))
    seen = ids.copy()
    seen[places[draws < MASK_SHARE]] = table.mask
    others = places[(draws >= MASK_SHARE) & (draws < MASK_SHARE + RANDOM_SHARE)]
    seen[others] = random.choice(table.ordinary, len(others))
    return seen, hidden
