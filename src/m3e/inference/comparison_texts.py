"""Chinese and English texts of mixed lengths, to compare a model with another form of itself."""

from __future__ import annotations

from collections.abc import Callable

from m3e.data.samples import general_data, help_centre

LONGEST = 2048
"""Tokens of the longest text, where a model's own maximum is higher."""

_EVERY = 6  # of the sample's short texts
_ENGLISH = (
    "refund",
    "How do I change the delivery address?",
    "Is the museum open on Mondays?",
    "def total(prices): return sum(prices)",
    "The parcel was left with a neighbour because nobody answered the door.",
    "Green tea is not fermented; its leaves are heated soon after picking, which keeps them green and fresh.",
    "A battery holds less charge in the cold, so a phone that shows twenty per cent may switch off on a ski slope and "
    "come back to life, without a charger, once it is warm again.",
    "When the river froze, the village used it as a road: sledges carried salt and timber downstream, children skated "
    "to school, and the ferryman mended his boat by the stove until the ice broke in spring.",
    "Sort the records by the number of tokens, not of characters, fill each batch up to a fixed budget, and the "
    "share of padding falls below five per cent; the model then spends its time on text and not on empty places.",
)
_SHARES = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.25)  # of the maximum length; the last is cut


def comparison_texts(count_tokens: Callable[[str], int], max_length: float | None) -> list[str]:
    """About a hundred texts, from one word to more than the model's maximum length.

    Args:
        count_tokens: the number of tokens of a text.
        max_length: the model's, in tokens; ``None`` or infinite where it has none.
    """
    samples = general_data()
    passages = list(samples.passages.values())
    short = [first for first, _, _ in samples.pairs][::_EVERY] + [text for text, _ in samples.queries][::_EVERY]
    answers = list(help_centre().answers.values())[:: _EVERY * 2]
    limit = int(min(max_length or LONGEST, LONGEST))
    mixed = [text for pair in zip(passages, _ENGLISH * len(passages), strict=False) for text in pair]
    long = [_joined(mixed[start:], int(limit * share), count_tokens) for start, share in enumerate(_SHARES)]
    return list(dict.fromkeys([*short, *_ENGLISH, *passages[::_EVERY], *answers, *long]))


def _joined(texts: list[str], tokens: int, count_tokens: Callable[[str], int]) -> str:
    """The first of ``texts`` joined, as many as it takes to reach ``tokens``."""
    parts: list[str] = []
    counted = 0
    for text in texts:
        if counted >= tokens:
            break
        parts.append(text)
        counted += count_tokens(text)
    return "\n".join(parts)
