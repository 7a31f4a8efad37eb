"""Which rows are not worth training on, by rules that can be read, set and counted."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3e.data.keys import code_points
from m3e.errors import SettingsError

RULES = (
    "blank",
    "too_short",
    "too_long",
    "language",
    "repeated_characters",
    "equals_positive",
    "template_answer",
    "title_in_passage",
)
"""What a row can be dropped for, in the order in which rules are tried; the first that a row breaks counts."""

_AI = "人工智能|AI|大型?语言模型|语言模型|大模型|聊天机器人|虚拟助手|智能助手"
TEMPLATE_ANSWERS = (
    rf"作为一(?:个|名|款|种)?(?:{_AI})",
    rf"我(?:只)?是一(?:个|名|款|种)?(?:{_AI})",
    r"(?:抱歉|对不起)[，,。!！ ]{0,2}(?:但)?(?:我|作为)(?:无法|不能|没有办法|没法|还不能|不会)"
    r"(?:回答|提供|理解|完成|满足|访问|协助|执行|直接)",
    r"as an? (?:ai|artificial intelligence|large language model|language model)\b",
    r"\bi(?:'m| am) (?:just |only )?an? (?:ai|artificial intelligence|large language model|language model)\b",
    r"^(?:i'm sorry|sorry|i apologi[sz]e),? but i (?:cannot|can't|am not able|am unable)",
)
"""Answers that say who does not answer, rather than anything of the question."""

_TEMPLATE = re.compile("|".join(TEMPLATE_ANSWERS), re.IGNORECASE | re.MULTILINE)
_TEMPLATE_PAIRS = (("为是", "一"), ("抱", "歉"), ("对", "不"), ("aAnN", " "), ("rR", "rR"), ("oO", "gG"))
_TEMPLATE_HEAD = 200
_REPETITION_HEAD = 4096
_RUN_EXEMPT = frozenset(" \n-=_*#.·…~—─━")

_HAN, _LATIN, _OTHER_LETTER = 1, 2, 3
_RANGES = {
    _HAN: ((0x3400, 0xA000), (0xF900, 0xFB00), (0x20000, 0x323B0)),
    _LATIN: ((0x41, 0x250), (0x1E00, 0x1F00), (0xFF21, 0xFF5B)),
}
_LETTERS_END = 0x33480
_LATIN_LETTERS = 5
_JUDGED_FROM = 10
_SHARE_FROM = 20


@dataclass(frozen=True)
class Filters:
    """The rules for rows; ``None`` switches a rule off.

    Attributes:
        min_query: characters that the text, or either sentence, must have.
        max_query: characters that it may have.
        min_passage: characters that each positive must have.
        max_passage: characters that a positive or negative may have.
        language_share: the share of a text that must be in the scripts of the set's languages, 0..1.
        max_run: times that one character may stand in a row.
        top_character_share: of a text of 20 characters or more, the share that one character may make up, 0..1.
        equals_positive: drop rows whose text is its own positive, by key; symmetric scored pairs are spared.
        template_answers: drop rows whose positive begins like :data:`TEMPLATE_ANSWERS`.
        boilerplate: rows of one set that may share a positive; where more do, all of them go.
    """

    min_query: int = 1
    max_query: int | None = None
    min_passage: int = 1
    max_passage: int | None = None
    language_share: float | None = 0.1
    max_run: int | None = 30
    top_character_share: float | None = 0.6
    equals_positive: bool = True
    template_answers: bool = True
    boilerplate: int | None = None

    def __post_init__(self) -> None:
        """Refuse what would drop everything.

        Raises:
            SettingsError: names the rule.
        """
        for rule in fields(self):
            value = getattr(self, rule.name)
            if not _is_of(rule.name, value):
                raise SettingsError(f"filters: {rule.name} cannot be {value!r}")
        for side in ("query", "passage"):
            low, high = getattr(self, f"min_{side}"), getattr(self, f"max_{side}")
            if low < 0 or (high is not None and high < low):
                raise SettingsError(f"filters: min_{side} {low} and max_{side} {high} leave no text")
        for name in ("language_share", "top_character_share"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise SettingsError(f"filters: {name} is {share}; it is a share between 0 and 1")

    @classmethod
    def of(cls, values: dict[str, Any]) -> Filters:
        """The filters of a preset's table or a command's ``--set``.

        Raises:
            SettingsError: a name is not known.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise SettingsError(f"filters: there is no rule {name!r}; rules: {', '.join(known)}")
        return cls(**values)


def _is_of(name: str, value: object) -> bool:
    """Whether a rule's value is of the right type, and no count that leaves nothing."""
    if name in ("equals_positive", "template_answers"):
        return isinstance(value, bool)
    if name in ("min_query", "min_passage"):
        return isinstance(value, int) and not isinstance(value, bool)
    if name in ("language_share", "top_character_share"):
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1)


@dataclass(frozen=True)
class Side:
    """The texts of one part of many rows, flat, each with its row.

    Attributes:
        rows: the index of the row of each text, rising.
    """

    texts: Sequence[str]
    keys: Sequence[str]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Many rows of one set, side by side, and what their card says of all of them.

    Attributes:
        count: how many rows.
        query: exactly one text a row.
        positives: none for rows that are a single text; of scored pairs, the second sentence.
        languages: of the set; texts in other scripts break ``language``.
        scored: rows are scored pairs, where two equal sentences are a fair pair.
        code: positives and negatives are source code, which only lengths are asked of.
        title_in_passage: the set's card asks for this rule.
    """

    count: int
    query: Side
    positives: Side
    negatives: Side
    languages: Sequence[str] = ("zh",)
    scored: bool = False
    code: bool = False
    title_in_passage: bool = False


def broken_rules(filters: Filters, rows: Rows) -> NDArray[np.uint8]:
    """For each row 0, or 1 + the index in :data:`RULES` of the first rule that it breaks."""
    broken = np.zeros(rows.count, np.uint8)
    for name, side, flags in [*_faults_of_any_text(filters, rows), *_faults_of_pairs(filters, rows)]:
        at = side.rows[np.asarray(flags, np.bool_)]
        code = RULES.index(name) + 1
        broken[at] = np.where(broken[at] == 0, code, np.minimum(broken[at], code))
    return broken


Fault = tuple[str, Side, Sequence[bool] | NDArray[np.bool_]]


def _faults_of_any_text(filters: Filters, rows: Rows) -> Iterator[Fault]:
    for side in (rows.query, rows.positives, rows.negatives):
        as_query = side is rows.query or rows.scored
        low = filters.min_query if as_query else filters.min_passage
        high = filters.max_query if as_query else filters.max_passage
        lengths = np.fromiter(map(len, side.texts), np.int64, len(side.texts))
        yield "blank", side, np.fromiter(map(len, side.keys), np.int64, len(side.keys)) == 0
        yield "too_short", side, lengths < low
        if high is not None:
            yield "too_long", side, lengths > high
    for side in (rows.query,) if rows.code else (rows.query, rows.positives, rows.negatives):
        if filters.language_share is not None:
            yield "language", side, _in_other_scripts(side.keys, rows.languages, filters.language_share)
        yield "repeated_characters", side, _are_repetitive(side.texts, filters.max_run, filters.top_character_share)


def _faults_of_pairs(filters: Filters, rows: Rows) -> Iterator[Fault]:
    side = rows.positives
    pairs = list(zip(map(rows.query.keys.__getitem__, side.rows.tolist()), side.keys, strict=True))
    if filters.equals_positive and not rows.scored:
        yield "equals_positive", side, [own == key for own, key in pairs]
    if filters.template_answers and not rows.code:
        yield "template_answer", side, _are_templates(side.texts)
    if rows.title_in_passage:
        yield "title_in_passage", side, [own in key for own, key in pairs]


def _are_templates(texts: Sequence[str]) -> NDArray[np.bool_]:
    heads = [text[:_TEMPLATE_HEAD] for text in texts]
    points, ends = code_points(heads)
    before, after = _template_pairs()
    points = np.minimum(points, len(before) - 1)
    # what matches a pattern holds one of these pairs, which are found many times as fast
    found = np.flatnonzero(before[points[:-1]] & after[points[1:]])
    templates = np.zeros(len(texts), np.bool_)
    for index in {*np.searchsorted(ends, found, side="right").tolist()}:
        templates[index] = _is_template(texts[index])
    return templates


@cache
def _template_pairs() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """For each code point a bit for each pair of characters that it may begin, and for each that it may end."""
    tables = np.zeros((2, 0x10000), np.uint8)
    for bit, pair in enumerate(_TEMPLATE_PAIRS):
        for table, characters in zip(tables, pair, strict=True):
            table[[ord(character) for character in characters]] |= 1 << bit
    return tables[0], tables[1]


def _is_template(text: str) -> bool:
    return _TEMPLATE.search(text, 0, _TEMPLATE_HEAD) is not None


def _in_other_scripts(keys: Sequence[str], languages: Sequence[str], share: float) -> NDArray[np.bool_]:
    """Whether less than ``share`` of a text is in the languages' scripts; five Latin letters weigh as one Chinese.

    Of a text that weighs less than ten it is not judged: names and numbers are at home everywhere.
    """
    scripts = [*([_HAN] if "zh" in languages else []), *([_LATIN] if {"en", "code"} & set(languages) else [])]
    if not scripts or not keys:
        return np.zeros(len(keys), np.bool_)
    points, ends = code_points(keys)
    classes = _script_table()[np.minimum(points, _LETTERS_END - 1)]
    weight = {_HAN: _sums(classes == _HAN, ends), _LATIN: _sums(classes == _LATIN, ends) / _LATIN_LETTERS}
    good = np.sum([weight[script] for script in scripts], axis=0)
    all_letters = weight[_HAN] + weight[_LATIN] + _sums(classes == _OTHER_LETTER, ends)
    other: NDArray[np.bool_] = (all_letters >= _JUDGED_FROM) & (good < share * all_letters)
    return other


def _are_repetitive(texts: Sequence[str], max_run: int | None, top_share: float | None) -> NDArray[np.bool_]:
    """:func:`_is_repetitive` of each text, which is only asked of those with enough equal neighbours."""
    points, ends = code_points(texts)
    equal = np.zeros(len(points), np.bool_)
    equal[1:] = points[1:] == points[:-1]
    neighbours = _sums(equal, ends)
    needed = np.full(len(texts), np.inf if max_run is None else max_run)
    if top_share is not None:
        # a character that makes up more than half of a text cannot always stand between others
        heads = np.minimum(np.fromiter(map(len, texts), np.int64, len(texts)), _REPETITION_HEAD)
        needed = np.minimum(needed, (2 * top_share - 1) * heads - 1)
    repetitive = np.zeros(len(texts), np.bool_)
    for index in np.flatnonzero(neighbours >= needed).tolist():
        repetitive[index] = _is_repetitive(texts[index], max_run, top_share)
    return repetitive


def _is_repetitive(text: str, max_run: int | None, top_share: float | None) -> bool:
    """Whether one character follows itself too often, or makes up too much of a text; rules and spaces are spared."""
    head = text[:_REPETITION_HEAD]
    if top_share is not None and len(text) >= _SHARE_FROM and len(set(head)) < len(head) * (1 - top_share) + 2:
        letters = [char for char in head if char not in _RUN_EXEMPT]
        top = max(map(letters.count, set(letters)), default=0)
        if top > top_share * len(head):
            return True
    if max_run is None or len(text) <= max_run:
        return False
    return any(match.group(1) not in _RUN_EXEMPT for match in _run(max_run).finditer(text))


def _run(max_run: int) -> re.Pattern[str]:
    return re.compile(rf"(.)\1{{{max_run},}}", re.DOTALL)


def _sums(flags: NDArray[np.bool_], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many flags are set in each text."""
    totals = np.concatenate(([0], np.cumsum(flags)))[ends]
    return np.diff(totals, prepend=0)


@cache
def _script_table() -> NDArray[np.uint8]:
    """For each code point 0, or the script of a letter: Chinese, Latin, another; no letter lies beyond."""
    letters = [unicodedata.category(chr(point)) in ("Lu", "Ll", "Lt", "Lo") for point in range(_LETTERS_END)]
    table = np.where(letters, _OTHER_LETTER, 0).astype(np.uint8)
    for script, ranges in _RANGES.items():
        for start, stop in ranges:
            table[start:stop] = np.where(table[start:stop] > 0, script, 0)
    return table
