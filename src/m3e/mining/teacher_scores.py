"""A teacher's scores of queries with their positives and negatives, or as labels of scored pairs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from m3e import __version__
from m3e.errors import DataError, SettingsError
from m3e.files import hash_settings, read_json, read_marker, write_json, write_marker
from m3e.mining.embedding import Embedder, OnProgress, Side, cosines, mapped, open_embedder, write_vectors
from m3e.mining.options import EmbeddingOptions, ScoringOptions
from m3e.mining.output import DECIMALS, Entry, check_out, copy_set, staged_table, write_file, write_folder, write_set
from m3e.mining.provenance import ModelFacts
from m3e.mining.report import MiningReport, SetReport, spread
from m3e.mining.rows import Rows
from m3e.mining.source import CONTRASTIVE, check_kind, finished, open_source, staged, work_folder
from m3e.mining.teacher import CrossEncoderScorer, PairScorer, checked_scores
from m3e.records import Kind

STEP = "data score"
_PAIRS = "mining pairs"
PAIRS_AT_ONCE = 2048

Numbers = NDArray[np.int64]
Scores = NDArray[np.float32]


class Teacher(Protocol):
    """What scores pairs of a set's queries and passages.

    Attributes:
        facts: which model it is.
        settings: all that decides the scores, as a JSON object.
    """

    facts: ModelFacts
    settings: dict[str, Any]

    def score(self, rows: Rows, queries: Numbers, passages: Numbers, folder: Path, on_progress: OnProgress) -> Scores:
        """A score for each pair of numbers; what ``folder`` holds of the same is kept."""
        ...


class CosineTeacher:
    """A :class:`Teacher` that gives the cosine of a model's vectors."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.facts = embedder.facts
        self.settings: dict[str, Any] = {"cosine": embedder.settings}

    def score(self, rows: Rows, queries: Numbers, passages: Numbers, folder: Path, on_progress: OnProgress) -> Scores:
        """The cosine of each pair."""
        side: Side = "query" if rows.symmetric else "passage"
        first = write_vectors(rows.queries, self._embedder, "query", folder / "queries", on_progress)
        second = write_vectors(rows.passages, self._embedder, side, folder / "passages", on_progress)
        return cosines(mapped(first), mapped(second), queries, passages)


class PairTeacher:
    """A :class:`Teacher` that reads query and passage together, each different pair once."""

    def __init__(self, scorer: PairScorer) -> None:
        self._scorer = scorer
        self.facts: ModelFacts = getattr(scorer, "facts", ModelFacts("a function", "unknown"))
        self._known_settings = getattr(scorer, "settings", None)
        self.settings: dict[str, Any] = {"pairs": self._known_settings}

    def score(self, rows: Rows, queries: Numbers, passages: Numbers, folder: Path, on_progress: OnProgress) -> Scores:
        """The scorer's score of each pair."""
        width = np.int64(max(1, len(rows.passages)))
        pairs, inverse = np.unique(queries * width + passages, return_inverse=True)
        inputs = None if self._known_settings is None else hash_settings([rows.digest, self._known_settings])
        scores, done = _opened(folder / "pairs", len(pairs), inputs)
        for start in range(done, len(pairs), PAIRS_AT_ONCE):
            on_progress(start, len(pairs), "score pairs")
            part = pairs[start : start + PAIRS_AT_ONCE]
            texts = zip(rows.queries.take(part // width), rows.passages.take(part % width), strict=True)
            scores[start : start + len(part)] = checked_scores(self._scorer, list(texts))
            scores.flush()
            write_json(folder / "pairs" / "done.json", start + len(part))
        on_progress(len(pairs), len(pairs), "")
        return np.asarray(scores[inverse.reshape(-1)], np.float32)


def _opened(folder: Path, count: int, inputs: str | None) -> tuple[Any, int]:
    """The scores on disk, and how many of them are there already."""
    marker = read_marker(folder)
    if marker is None or marker["m3e"] != _PAIRS or inputs is None or marker.get("inputs") != inputs:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        scores = open_memmap(folder / "scores.npy", "w+", np.float32, (count,))
        write_json(folder / "done.json", 0)
        write_marker(folder, _PAIRS, inputs=inputs)
        return scores, 0
    return open_memmap(folder / "scores.npy", "r+"), int(read_json(folder / "done.json"))


def score(
    source: str | Path,
    out: str | Path,
    model: str | Path | None = None,
    options: ScoringOptions | None = None,
    embedding: EmbeddingOptions | None = None,
    *,
    reranker: str | PairScorer | None = None,
    columns: Mapping[str, str] | None = None,
    sets: Sequence[str] = (),
    symmetric: bool = False,
    work: Path | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
    on_progress: OnProgress = lambda done, total, note: None,
) -> MiningReport:
    """Write each row with a teacher's scores, and say what was done.

    Pairs, triplets and ranked rows become ranked rows with ``pos_scores`` and ``neg_scores``; with
    ``options.labels`` every row, a scored pair too, becomes a scored pair for each of its texts. Of a prepared
    folder, other sets are copied.

    Args:
        source: a file or folder of records, or a prepared folder.
        out: for a prepared folder a folder, which becomes one; else ``.jsonl`` or ``.parquet``.
        model: whose cosine is the score: a name, folder or hub id, or ``api:BASE_URL#model``.
        reranker: instead of ``model`` a ``CrossEncoder`` (folder or hub id), whose scores are those of its
            ``predict``, or a function of pairs.
        columns: see :func:`m3e.mining.hard_negatives.mine`, as for all that follow.

    Raises:
        DataError: a source that cannot be used.
        ModelError: a teacher that cannot be opened, or whose scores are no numbers.
        SettingsError: options that contradict each other.
        OutputExistsError: ``out`` holds something else.
    """
    options, embedding, out = options or ScoringOptions(), embedding or EmbeddingOptions(), Path(out)
    if (model is None) == (reranker is None):
        raise SettingsError("name one teacher: --model for cosines of its vectors, or --reranker for a cross encoder")
    kinds = (*CONTRASTIVE, Kind.SCORED_PAIR) if options.labels else CONTRASTIVE
    opened = open_source(Path(source), kinds, columns=columns, sets=sets, symmetric=symmetric)
    check_out(opened.path, out, prepared=opened.prepared, overwrite=overwrite, step=STEP)
    with work_folder(out, work) as folder:
        teacher = _teacher(model, reranker, embedding, folder, say)
        inputs = hash_settings([__version__, opened.inputs, teacher.settings, options.as_dict()])
        known = None if callable(reranker) and getattr(reranker, "settings", None) is None else inputs
        if opened.prepared and known and (marker := finished(out, STEP, known)) is not None:
            return MiningReport.of_dict(marker["report"], out)
        scored = {}
        for name, rows in staged(opened, folder).items():
            for line in [] if opened.prepared else [*rows.reading["notes"], *rows.reading["drops"]]:
                say(line)
            _check(rows, kinds)
            scored[name] = ScoredRows.by(teacher, rows, options, folder / rows.plan.folder, on_progress)
        copied = [entry["dataset"] for entry in opened.entries if entry["dataset"] not in scored]
        report = MiningReport(out, [item.report() for item in scored.values()], [teacher.facts], copied)
        if opened.manifest is None:
            only = next(iter(scored.values()))
            write_file(out, only.tables(), only.kind)
            return report

        def make(place: Path) -> list[Entry]:
            return [_entry(opened.path, place, entry, scored.get(entry["dataset"])) for entry in datasets]

        datasets = opened.manifest["datasets"]
        step = {"step": "score", "models": [teacher.facts.as_dict()], "options": options.as_dict()}
        write_folder(
            opened.path,
            out,
            opened.manifest,
            make,
            step=step,
            inputs=known,
            new_texts=False,
            report=report.as_dict,
        )
        return report


def _teacher(
    model: str | Path | None,
    reranker: str | PairScorer | None,
    embedding: EmbeddingOptions,
    folder: Path,
    say: Callable[[str], None],
) -> Teacher:
    if reranker is None:
        embedder = open_embedder(str(model), embedding, folder)
        say(embedder.description)
        return CosineTeacher(embedder)
    if not isinstance(reranker, str):
        return PairTeacher(reranker)
    return PairTeacher(CrossEncoderScorer(reranker, device=embedding.device, batch_tokens=embedding.batch_tokens))


def _check(rows: Rows, kinds: Sequence[str]) -> None:
    if rows.kind == Kind.SCORED_PAIR and Kind.SCORED_PAIR not in kinds:
        raise DataError(f"{rows.plan.name} holds scored pairs; --labels puts the teacher's scores in place of theirs")
    check_kind(rows, kinds)


def _entry(source: Path, folder: Path, entry: Entry, scored: ScoredRows | None) -> Entry:
    if scored is None:
        return copy_set(source, folder, entry)
    return write_set(folder, entry, scored.tables(), scored.kind)


class ScoredRows:
    """The rows of a set with a score for each of their positives and negatives.

    Attributes:
        kind: of the records that they become.
    """

    def __init__(self, rows: Rows, positive_scores: Scores, negative_scores: Scores, *, labels: bool) -> None:
        self.kind = Kind.SCORED_PAIR if labels else Kind.RANKED
        self._rows = rows
        self._positives = positive_scores
        self._negatives = negative_scores

    @classmethod
    def by(
        cls, teacher: Teacher, rows: Rows, options: ScoringOptions, folder: Path, on_progress: OnProgress
    ) -> ScoredRows:
        """The rows with a teacher's scores."""
        owners = [np.repeat(rows.query, lists.lengths) for lists in (rows.positives, rows.negatives)]
        passages = np.concatenate((rows.positives.values, rows.negatives.values))
        scores = teacher.score(rows, np.concatenate(owners), passages, folder, on_progress)
        first = len(owners[0])
        return cls(rows, scores[:first], scores[first:], labels=options.labels)

    def tables(self) -> Iterator[pa.Table]:
        """The rows, in order, some thousand at a time."""
        for start, table in self._rows.tables():
            yield self._labelled(table, start) if self.kind is Kind.SCORED_PAIR else self._scored(table, start)

    def report(self) -> SetReport:
        """What was done."""
        rows, dropped = self._rows, self._rows.reading["dropped"]
        pairs = len(self._positives) + len(self._negatives)
        written = pairs if self.kind is Kind.SCORED_PAIR else rows.count
        scores = {"positives": spread(self._positives), "negatives": spread(self._negatives)}
        return SetReport(
            rows.plan.name,
            self.kind,
            rows.count + sum(dropped.values()),
            written,
            dropped,
            len(rows.queries),
            len(rows.passages),
            scores={name: found for name, found in scores.items() if found["mean"] is not None},
        )

    def _of(self, start: int, stop: int) -> list[tuple[list[float], list[float]]]:
        """The scores of some rows' positives and negatives."""
        found = []
        for row in range(start, stop):
            parts = [
                scores[lists.span(row, row + 1)].astype(np.float64).round(DECIMALS).tolist()
                for scores, lists in ((self._positives, self._rows.positives), (self._negatives, self._rows.negatives))
            ]
            found.append((parts[0], parts[1]))
        return found

    def _scored(self, table: pa.Table, start: int) -> pa.Table:
        scores = self._of(start, start + table.num_rows)
        columns = {name: table[name].to_pylist() for name in ("row", "query", "positives", "negatives")}
        return staged_table(
            columns
            | {
                "positive_scores": [positives for positives, _ in scores],
                "negative_scores": [negatives for _, negatives in scores],
            }
        )

    def _labelled(self, table: pa.Table, start: int) -> pa.Table:
        out: dict[str, list[Any]] = {"query": [], "positives": [], "label": []}
        for row, (positives, negatives) in zip(table.to_pylist(), self._of(start, start + table.num_rows), strict=True):
            texts = [*row["positives"], *row["negatives"]]
            out["query"] += [row["query"]] * len(texts)
            out["positives"] += [[text] for text in texts]
            out["label"] += [*positives, *negatives]
        return staged_table(out)
