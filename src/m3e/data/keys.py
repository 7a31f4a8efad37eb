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

_VARIATION_SELECTORS = {*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}


def text_key(text: str) -> str:
    """``text`` in NFKC and lower case without spaces, punctuation, symbols or invisible characters.

    A text of nothing but such characters (emoji, say) keeps them, less blanks and invisible ones.
    """
    folded = _fold(text)
    return "".join(char for char in folded if _is_kept(ord(char))) or _visible(folded)


def text_keys(texts: Sequence[str]) -> list[str]:
    """:func:`text_key` of each text, many times as fast."""
    folded = [_fold(text) for text in texts]
    points, ends = code_points(folded)
    kept = _kept_table()[points]
    joined = points[kept].tobytes().decode("utf-32-le")
    stops = np.concatenate(([0], np.cumsum(kept)))[ends].tolist()
    keys, start = [], 0
    for text, stop in zip(folded, stops, strict=True):
        keys.append(joined[start:stop] or _visible(text))
        start = stop
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
def _kept_table() -> NDArray[np.bool_]:
    return np.fromiter(map(_is_kept, range(0x110000)), np.bool_, 0x110000)
