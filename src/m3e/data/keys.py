"""The one key under which texts are compared: for duplicates, contamination and held-out splits.

Texts are written as typed; only their keys are normalised.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

KEY_CHARACTERS = 6
"""A single text of fewer key characters says too little to be called the same text somewhere else."""

# the tables end after the emoji; rarer characters beyond take the slow way
_TABLE_END = 0x20000
_DROPPED, _IN_CONTEXT = np.uint32(0), np.uint32(0x10FFFF)  # neither is a character that a key can have
_VARIATION_SELECTORS = {*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}


def text_key(text: str) -> str:
    """``text`` in NFKC and lower case without spaces, punctuation, symbols or invisible characters.

    A text of nothing but such characters (emoji, say) keeps them, less blanks and invisible ones.
    """
    folded = _fold(text)
    return "".join(char for char in folded if _is_kept(ord(char))) or _visible(folded)


def text_keys(texts: Sequence[str]) -> list[str]:
    """:func:`text_key` of each text, many times as fast."""
    points, ends = code_points(texts)
    folded = _folded_table()[np.minimum(points, _TABLE_END)]
    kept = folded != _DROPPED
    joined = folded[kept].tobytes().decode("utf-32-le")
    stops = np.concatenate(([0], np.cumsum(kept)))[ends].tolist()
    keys = [joined[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]
    odd = np.searchsorted(ends, np.flatnonzero(folded == _IN_CONTEXT), side="right")
    for index in {*odd.tolist(), *(index for index, key in enumerate(keys) if not key)}:
        keys[index] = text_key(texts[index])
    return keys


def code_points(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """All characters of ``texts`` in one array, and where in it each text ends."""
    joined = "".join(texts).encode("utf-32-le", "surrogatepass")
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    return np.frombuffer(joined, np.uint32), ends


def key_hash(text: str) -> int:
    """64 bits of the key's BLAKE2b hash."""
    return hash_of_key(text_key(text))


def hash_of_key(key: str) -> int:
    """64 bits of the BLAKE2b hash of what is a key already."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def hashes_of_keys(keys: Sequence[str]) -> NDArray[np.uint64]:
    """:func:`hash_of_key` of each key."""
    digests = [hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest() for key in keys]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64, copy=False)


def is_blank(text: str) -> bool:
    """Whether ``text`` holds nothing visible: only spaces of any kind, controls and zero-width characters."""
    return all(unicodedata.category(char)[0] in "ZC" for char in text)


def _fold(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).lower()


def _visible(folded: str) -> str:
    return "".join(
        char for char in folded if unicodedata.category(char)[0] not in "ZC" and ord(char) not in _VARIATION_SELECTORS
    )


def _is_kept(point: int) -> bool:
    """Whether a character counts: letters, digits and marks, less those that only choose a picture or a frame."""
    category = unicodedata.category(chr(point))
    return category[0] in "LNM" and category != "Me" and point not in _VARIATION_SELECTORS


@cache
def _folded_table() -> NDArray[np.uint32]:
    """What a key has for each code point below ``_TABLE_END``: a character, nothing, or what its neighbours decide."""
    table = np.full(_TABLE_END + 1, _IN_CONTEXT, np.uint32)
    in_context = _composing() | {"Σ", *filter(unicodedata.combining, map(chr, range(_TABLE_END)))}
    characters = [" " if point == ord("\n") else chr(point) for point in range(_TABLE_END)]
    # all at once: nothing composes with a line feed
    folded_texts = unicodedata.normalize("NFKC", "\n".join(characters)).split("\n")
    for point, (char, folded) in enumerate(zip(characters, folded_texts, strict=True)):
        if char in in_context or not in_context.isdisjoint(folded):
            continue
        kept = [char for char in folded.lower() if _is_kept(ord(char))]
        if len(kept) < 2:
            table[point] = ord(kept[0]) if kept else _DROPPED
    return table


def _composing() -> frozenset[str]:
    """Characters that may become one with the character before them: second halves of letters, vowels of syllables."""
    parts = (unicodedata.decomposition(chr(point)).split() for point in range(_TABLE_END))
    seconds = {chr(int(pair[1], 16)) for pair in parts if len(pair) == 2 and not pair[0].startswith("<")}
    return frozenset(seconds | {chr(point) for point in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))})


def has_lone_surrogate(text: str) -> bool:
    """Whether ``text`` holds half of a surrogate pair, as cut-off JSON escapes leave; no encoding can write it."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
