"""T2Ranking from its own files, by uniem's recipe, at any size, without its passages in memory.

Retrieval at N holds the passages numbered up to N, inclusive: 1W is 10,001. Every judgement of those is kept
with its grade, 0 to 3, and every query that has one of grade 1 or more. nDCG takes grades as gains; the other
metrics count grade 1 and more as relevant. T2Ranking's own rule, relevant from grade 2, gives the figures
under ``official/``. Reranking ranks each query's judged passages, those of grade 2 and more before the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from m3e.data.file_state import FileState
from m3e.errors import DataError
from m3e.evaluation import mteb_tasks
from m3e.evaluation.mteb_search import ArrayRun, score_run
from m3e.evaluation.planned import Plan, Planned
from m3e.evaluation.task_cards import TaskCard
from m3e.files import atomic_folder, cache_folder, hash_settings, read_marker, write_marker

CONFIGS = ("collection", "queries.dev", "qrels.dev")
FILES = tuple(f"{config}.tsv" for config in CONFIGS)
_COLUMNS = {"collection": ("pid", "text"), "queries.dev": ("qid", "text"), "qrels.dev": ("qid", "pid", "rel")}
_OFFICIAL_GRADE = 2
_OFFICIAL_CUTS = (1, 10, 50, 1000)
_ROWS = 10_000
_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])

Grades = dict[str, dict[str, int]]


def missing_files(folder: Path) -> list[str]:
    """The names of T2Ranking's files that are not in the folder."""
    return [name for name in FILES if not (folder / name).is_file()]


def add_task(made: Plan, card: TaskCard, folder: Path) -> str:
    """Add the card's task from T2Ranking's files; or say what is missing.

    Raises:
        DataError: a file is damaged, or holds no query that can be scored.
    """
    missing = missing_files(folder)
    if missing:
        return f"{', '.join(missing)} not in {folder}"
    add = _add_reranking if card.kind == "reranking" else _add_retrieval
    add(made, card, folder)
    return ""


def _add_retrieval(made: Plan, card: TaskCard, folder: Path) -> None:
    relevant = read_grades(folder / FILES[2], card.passages)
    relevant = {query: found for query, found in relevant.items() if max(found.values()) >= 1}
    queries = {query: text for query, text in _read_texts(folder / FILES[1]) if query in relevant}
    relevant = {query: relevant[query] for query in queries}
    if not queries:
        raise DataError(f"{card.name}: no query of {folder / FILES[1]} has a judgement of grade 1 or more")
    corpus, digest = _corpus(folder / FILES[0], up_to=card.passages)
    _check_documents(card.name, relevant, corpus)
    _hold(made, card, corpus, queries, relevant, None, digest)


def _add_reranking(made: Plan, card: TaskCard, folder: Path) -> None:
    grades = read_grades(folder / FILES[2], None)
    queries, merged = _merge_equal_queries(_read_texts(folder / FILES[1]), grades)
    relevant = {
        query: {passage: int(grade >= _OFFICIAL_GRADE) for passage, grade in found.items()}
        for query, found in merged.items()
    }
    relevant = {query: found for query, found in relevant.items() if len(set(found.values())) == 2}
    if not relevant:
        raise DataError(f"{card.name}: no query of {folder / FILES[1]} has passages of both sides of grade 2")
    judged = {int(passage) for found in relevant.values() for passage in found}
    corpus, digest = _corpus(folder / FILES[0], judged=judged)
    _check_documents(card.name, relevant, corpus)
    candidates = {query: list(found) for query, found in relevant.items()}
    kept = {query: queries[query] for query in relevant}
    _hold(made, card, corpus, kept, relevant, candidates, digest)


def _hold(
    made: Plan,
    card: TaskCard,
    corpus: Any,
    queries: Mapping[str, str],
    relevant: Grades,
    candidates: Mapping[str, list[str]] | None,
    digest: str,
) -> None:
    """Add the mteb task with its data."""
    from datasets import Dataset

    settings = [
        digest,
        sorted(queries.items()),
        sorted((query, sorted(found.items())) for query, found in relevant.items()),
    ]
    revision = f"local-{hash_settings(settings)[:16]}"
    base = None if card.kind == "reranking" else _official_class()
    task = mteb_tasks.own_task(card.name, card.kind, card.splits[0], revision, base=base)
    asked = Dataset.from_dict({"id": list(queries), "text": list(queries.values())})
    mteb_tasks.hold_retrieval(task, card.splits[0], corpus, asked, relevant, candidates)
    made.tasks.append(Planned(card.name, task, card.splits[0], True, revision, len(queries)))


def _official_class() -> type[Any]:
    """The retrieval class of mteb with T2Ranking's own figures beside its metrics."""
    from mteb.abstasks import AbsTaskRetrieval

    class T2Retrieval(AbsTaskRetrieval):
        reads_arrays = True

        def task_specific_scores(
            self, scores: Any, qrels: Grades, results: Mapping[str, Mapping[str, float]], **_: Any
        ) -> dict[str, float]:
            return official_scores(qrels, results)

    return T2Retrieval


def official_scores(grades: Grades, ranked: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """T2Ranking's own figures: grade 2 and 3 are relevant, alike, and queries without either do not count.

    ``official/mrr_at_10``, ``official/recall_at_50`` and ``_1000``, ``official/ndcg_at_10``, ``official/n``.
    Nothing where no query has a passage of grade 2.
    """
    from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores

    wanted = {
        query: {passage: 1 for passage, grade in found.items() if grade >= _OFFICIAL_GRADE}
        for query, found in grades.items()
    }
    wanted = {query: found for query, found in wanted.items() if found and query in ranked}
    if not wanted:
        return {}
    if isinstance(ranked, ArrayRun):
        found = score_run(ranked.only(wanted), wanted, _OFFICIAL_CUTS)
    else:
        found = calculate_retrieval_scores({query: ranked[query] for query in wanted}, wanted, list(_OFFICIAL_CUTS))
    return {
        "official/ndcg_at_10": found.ndcg["NDCG@10"],
        "official/mrr_at_10": found.mrr["MRR@10"],
        "official/recall_at_50": found.recall["Recall@50"],
        "official/recall_at_1000": found.recall["Recall@1000"],
        "official/n": float(len(wanted)),
    }


def read_grades(path: Path, up_to: int | None) -> Grades:
    """Query to passage to grade, of passages numbered up to ``up_to``, in the order of the file.

    Lines are ``qid pid rel``, or TREC's ``qid 0 pid rel``, separated by tabs, with or without a header.

    Raises:
        DataError: a line has another form; the message names it.
    """
    grades: Grades = {}
    for number, cells in _lines(path, 3, 4):
        try:
            query, passage, grade = int(cells[0]), int(cells[-2]), int(cells[-1])
        except ValueError:
            raise DataError(f"{path}, line {number}: {cells} is not qid, pid and rel") from None
        if up_to is None or passage <= up_to:
            grades.setdefault(str(query), {})[str(passage)] = grade
    return grades


def _read_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Number, as text, and text of each line."""
    for number, cells in _lines(path, 2, 2):
        if not cells[0].strip().isdecimal():
            raise DataError(
                f"{path}, line {number}: {cells[0]!r:.40} is no number; lines are a number, a tab and a text"
            )
        yield str(int(cells[0])), cells[1]


def _lines(path: Path, fewest: int, most: int) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells; a first line without a number in front is a header. Quotes are characters like others."""
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as stream:
            for number, line in enumerate(stream, start=1):
                cells = line.rstrip("\r\n").split("\t", most - 1)
                if number == 1 and not cells[0].strip().isdecimal():
                    continue
                if len(cells) < fewest:
                    raise DataError(f"{path}, line {number}: {len(cells)} cells, not {fewest}; tabs separate them")
                yield number, cells
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from error


def _merge_equal_queries(texts: Iterable[tuple[str, str]], grades: Grades) -> tuple[dict[str, str], Grades]:
    """Queries of one text are one query, as in uniem; where two grade a passage, the higher grade holds."""
    first: dict[str, str] = {}
    merged: Grades = {}
    for query, text in texts:
        if query not in grades:
            continue
        held = merged.setdefault(first.setdefault(text, query), {})
        for passage, grade in grades[query].items():
            held[passage] = max(grade, held.get(passage, grade))
    return {query: text for text, query in first.items()}, merged


def _corpus(path: Path, *, up_to: int | None = None, judged: set[int] | None = None) -> tuple[Any, str]:
    """A memory-mapped data set of passages (id, text) and a hash of its rows; written once into the cache.

    Args:
        path: the collection, by ascending pid.
        up_to: the last pid to keep; reading ends after it.
        judged: the pids to keep.
    """
    from datasets import Dataset

    state = FileState.of(path, str(path))
    wanted = hash_settings(sorted(judged)) if judged is not None else up_to
    key = hash_settings([str(path.resolve()), state.size, state.modified, wanted])[:16]
    folder = cache_folder() / "t2ranking" / key
    marker = read_marker(folder)
    if marker is None or not (folder / "corpus.arrow").is_file():
        with atomic_folder(folder) as temporary:
            digest, rows = _write_corpus(temporary / "corpus.arrow", _passages(path, up_to, judged))
            write_marker(temporary, "corpus", digest=digest, rows=rows)
        marker = read_marker(folder)
    assert marker is not None
    if not marker["rows"]:
        raise DataError(f"{path} holds no passage that is wanted")
    return Dataset.from_file(str(folder / "corpus.arrow")), str(marker["digest"])


def _passages(path: Path, up_to: int | None, judged: Container[int] | None) -> Iterator[tuple[str, str]]:
    for passage, text in _read_texts(path):
        if up_to is not None and int(passage) > up_to:
            return
        if judged is None or int(passage) in judged:
            yield passage, text


def _write_corpus(path: Path, rows: Iterable[tuple[str, str]]) -> tuple[str, int]:
    """Write passages to an Arrow stream, some thousand at a time; returns a hash of them and their number."""
    digest, count = hashlib.sha256(), 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, _SCHEMA) as writer:
        ids: list[str] = []
        texts: list[str] = []

        def flush() -> None:
            writer.write_batch(pa.record_batch([pa.array(ids, pa.string()), pa.array(texts, pa.string())], _SCHEMA))
            ids.clear()
            texts.clear()

        for passage, text in rows:
            digest.update(f"{passage}\t{text}\n".encode())
            ids.append(passage)
            texts.append(text)
            count += 1
            if len(ids) == _ROWS:
                flush()
        if ids:
            flush()
    return digest.hexdigest()[:16], count


def _check_documents(task: str, relevant: Grades, corpus: Any) -> None:
    """Refuse judgements of passages that are not there."""
    wanted = {passage for found in relevant.values() for passage in found}
    for rows in corpus.select_columns(["id"]).iter(batch_size=_ROWS):
        wanted.difference_update(rows["id"])
    if wanted:
        first = min(wanted, key=int)
        raise DataError(f"{task}: {len(wanted)} judged passages are not in the collection, the first is {first}")


def write_table(path: Path, config: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of a configuration of the hub's set as its file: a header, tabs, and spaces for line breaks.

    Raises:
        DataError: a row lacks a column.
    """
    columns = _COLUMNS[config]
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write("\t".join(columns) + "\n")
        for row in rows:
            if not row.keys() >= set(columns):
                raise DataError(f"T2Ranking's {config} has the columns {', '.join(row)}, not {', '.join(columns)}")
            stream.write("\t".join(_one_line(row[column]) for column in columns) + "\n")


def _one_line(value: Any) -> str:
    return str(value).replace("\t", " ").replace("\r", " ").replace("\n", " ")
