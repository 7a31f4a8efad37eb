"""Retrieval sets in parquet files: documents, queries and judgements, checked against each other.

``.corpus`` holds id, text and optionally title, ``.queries`` id and text, ``.qrels`` query_id, doc_id
and score; reranking adds ``.candidates`` with query_id and doc_id. Ids are compared as strings.
A single file of pairs, text and text_pos, is a retrieval set too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3e.data.keys import is_blank, text_keys
from m3e.errors import DataError
from m3e.evaluation.local_files import (
    QUESTION_AND_ANSWER,
    as_number,
    as_text,
    is_hole,
    read_columns,
    read_schema,
)


@dataclass(frozen=True)
class Collection:
    """Documents, queries that have at least one relevant document, and the judgements.

    Attributes:
        corpus: id to (title, text), empty documents left out.
        relevant: query id to document id to grade.
        candidates: query id to the document ids to rank, for reranking.
        unjudged: ids of queries that were left out.
        empty: ids of documents that were left out.
        dropped: rows of a pair file that lacked a text.
    """

    corpus: dict[str, tuple[str, str]]
    queries: dict[str, str]
    relevant: dict[str, dict[str, int]]
    candidates: dict[str, list[str]] | None
    unjudged: list[str]
    empty: list[str]
    dropped: int = 0


def read_collection(task: str, files: Mapping[str, Path]) -> Collection:
    """A retrieval set, checked: every judgement points at a document and a query that exist.

    Queries without a relevant document and documents without text are left out and listed.

    Raises:
        DataError: names the task, the first id at fault and how many there are.
    """
    corpus = _read_documents(task, files["corpus"])
    queries = _read_queries(task, files["queries"])
    relevant = _read_judgements(task, files["qrels"])
    _check_known(task, "judgements", "queries", [query for query, _ in relevant], queries)
    _check_known(task, "judgements", "documents", [document for _, document in relevant], corpus)
    grades: dict[str, dict[str, int]] = {}
    for (query, document), grade in relevant.items():
        grades.setdefault(query, {})[document] = grade
    judged = {query: found for query, found in grades.items() if max(found.values()) > 0}
    if not judged:
        raise DataError(f"{task}: no query has a relevant document in {files['qrels']}")
    candidates = None
    if "candidates" in files:
        candidates = _read_candidates(task, files["candidates"], corpus, queries, judged)
    empty = [document for document, (title, text) in corpus.items() if is_blank(title + text)]
    ranked = {document: content for document, content in corpus.items() if document not in set(empty)}
    if not ranked:
        raise DataError(f"{task}: every document in {files['corpus']} is empty")
    if candidates is not None:
        candidates = {query: [item for item in found if item in ranked] for query, found in candidates.items()}
    return Collection(
        corpus=ranked,
        queries={query: text for query, text in queries.items() if query in judged},
        relevant=judged,
        candidates=candidates,
        unjudged=[query for query in queries if query not in judged],
        empty=empty,
    )


def read_pair_collection(task: str, path: Path, *, reverse: bool = False) -> Collection:
    """A file of pairs as a retrieval set: each ``text`` is a query, its ``text_pos`` the document it wants.

    Texts with one key (:func:`m3e.data.keys.text_key`) are one query or one document, the first of them, and
    have the judgements of all. Ids are ``q`` or ``d`` and the row of the first, from 0. Every ``text_neg`` is
    a document too, one that nobody wants where it is nobody's positive (``n`` and its row).

    Args:
        task: for messages.
        path: a parquet file with columns text, text_pos and optionally text_neg.
        reverse: ``text_pos`` is the query, ``text`` the document.

    Raises:
        DataError: a column is missing or no row is complete.
    """
    negatives = [] if reverse else [name for name in ("text_neg",) if name in read_schema(path).names]
    columns = read_columns(path, (*QUESTION_AND_ANSWER, *negatives))
    asked, wanted = (columns[name] for name in (reversed(QUESTION_AND_ANSWER) if reverse else QUESTION_AND_ANSWER))
    rows = [row for row in range(len(asked)) if _is_text(asked[row]) and _is_text(wanted[row])]
    if not rows:
        raise DataError(f"{task}: {path} has no row with a text and a text_pos")
    queries, query_ids = _merge("q", rows, asked)
    documents, document_ids = _merge("d", rows, wanted)
    relevant: dict[str, dict[str, int]] = {}
    for query, document in zip(query_ids, document_ids, strict=True):
        relevant.setdefault(query, {})[document] = 1
    for name in negatives:
        others = [row for row in range(len(asked)) if _is_text(columns[name][row])]
        known = set(text_keys(list(documents.values())))
        unwanted, _ = _merge("n", others, columns[name])
        keys = text_keys(list(unwanted.values()))
        documents |= {item: unwanted[item] for item, key in zip(unwanted, keys, strict=True) if key not in known}
    corpus = {document: ("", text) for document, text in documents.items()}
    return Collection(corpus, queries, relevant, None, [], [], len(asked) - len(rows))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not is_blank(value)


def _merge(letter: str, rows: Sequence[int], texts: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Id to text of the different ones of some rows, and each row's id."""
    first: dict[str, str] = {}
    found: dict[str, str] = {}
    ids = []
    for row, key in zip(rows, text_keys([texts[row] for row in rows]), strict=True):
        item = first.setdefault(key, f"{letter}{row}")
        found.setdefault(item, texts[row])
        ids.append(item)
    return found, ids


def _read_documents(task: str, path: Path) -> dict[str, tuple[str, str]]:
    names = read_schema(path).names
    columns = read_columns(path, ("id", "text", "title") if "title" in names else ("id", "text"))
    ids = _ids(task, path, "id", columns["id"])
    _check_unique(task, path, ids)
    titles = columns.get("title", [None] * len(ids))
    return {
        document: (str(title or ""), str(text or ""))
        for document, title, text in zip(ids, titles, columns["text"], strict=True)
    }


def _read_queries(task: str, path: Path) -> dict[str, str]:
    columns = read_columns(path, ("id", "text"))
    ids = _ids(task, path, "id", columns["id"])
    _check_unique(task, path, ids)
    holes = [query for query, text in zip(ids, columns["text"], strict=True) if not isinstance(text, str)]
    if holes:
        raise DataError(f"{task}: {len(holes)} queries in {path} have no text, the first is {holes[0]}")
    return dict(zip(ids, columns["text"], strict=True))


def _read_judgements(task: str, path: Path) -> dict[tuple[str, str], int]:
    columns = read_columns(path, ("query_id", "doc_id", "score"))
    queries = _ids(task, path, "query_id", columns["query_id"])
    documents = _ids(task, path, "doc_id", columns["doc_id"])
    grades: dict[tuple[str, str], int] = {}
    for query, document, score in zip(queries, documents, columns["score"], strict=True):
        grade = as_number(score)
        if grade is None or grade != int(grade):
            raise DataError(f"{task}: {path} gives {document} the score {score!r} for {query}; grades are 0, 1, 2, …")
        if grades.setdefault((query, document), int(grade)) != int(grade):
            raise DataError(f"{task}: {path} gives {document} two different scores for {query}")
    return grades


def _read_candidates(
    task: str, path: Path, corpus: Mapping[str, Any], queries: Mapping[str, str], judged: Mapping[str, Any]
) -> dict[str, list[str]]:
    columns = read_columns(path, ("query_id", "doc_id"))
    query_ids = _ids(task, path, "query_id", columns["query_id"])
    documents = _ids(task, path, "doc_id", columns["doc_id"])
    _check_known(task, "candidates", "queries", query_ids, queries)
    _check_known(task, "candidates", "documents", documents, corpus)
    found: dict[str, dict[str, None]] = {}
    for query, document in zip(query_ids, documents, strict=True):
        found.setdefault(query, {})[document] = None
    without = [query for query in judged if query not in found]
    if without:
        raise DataError(f"{task}: {len(without)} queries have no candidates in {path}, the first is {without[0]}")
    return {query: list(found[query]) for query in judged}


def _check_known(task: str, what: str, whose: str, ids: Sequence[str], known: Mapping[str, Any]) -> None:
    lost = [item for item in ids if item not in known]
    if lost:
        raise DataError(
            f"{task}: {len(lost)} {what} point at {whose} that are not there, the first is {lost[0]}; "
            f"add the missing {whose} or remove those {what}"
        )


def _check_unique(task: str, path: Path, ids: Sequence[str]) -> None:
    twice = [item for item, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{task}: {len(twice)} ids stand more than once in {path}, the first is {twice[0]}")


def _ids(task: str, path: Path, column: str, values: Sequence[Any]) -> list[str]:
    holes = [index for index, value in enumerate(values) if is_hole(value)]
    if holes:
        raise DataError(f"{task}: {len(holes)} rows of {path} have no {column}, the first is row {holes[0] + 1}")
    return [as_text(value) for value in values]
