"""Which column of a table holds which part of a record: one table of the names that users' files have."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from m3e.errors import DataError
from m3e.records import REQUIRED_FIELDS, Kind, kind_of_fields


class Part(StrEnum):
    """A part of a training record, whatever its kind calls it."""

    QUERY = "query"
    POSITIVE = "positive"
    NEGATIVE = "negative"
    LABEL = "label"
    POSITIVE_SCORES = "positive scores"
    NEGATIVE_SCORES = "negative scores"


FIELDS: dict[Kind, dict[Part, str]] = {
    Kind.PAIR: {Part.QUERY: "text", Part.POSITIVE: "text_pos"},
    Kind.TRIPLET: {Part.QUERY: "text", Part.POSITIVE: "text_pos", Part.NEGATIVE: "text_neg"},
    Kind.SCORED_PAIR: {Part.QUERY: "sentence1", Part.POSITIVE: "sentence2", Part.LABEL: "label"},
    Kind.RANKED: {
        Part.QUERY: "query",
        Part.POSITIVE: "pos",
        Part.NEGATIVE: "neg",
        Part.POSITIVE_SCORES: "pos_scores",
        Part.NEGATIVE_SCORES: "neg_scores",
    },
}
"""What each kind of record calls its parts."""

PART_OF_FIELD: dict[str, Part] = {field: part for parts in FIELDS.values() for part, field in parts.items()}

_KNOWN_NAMES: dict[Part, str] = {
    Part.QUERY: """
        anchor question sentence_a text1 text_a premise prompt instruction input title q
        问题 问 提问 问句 标准问 标准问题 标题 查询 指令 输入 原句 句子1 句子一 句子a 文本1 文本一 句1 句一
    """,
    Part.POSITIVE: """
        positive answer response passage document doc context output sentence_b text2 text_b hypothesis
        chosen content body abstract reply completion a
        答案 答 回答 回复 答复 相似问 相似问题 相似句 正文 内容 摘要 输出 文档 段落 正例 正样本
        句子2 句子二 句子b 文本2 文本二 句2 句二
    """,
    Part.NEGATIVE: """
        negative negatives rejected rejected_response hard_negative hard_negatives
        负例 反例 负样本 难负例
    """,
    Part.LABEL: """
        labels score scores similarity similarity_score
        标签 分数 得分 评分 打分 相似度 标注
    """,
    Part.POSITIVE_SCORES: "positive_scores",
    Part.NEGATIVE_SCORES: "negative_scores",
}

ACCEPTED_FORMS = (
    "text + text_pos (+ text_neg); sentence1 + sentence2 + label; query + pos + neg; anchor + positive (+ negative); "
    "question + answer; 问题 + 答案"
)

Parts = Mapping[Part, tuple[str, ...]]
"""The columns of each part; only a negative may have several (``negative_1``, ``negative_2``, …)."""


def normal_name(name: str) -> str:
    """``name`` in NFKC and lower case, without spaces, underscores and hyphens, for comparing names."""
    return re.sub(r"[\s_\-]+", "", unicodedata.normalize("NFKC", name).casefold())


_FIELD_BY_NORMAL_NAME = {normal_name(field): field for field in PART_OF_FIELD}
_PART_BY_NORMAL_NAME = {normal_name(name): part for part, names in _KNOWN_NAMES.items() for name in names.split()}


def check_chosen(chosen: Mapping[str, str], columns: Sequence[str], where: str) -> None:
    """Refuse a choice of columns that cannot be meant.

    Args:
        chosen: record field to column, as the user gave it.
        columns: the columns that there are.
        where: the table's name for messages.

    Raises:
        DataError: an unknown field, a column that is not there, two fields for one part, one column twice.
    """
    parts: dict[Part, str] = {}
    users: dict[str, str] = {}
    for field, column in chosen.items():
        if field not in PART_OF_FIELD:
            raise DataError(
                f"--column {field}={column}: there is no field {field!r}; fields: {', '.join(PART_OF_FIELD)}"
            )
        if column not in columns:
            raise DataError(f"{where}: there is no column {column!r} (--column {field}={column}); {_found(columns)}")
        other = parts.setdefault(PART_OF_FIELD[field], field)
        if other != field:
            raise DataError(f"--column {other}=… and {field}=… name the same part of a record; give one of them")
        user = users.setdefault(column, field)
        if user != field:
            raise DataError(f"--column: {column!r} cannot be both {user} and {field}")


def match_columns(
    columns: Sequence[str],
    chosen: Mapping[str, str],
    where: str,
    *,
    is_empty: Callable[[str], bool] = lambda column: False,
) -> dict[Part, tuple[str, ...]]:
    """The columns of each part that can be told from the names; a part without a column is left out.

    Names of record fields win over other known names, and the user's choice over all.

    Args:
        columns: the names that a table, or some row of it, has.
        chosen: record field to column, as the user gave it; choices of other columns are passed over.
        where: for messages.
        is_empty: whether a column holds no value; where two columns claim a part, an empty one does not count.

    Raises:
        DataError: two columns claim one part.
    """
    found: dict[Part, tuple[str, ...]] = {
        PART_OF_FIELD[field]: (column,) for field, column in chosen.items() if column in columns
    }
    free = [column for column in columns if column not in chosen.values()]
    fields = _columns_by_field(free)
    preferred = () if chosen else _text_fields(fields)
    for part in Part:
        if part in found or any(PART_OF_FIELD[field] is part for field in chosen):
            continue
        candidates = _candidates(part, free, fields, preferred)
        if len(candidates) > 1 and part is not Part.NEGATIVE:
            candidates = [column for column in candidates if not is_empty(column)] or candidates
        if candidates:
            found[part] = _columns_of_part(part, candidates, where)
    return found


def require_texts(parts: Parts, columns: Sequence[str], where: str) -> None:
    """Refuse a table in which no column is known to hold the text or its counterpart.

    Raises:
        DataError: names the columns found, the forms accepted and ``--column``.
    """
    missing = [part for part in (Part.QUERY, Part.POSITIVE) if part not in parts]
    if missing:
        field = FIELDS[Kind.PAIR][missing[0]]
        raise DataError(
            f"{where}: no column is known to be the {missing[0]} text; {_found(columns)}; "
            f"accepted: {ACCEPTED_FORMS}; name another with --column {field}=NAME"
        )


def mapping_of(parts: Parts, kind: Kind) -> dict[str, str]:
    """Record field to column, where the two names differ."""
    names = {FIELDS[kind][part]: ", ".join(columns) for part, columns in parts.items() if part in FIELDS[kind]}
    return {field: column for field, column in names.items() if field != column}


def _columns_by_field(columns: Sequence[str]) -> dict[str, list[str]]:
    """The columns named after each record field; ``Text`` counts for ``text`` where there is no ``text``."""
    fields: dict[str, list[str]] = {}
    for column in columns:
        field = _FIELD_BY_NORMAL_NAME.get(normal_name(column))
        if field is not None and (field == column or field not in columns):
            fields.setdefault(field, []).append(column)
    return fields


def _text_fields(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The two text fields of the first kind whose fields are there, so that ``text`` and ``query`` do not compete."""
    kind = kind_of_fields(fields)
    if kind is not None:
        return REQUIRED_FIELDS[kind][:2]
    scored = REQUIRED_FIELDS[Kind.SCORED_PAIR][:2]
    return scored if all(field in fields for field in scored) else ()


def _candidates(
    part: Part, columns: Sequence[str], fields: Mapping[str, list[str]], preferred: Sequence[str]
) -> list[str]:
    of_part = [field for field in fields if PART_OF_FIELD[field] is part]
    of_part = [field for field in of_part if field in preferred] or of_part
    exact = [column for field in of_part for column in fields[field]]
    return exact or [column for column in columns if _known_part(column) is part]


def _known_part(column: str) -> Part | None:
    name = normal_name(column)
    if name in _PART_BY_NORMAL_NAME:
        return _PART_BY_NORMAL_NAME[name]
    return Part.NEGATIVE if _negative_family(name) else None


def _negative_family(name: str) -> str | None:
    """``negative`` for ``negative``, ``negative1``, ``negative2``, …; ``None`` where it is no negative's name."""
    base = re.sub(r"\d+$", "", name)
    is_negative = _PART_BY_NORMAL_NAME.get(base) is Part.NEGATIVE or base in ("textneg", "neg")
    return base if is_negative else None


def _columns_of_part(part: Part, candidates: Sequence[str], where: str) -> tuple[str, ...]:
    if len(candidates) == 1:
        return tuple(candidates)
    if part is Part.NEGATIVE and len({_negative_family(normal_name(column)) for column in candidates}) == 1:
        return tuple(sorted(candidates, key=_number))
    field = next(parts[part] for parts in FIELDS.values() if part in parts)
    raise DataError(
        f"{where}: the columns {' and '.join(map(repr, candidates))} could each be the {part}; "
        f"say which with --column {field}=NAME"
    )


def _number(column: str) -> int:
    match = re.search(r"(\d+)$", normal_name(column))
    return int(match.group(1)) if match else 0


def _found(columns: Sequence[str]) -> str:
    return f"columns found: {', '.join(columns) or 'none'}"
