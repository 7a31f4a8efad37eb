"""Texts to words, for models that count them: one script, one case, jieba's words, English without plurals."""

from __future__ import annotations

import logging
import unicodedata
import warnings
from functools import cache
from importlib import metadata
from typing import Any

from m3e.data.normalise import to_simplified
from m3e.errors import MissingExtraError
from m3e.files import cache_folder

_SHORTEST_STEMMED = 4


def words(text: str) -> list[str]:
    """The words of ``text`` in order, with the shorter words inside long ones (jieba's cut for search).

    Traditional characters become simplified ones, full-width ones narrow, letters lower case; English plurals
    become singular; punctuation, spaces and symbols are left out.

    Raises:
        MissingExtraError: jieba or OpenCC is not installed.
    """
    if not text.isascii():
        text = to_simplified(unicodedata.normalize("NFKC", text))
    found = _segmenter().cut_for_search(text.lower())
    return [_singular(word) for word in found if any(char.isalnum() for char in word)]


def words_version() -> str:
    """What :func:`words` depends on, for the revisions of models that count words."""
    _segmenter()
    return f"jieba-{metadata.version('jieba')}-opencc-{metadata.version('opencc')}"


def _singular(word: str) -> str:
    """An English word by the S-stemmer (Harman, How effective is suffixing?, 1991); any other as it is."""
    if len(word) < _SHORTEST_STEMMED or not word.endswith("s") or not (word.isascii() and word.isalpha()):
        return word
    if word.endswith("ies"):
        return word if word.endswith(("eies", "aies")) else word[:-3] + "y"
    if word.endswith("es"):
        return word if word.endswith(("aes", "ees", "oes")) else word[:-1]
    return word if word.endswith(("us", "ss")) else word[:-1]


@cache
def _segmenter() -> Any:
    """The segmenter of jieba, whose parsed dictionary is kept in our cache, not in a folder that all users share."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its regular expressions are older than Python's rules for them
            import jieba
    except ImportError as error:
        raise MissingExtraError("jieba", "eval") from error
    jieba.setLogLevel(logging.CRITICAL)
    segmenter = jieba.Tokenizer()
    folder = cache_folder() / "jieba" / metadata.version("jieba")
    folder.mkdir(parents=True, exist_ok=True)
    segmenter.tmp_dir = str(folder)
    segmenter.initialize()
    return segmenter
