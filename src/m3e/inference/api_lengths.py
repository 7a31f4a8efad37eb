"""How long texts are before any tokenizer has seen them, and how much of one a server takes."""

from __future__ import annotations

import re
from itertools import pairwise

_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U000323af]")
_CHARACTERS_A_TOKEN = 4
_SHARE_IF_UNSAID = 0.75
_MARGIN = 0.97
_FAR_OFF = 4
_LEAST_LIMIT = 32


def estimate_tokens(text: str) -> int:
    """About how many tokens ``text`` has: one a Chinese, Japanese or Korean character, one for four others."""
    narrow = len(text) if text.isascii() else len(_WIDE.sub("", text))
    return max(1, len(text) - narrow + -(-narrow // _CHARACTERS_A_TOKEN))


def cut_to_tokens(text: str, tokens: int) -> str:
    """The longest beginning of ``text`` with at most ``tokens`` estimated tokens; empty for less than one."""
    if tokens < 1:
        return ""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if estimate_tokens(text[:middle]) <= tokens:
            low = middle
        else:
            high = middle - 1
    return text[:low]


def share_that_fits(reason: str, tokens: int) -> float:
    """The share of a refused text of about ``tokens`` tokens to try next.

    It is the limit over the length where the server's words name both, as "512 tokens … requested 600" does.
    """
    numbers = [int(number) for number in re.findall(r"\d+", reason.replace(",", ""))]
    for limit, asked in pairwise(numbers):
        if _LEAST_LIMIT <= limit < asked and tokens / _FAR_OFF < asked < tokens * _FAR_OFF:
            return limit / asked * _MARGIN
    return _SHARE_IF_UNSAID
