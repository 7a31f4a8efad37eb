"""The one key under which texts are compared: for duplicates, contamination and held-out splits.

Texts are written as typed; only their keys are normalised.
"""

from __future__ import annotations

import hashlib
import unicodedata


def text_key(text: str) -> str:
    """``text`` in NFKC and lower case without spaces, punctuation, symbols or invisible characters.

    A text of nothing but such characters (emoji, say) keeps them, less blanks and invisible ones.
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    key = "".join(char for char in folded if unicodedata.category(char)[0] in "LNM")
    return key or "".join(char for char in folded if unicodedata.category(char)[0] not in "ZC")


def key_hash(text: str) -> int:
    """64 bits of the key's BLAKE2b hash."""
    return int.from_bytes(hashlib.blake2b(text_key(text).encode(), digest_size=8).digest(), "little")


def is_blank(text: str) -> bool:
    """Whether ``text`` holds nothing visible: only spaces of any kind, controls and zero-width characters."""
    return all(unicodedata.category(char)[0] in "ZC" for char in text)
