"""Texts made tidy without being changed: spaces, HTML remnants, invisible characters; punctuation and emoji stay."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from m3e.data.keys import code_points
from m3e.errors import MissingExtraError

# a line feed stays; tabs and other spaces become one space; controls, soft hyphens, direction marks,
# byte order marks and zero-width characters go, but for joiners that hold an emoji or a script together
_INVISIBLE = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
)
_SPACES = "\t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_JOINERS = "\u200c\u200d"
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]")

_SUSPECT = f"[{_INVISIBLE}{_SPACES}{_JOINERS}\r\x85\u2028\u2029<&\ud800-\udfff]"
_NEEDS_WORK = re.compile(rf"{_SUSPECT}|  |\n[ \n]| \n|^\s|\s\Z")
_CLASSES_END = 0x10000  # no suspect character lies beyond
_WORK, _BLANK = 1, 2
_REMOVED = re.compile(f"[{_INVISIBLE}\ud800-\udfff]+")
_LINE_ENDS = re.compile("\r\n?|[\x85\u2028\u2029]")
_BLANKS = re.compile(f"[ {_SPACES}]+")
_BLANKS_AT_LINES = re.compile(r" *\n *")
_LINE_FEEDS = re.compile(r"\n{3,}")

_TAG_NAMES = (
    "a|abbr|article|b|big|blockquote|body|br|center|cite|code|dd|del|div|dl|dt|em|figcaption|figure|font|footer|h[1-6]|"
    "head|header|hr|html|i|iframe|img|ins|kbd|label|li|link|main|mark|meta|nav|ol|p|pre|q|s|section|small|span|strike|"
    "strong|sub|sup|table|tbody|td|tfoot|th|thead|tr|tt|u|ul|video|wbr"
)
_TAG = re.compile(rf"</?(?:{_TAG_NAMES})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_BREAKING_TAG = re.compile(
    r"</?(?:br|p|div|li|tr|h[1-6]|ul|ol|table|blockquote|section|article|hr|dd|dt|pre)\b[^<>]*>", re.IGNORECASE
)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_SCRIPT = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
# a tag that a person writes about stands alone; one that an extraction left has its partner, or is a line break
_REMNANT = re.compile(rf"</(?:{_TAG_NAMES})\s*>|<br\s*/?>|<(?:img|a|font|span|p|div)\s[^<>]*=", re.IGNORECASE)
_ENTITY = re.compile(
    r"&(?:nbsp|amp|lt|gt|quot|apos|ldquo|rdquo|lsquo|rsquo|mdash|ndash|hellip|middot|bull|times|ensp|emsp|copy|reg|"
    r"#\d{1,7}|#x[0-9a-f]{1,6});",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
_MAX_ROUNDS = 8


def normalise(text: str, *, simplified: bool = False) -> str:
    """``text`` with tidy spaces, without HTML remnants and stray invisible characters; done twice, it is the same.

    Characters stay as typed: full-width punctuation, emoji with their joiners, line breaks. Code between
    backticks is not touched, nor are tags that a text only mentions. A text never loses its last Chinese
    character or its last visible one.

    Args:
        simplified: turn traditional characters into simplified ones (OpenCC's ``t2s``).

    Raises:
        MissingExtraError: ``simplified`` without OpenCC.
    """
    tidy = _tidy(text) if _NEEDS_WORK.search(text) else text
    return _convert_outside_code(tidy, _simplifier()) if simplified else tidy


def normalise_all(texts: Sequence[str], *, simplified: bool = False) -> list[str]:
    """:func:`normalise` of each text."""
    tidy = list(texts)
    for index in range(len(tidy)) if simplified else _needing_work(texts):
        tidy[index] = normalise(tidy[index], simplified=simplified)
    return tidy


def _needing_work(texts: Sequence[str]) -> list[int]:
    """The indices of texts that ``_NEEDS_WORK`` finds something in."""
    points, ends = code_points(texts)
    classes = _classes()[np.minimum(points, _CLASSES_END)]
    blank = classes == _BLANK
    starts = np.concatenate(([0], ends[:-1])).astype(np.int64)[: len(ends)]
    edges = np.zeros(len(points) + 1, np.bool_)  # where a text begins, and so another has ended
    edges[starts] = edges[ends] = True
    beside = blank & (edges[:-1] | edges[1:])
    beside[1:] |= blank[1:] & blank[:-1]
    found = np.flatnonzero(beside | (classes == _WORK))
    return sorted({*np.searchsorted(ends, found, side="right").tolist()})


@cache
def _classes() -> NDArray[np.uint8]:
    """For each code point ``_WORK`` where it always needs work, ``_BLANK`` where its neighbours decide, or 0."""
    table = np.zeros(_CLASSES_END + 1, np.uint8)
    everything = "".join(map(chr, range(_CLASSES_END)))
    table[[match.start() for match in re.finditer(_SUSPECT, everything)]] = _WORK
    table[[ord(" "), ord("\n")]] = _BLANK
    return table


def to_simplified(text: str) -> str:
    """``text`` in simplified characters.

    Raises:
        MissingExtraError: OpenCC is not installed.
    """
    return _simplifier()(text)


def _tidy(text: str) -> str:
    for _ in range(_MAX_ROUNDS):
        tidied = _tidy_once(text)
        if tidied == text:
            return tidied
        text = tidied
    return text


def _tidy_once(text: str) -> str:
    if "`" in text and (spans := list(_CODE.finditer(text))):
        parts, end = [], 0
        for span in spans:
            parts += [_spaced(_without_html(text[end : span.start()])), span.group()]
            end = span.end()
        parts.append(_spaced(_without_html(text[end:])))
        parts[0], parts[-1] = parts[0].lstrip(), parts[-1].rstrip()
        tidied = "".join(parts)
        return tidied if _is_intact(tidied, text) else text
    spaced = _spaced(_without_html(text)).strip()
    if _is_intact(spaced, text):
        return spaced
    spaced = _spaced(text).strip()
    return spaced if _is_intact(spaced, text) else text


def _is_intact(tidied: str, text: str) -> bool:
    """Whether tidying left a text its Chinese, or anything visible where it had no Chinese."""
    if _HAN.search(text):
        return bool(_HAN.search(tidied))
    return bool(tidied.strip()) or not text.strip()


def _without_html(text: str) -> str:
    if "<" in text and _REMNANT.search(text):
        text = _SCRIPT.sub(" ", _COMMENT.sub(" ", text))
        text = _TAG.sub("", _BREAKING_TAG.sub("\n", text))
    if "&" in text:
        text = _ENTITY.sub(_character, text)
    return text


def _character(entity: re.Match[str]) -> str:
    """The character of an entity; where that would be invisible or half of a pair, the entity as it is."""
    char = html.unescape(entity.group())
    return char if len(char) == 1 and unicodedata.category(char) not in ("Cc", "Cs", "Cn", "Co") else entity.group()


def _spaced(text: str) -> str:
    text = _REMOVED.sub("", _LINE_ENDS.sub("\n", text))
    if "\u200c" in text or "\u200d" in text:
        text = _without_stray_joiners(text)
    text = _BLANKS.sub(" ", text)
    return _LINE_FEEDS.sub("\n\n", _BLANKS_AT_LINES.sub("\n", text))


def _without_stray_joiners(text: str) -> str:
    """``text`` less joiners that hold nothing together: between Chinese or Latin letters, at an end, doubled."""
    kept: list[str] = []
    for position, char in enumerate(text):
        if char in _JOINERS:
            before, after = kept[-1:], text[position + 1 : position + 2]
            if not (before and after and _is_joinable(before[0]) and _is_joinable(after)):
                continue
        kept.append(char)
    return "".join(kept)


def _is_joinable(char: str) -> bool:
    """Whether a joiner beside ``char`` can mean something: emoji, and letters of scripts that join."""
    if unicodedata.category(char) in ("So", "Sk", "Mn", "Mc"):
        return True
    return unicodedata.category(char) == "Lo" and "\u0600" <= char <= "\u1cff"


def _convert_outside_code(text: str, convert: Callable[[str], str]) -> str:
    parts, end = [], 0
    for span in _CODE.finditer(text) if "`" in text else ():
        parts += [convert(text[end : span.start()]), span.group()]
        end = span.end()
    return "".join([*parts, convert(text[end:])])


@cache
def _simplifier() -> Callable[[str], str]:
    try:
        from opencc import OpenCC
    except ImportError as error:
        raise MissingExtraError("opencc", "data") from error
    convert: Callable[[str], str] = OpenCC("t2s").convert
    return convert
