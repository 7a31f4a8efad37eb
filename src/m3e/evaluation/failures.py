"""The queries that went worst, with what was wanted and what came back, for a reader to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

WORST = 20
RETURNED = 3
CHARACTERS = 200
SHOWN = 10
_COLUMNS = ("query_id", "query", "expected", "expected_rank", "returned")


def failure_columns(
    data: Mapping[str, Any],
    scores: Mapping[str, float],
    relevant: Mapping[str, Mapping[str, int]],
    ranked: Mapping[str, Mapping[str, float]],
) -> dict[str, Sequence[Any]]:
    """Columns beside the queries' scores, filled for the worst :data:`WORST` that are not perfect.

    ``query``, ``expected`` (the most relevant document), ``expected_rank`` (its place among all that came
    back, from 1; ``None`` below those) and ``returned`` (the first three documents), texts cut at 200
    characters.

    Args:
        data: mteb's ``corpus`` and ``queries`` with columns ``id`` and ``text``.
        scores: of each query, higher is better; its order is the rows'.
        relevant: query id to document id to grade.
        ranked: query id to document id to the model's score.
    """
    worst = sorted((query for query in scores if scores[query] < 1), key=lambda query: scores[query])[:WORST]
    if not worst:
        return {}
    orders = {query: _order(ranked.get(query, {})) for query in worst}
    wanted = {query: max(relevant[query], key=relevant[query].__getitem__) for query in worst}
    shown = {query: orders[query][:RETURNED] for query in worst}
    documents = _texts(data["corpus"], {*wanted.values(), *(item for found in shown.values() for item in found)})
    queries = _texts(data["queries"], set(worst))
    ranks = {query: _rank(orders[query], wanted[query]) for query in worst}
    kept = set(worst)

    def column(value: Any) -> list[Any]:
        return [value(query) if query in kept else None for query in scores]

    return {
        "query": column(lambda query: queries.get(query)),
        "expected": column(lambda query: documents.get(wanted[query])),
        "expected_rank": column(lambda query: ranks[query]),
        "returned": column(lambda query: [documents.get(item, "") for item in shown[query]]),
    }


def _order(found: Mapping[str, float]) -> list[str]:
    return sorted(found, key=found.__getitem__, reverse=True)


def _rank(order: Sequence[str], document: str) -> int | None:
    return order.index(document) + 1 if document in order else None


def _texts(table: Any, wanted: set[str]) -> dict[str, str]:
    """The texts of rows by id, a title before them, cut.

    Ids are looked up in Arrow: as Python strings those of two million passages would take a minute.
    """
    ids = table.select_columns(["id"]).with_format("arrow")[:]["id"]
    found = pc.is_in(ids, value_set=pa.array(sorted(wanted), ids.type))
    texts = {}
    for place in pc.indices_nonzero(found).to_pylist():
        row = table[place]
        item = row["id"]
        text = f"{row.get('title') or ''} {row['text']}".strip()
        texts[item] = text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"
    return texts


def read_failures(items: Path, metric: str) -> Iterator[dict[str, Any]]:
    """The queries that went worst, the worst first, from a task's items; none where those hold no texts.

    ``score`` stands beside ``query_id`` and the columns of :func:`failure_columns`.
    """
    try:
        columns = pq.read_table(items).to_pydict()
    except (OSError, pa.ArrowException):  # whoever reads the scores names it
        return
    metric = metric if metric in columns else "ndcg_at_10"
    if not all(name in columns for name in (*_COLUMNS, metric)):
        return
    places = [place for place, query in enumerate(columns["query"]) if query is not None]
    places.sort(key=lambda place: columns[metric][place])
    for place in places[:SHOWN]:
        yield {name: columns[name][place] for name in _COLUMNS} | {"score": columns[metric][place]}
