"""SQL text from the structured queries of TableQA (Zhuiyi-NL2SQL), whose rows hold numbers for all its words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m3e.data.tables import Row

AGGREGATES = ("", "AVG", "MAX", "MIN", "COUNT", "SUM")
OPERATORS = (">", "<", "==", "!=")
CONNECTORS = ("", "AND", "OR")
UNNAMED = "表"
"""What a table is called that has no title."""

_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)


@dataclass(frozen=True)
class Header:
    """What a query must know of its table: the names of its columns, and what it is called."""

    columns: tuple[str, ...]
    title: str = UNNAMED


def read_headers(rows: Iterable[Row]) -> dict[str, Header]:
    """The headers of tables by their ids, from rows ``{"id", "header": [...], "title"}``.

    Raises:
        ValueError: a row has no id, or no list of names.
    """
    headers = {}
    for row in rows:
        columns = row.get("header")
        if "id" not in row or not isinstance(columns, Sequence) or isinstance(columns, str):
            raise ValueError("a table needs an id and a header, a list of its columns' names")
        headers[str(row["id"])] = Header(tuple(map(str, columns)), str(row.get("title") or UNNAMED).strip())
    return headers


def sql_text(query: Mapping[str, Any], header: Header) -> str:
    """The query as SQL: ``SELECT AVG(列) FROM 表 WHERE 列 > 1 AND 列 == '值'``.

    Args:
        query: ``{"agg": [numbers], "sel": [columns], "cond_conn_op": number, "conds": [[column, operator, value]]}``;
            the numbers count from 0, in :data:`AGGREGATES`, the table's columns, :data:`CONNECTORS` and
            :data:`OPERATORS`.
        header: of the table that it asks.

    Raises:
        ValueError: a part is missing, or a number stands for nothing.
    """
    try:
        selected = [
            _aggregated(_at(AGGREGATES, aggregate, "aggregate"), _at(header.columns, column, "column"))
            for aggregate, column in zip(query["agg"], query["sel"], strict=True)
        ]
        conditions = [
            f"{_at(header.columns, column, 'column')} {_at(OPERATORS, operator, 'operator')} {_literal(value)}"
            for column, operator, value in query["conds"]
        ]
        connector = _at(CONNECTORS, query["cond_conn_op"], "connector")
    except (KeyError, TypeError) as error:
        raise ValueError(f"the query is no TableQA query: {error}") from error
    if not selected:
        raise ValueError("the query selects nothing")
    if len(conditions) > 1 and not connector:
        raise ValueError(f"the query has {len(conditions)} conditions and nothing between them")
    where = f" WHERE {f' {connector} '.join(conditions)}" if conditions else ""
    return f"SELECT {', '.join(selected)} FROM {header.title}{where}"


def _at(words: Sequence[str], number: Any, what: str) -> str:
    if not isinstance(number, int) or not 0 <= number < len(words):
        raise ValueError(f"there is no {what} {number!r} among {len(words)}")
    return words[number]


def _aggregated(aggregate: str, column: str) -> str:
    return f"{aggregate}({column})" if aggregate else column


def _literal(value: Any) -> str:
    """Numbers bare, though TableQA writes them as strings; all else quoted as SQL does."""
    text = str(value)
    return text if _NUMBER.fullmatch(text) else "'" + text.replace("'", "''") + "'"
