"""Hard negatives for a file of records or a prepared folder, and only positives that a model believes."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from m3e import __version__
from m3e.files import hash_file, hash_settings, read_json, write_json
from m3e.mining.assembly import MinedRows
from m3e.mining.embedding import Embedder, OnProgress, Side, mapped, open_embedder, write_vectors
from m3e.mining.known import Known, given_pairs
from m3e.mining.options import EmbeddingOptions, MiningOptions
from m3e.mining.output import Entry, check_out, copy_set, write_file, write_folder, write_set
from m3e.mining.passages import Corpus, Passages, read_corpus
from m3e.mining.provenance import ModelFacts
from m3e.mining.report import MiningReport, SetReport, spread
from m3e.mining.rows import Rows
from m3e.mining.search import Knowledge, mine_set
from m3e.mining.source import CONTRASTIVE, MiningSource, check_kind, finished, open_source, staged, work_folder
from m3e.mining.teacher import CrossEncoderScorer, PairScorer
from m3e.models.licences import strictest
from m3e.records import Kind
from m3e.retrieval.vector_folder import VectorFolder

STEP = "data mine"


def mine(
    source: str | Path,
    out: str | Path,
    model: str | Path,
    options: MiningOptions | None = None,
    embedding: EmbeddingOptions | None = None,
    *,
    corpus: str | Path | None = None,
    corpus_field: str | None = None,
    reranker: str | PairScorer | None = None,
    columns: Mapping[str, str] | None = None,
    sets: Sequence[str] = (),
    symmetric: bool = False,
    work: Path | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
    on_progress: OnProgress = lambda done, total, note: None,
) -> MiningReport:
    """Mine hard negatives for pairs, triplets and ranked rows, and write ranked rows; what was done, and how often.

    Passages of a set are its positives and negatives; a set's negatives come from its own passages and from
    ``corpus``. Never a negative is what is a positive of the same query in any set, the query itself, a query that
    shares a positive with it, nor what equals one of these by key.

    Args:
        source: a file or folder of records, or a prepared folder, whose sets of other kinds are copied.
        out: for a prepared folder a folder, which becomes one; else ``.jsonl`` or ``.parquet``.
        model: a name, folder or hub id, or ``api:BASE_URL#model``.
        corpus: a file of more passages, one a row.
        corpus_field: of the corpus that holds the text; by default ``text``, else the first text field.
        reranker: a ``CrossEncoder`` (folder or hub id) or a function of pairs; passages that it scores as high as
            the positive are no negatives.
        columns: record field to column, where a file's names are not known ones.
        sets: of a prepared folder, only these; others are copied.
        symmetric: both sides of a file's rows are alike, and get the query prompt; a prepared folder says so itself.
        work: folder of vectors and results, kept; by default one beside ``out``, removed at the end. A killed run
            goes on from it.
        overwrite: replace a file, or write beside files that are not ours.

    Raises:
        DataError: a source that cannot be used, or no row is left.
        ModelError: a model that cannot be opened, or a reranker whose scores are no numbers.
        SettingsError: options that contradict each other.
        OutputExistsError: ``out`` holds something else.
    """
    options, embedding, out = options or MiningOptions(), embedding or EmbeddingOptions(), Path(out)
    opened = open_source(Path(source), CONTRASTIVE, columns=columns, sets=sets, symmetric=symmetric)
    check_out(opened.path, out, prepared=opened.prepared, overwrite=overwrite, step=STEP)
    with work_folder(out, work) as folder:
        embedder = open_embedder(str(model), embedding, folder)
        say(embedder.description)
        scorer = _scorer(reranker, embedding) if isinstance(reranker, str) else reranker
        run = _Run(opened, folder, embedder, options, scorer, on_progress, say)
        corpus_path = Path(corpus) if corpus is not None else None
        inputs = run.inputs(corpus_path, corpus_field)
        if opened.prepared and inputs and (marker := finished(out, STEP, inputs)) is not None:
            return MiningReport.of_dict(marker["report"], out)
        run.prepare(read_corpus(corpus_path, folder / ".corpus", corpus_field) if corpus_path else None)
        return run.write_folder(out, inputs) if opened.prepared else run.write_file(out)


def _scorer(name: str, options: EmbeddingOptions) -> CrossEncoderScorer:
    return CrossEncoderScorer(name, device=options.device, batch_tokens=options.batch_tokens)


def plan_mining(
    source: str | Path,
    *,
    corpus: str | Path | None = None,
    corpus_field: str | None = None,
    columns: Mapping[str, str] | None = None,
    sets: Sequence[str] = (),
    symmetric: bool = False,
    options: MiningOptions | None = None,
) -> list[dict[str, Any]]:
    """For each set that :func:`mine` would work on: rows, different queries and passages, and pairs to compare.

    Nothing is encoded and nothing left behind.

    Raises:
        DataError: as :func:`mine`.
        SettingsError: as :func:`mine`.
    """
    options = options or MiningOptions()
    opened = open_source(Path(source), CONTRASTIVE, columns=columns, sets=sets, symmetric=symmetric)
    planned = []
    with tempfile.TemporaryDirectory() as folder:
        more = len(read_corpus(Path(corpus), Path(folder) / ".corpus", corpus_field).texts) if corpus else 0
        for name, rows in staged(opened, Path(folder)).items():
            passages = len(rows.passages) + more
            searched = min(passages, options.pool or passages)
            planned.append(
                {
                    "set": name,
                    "kind": rows.kind,
                    "rows": rows.count,
                    "queries": len(rows.queries),
                    "passages": passages,
                    "comparisons": len(rows.queries) * searched,
                }
            )
    return planned


class _Run:
    """One call of :func:`mine`: its sets, one after the other, into what is written."""

    def __init__(
        self,
        source: MiningSource,
        folder: Path,
        embedder: Embedder,
        options: MiningOptions,
        reranker: PairScorer | None,
        on_progress: OnProgress,
        say: Callable[[str], None],
    ) -> None:
        self._source = source
        self._folder = folder
        self._embedder = embedder
        self._options = options
        self._reranker = reranker
        self._on_progress = on_progress
        self._say = say
        self._corpus: Corpus | None = None
        self._corpus_vectors: dict[Side, VectorFolder] = {}
        self._reports: list[SetReport] = []

    def inputs(self, corpus: Path | None, field: str | None) -> str | None:
        """A hash of all that the output depends on; ``None`` where a reranker is a function, which has no hash."""
        settings = getattr(self._reranker, "settings", None)
        if self._reranker is not None and settings is None:
            return None
        before = [__version__, self._source.inputs, self._embedder.settings, self._options.as_dict(), settings]
        return hash_settings([*before, hash_file(corpus) if corpus is not None and corpus.is_file() else None, field])

    def prepare(self, corpus: Corpus | None) -> None:
        """Read all sets: what is known of one counts in all."""
        self._corpus = corpus
        if corpus is not None and corpus.blank:
            self._say(f"{corpus.name}: {corpus.blank} blank rows left out")
        self._rows = staged(self._source, self._folder)
        for rows in self._rows.values():
            for line in [] if self._source.prepared else [*rows.reading["notes"], *rows.reading["drops"]]:
                self._say(line)
            check_kind(rows, CONTRASTIVE)
        self._known = Known(list(self._rows.values()))

    def write_file(self, out: Path) -> MiningReport:
        """Mine the only set and write its records."""
        rows = next(iter(self._rows.values()))
        mined = self._mined_rows(rows)
        write_file(out, mined.tables(), self._kind(rows), many_negatives=_has_many(rows))
        self._note_set(rows, mined.counts)
        return self._report(out)

    def write_folder(self, out: Path, inputs: str | None) -> MiningReport:
        """Mine the sets and write a prepared folder."""
        source, manifest = self._source, self._source.manifest
        assert manifest is not None
        mined = {name: self._mined_rows(rows) for name, rows in self._rows.items()}

        def make(folder: Path) -> list[Entry]:
            return [self._entry(entry, folder, mined.get(entry["dataset"])) for entry in manifest["datasets"]]

        step = {
            "step": "mine",
            "models": [model.as_dict() for model in self._models()],
            "options": self._options.as_dict(),
            "corpus": self._corpus and {"name": self._corpus.name, "sha256": self._corpus.sha256},
        }
        changes = self._corpus is not None or self._options.consistency is not None or self._options.replace
        write_folder(
            source.path,
            out,
            manifest,
            make,
            step=step,
            inputs=inputs,
            new_texts=changes,
            report=lambda: self._report(out).as_dict(),
        )
        return self._report(out)

    def _entry(self, entry: Entry, folder: Path, mined: MinedRows | None) -> Entry:
        if mined is None:
            return copy_set(self._source.path, folder, entry)
        rows = self._rows[entry["dataset"]]
        written = write_set(folder, entry, mined.tables(), self._kind(rows), many_negatives=_has_many(rows))
        self._note_set(rows, mined.counts)
        dropped = Counter({"inconsistent": mined.counts["inconsistent_rows"], **rows.reading["dropped"]})
        written["dropped"] = dict(+(Counter(entry["dropped"]) + dropped))
        if self._corpus is not None and mined.counts["mined"]:
            # a file states no licence, so what is made with it is not known to be free
            written["commercial"] = strictest((entry.get("commercial", "unknown"), "unknown"))
            written["licence"] = f"{entry.get('licence', 'not stated')}; negatives of {self._corpus.name}: not stated"
        return written

    def _kind(self, rows: Rows) -> str:
        return Kind.RANKED if self._options.negatives else rows.kind

    def _mined_rows(self, rows: Rows) -> MinedRows:
        folder, options = self._folder / rows.plan.folder, self._options
        query_vectors = write_vectors(rows.queries, self._embedder, "query", folder / "queries", self._on_progress)
        side: Side = "query" if rows.symmetric else "passage"
        own = write_vectors(rows.passages, self._embedder, side, folder / "passages", self._on_progress)
        passages = Passages(
            rows.passages, own, self._corpus.texts if self._corpus else None, self._vectors_of_corpus(side)
        )
        if options.pool is not None:
            passages.limit(options.pool, options.seed, folder / "pool")
        settings = getattr(self._reranker, "settings", None)
        known = self._known.digest
        digests = [query_vectors.fingerprint, own.fingerprint, passages.digest, rows.digest, known]
        is_function = self._reranker is not None and settings is None
        mined = mine_set(
            rows,
            mapped(query_vectors),
            passages,
            Knowledge(self._known, given_pairs([rows])),
            options,
            folder / "found",
            None if is_function else hash_settings([digests, options.as_dict(), settings]),
            reranker=self._reranker,
            on_progress=self._on_progress,
        )
        facts = {
            "passages": passages.searched,
            "skipped": mined.skipped,
            "scores": {
                "positives": spread(mined.positive_scores[mined.consistent]),
                **({"negatives": spread(mined.scores)} if options.negatives else {}),
            },
        }
        write_json(folder / "found.json", facts)
        return MinedRows(rows, mined, mapped(query_vectors), passages, self._known, options)

    def _vectors_of_corpus(self, side: Side) -> VectorFolder | None:
        if self._corpus is None:
            return None
        if side not in self._corpus_vectors:
            folder = self._folder / f".corpus-{side}"
            self._corpus_vectors[side] = write_vectors(
                self._corpus.texts, self._embedder, side, folder, self._on_progress
            )
        return self._corpus_vectors[side]

    def _note_set(self, rows: Rows, counts: Counter[str]) -> None:
        facts = read_json(self._folder / rows.plan.folder / "found.json")
        dropped = dict(rows.reading["dropped"])
        if counts["inconsistent_rows"]:
            dropped["inconsistent"] = counts["inconsistent_rows"]
        asked = self._options.negatives
        names = ("mined", "given", "given_positives", "short", "none")
        self._reports.append(
            SetReport(
                name=rows.plan.name,
                kind=self._kind(rows),
                rows_in=rows.count + sum(rows.reading["dropped"].values()),
                rows_out=counts["rows"],
                dropped=dropped,
                queries=len(rows.queries),
                negatives={"asked": asked, **{name: counts[name] for name in names}} if asked else {},
                **facts,
            )
        )

    def _models(self) -> list[ModelFacts]:
        models = [self._embedder.facts]
        if self._reranker is not None:
            models.append(getattr(self._reranker, "facts", ModelFacts("a function", "unknown")))
        return models

    def _report(self, out: Path) -> MiningReport:
        worked = {report.name for report in self._reports}
        copied = [entry["dataset"] for entry in self._source.entries if entry["dataset"] not in worked]
        return MiningReport(out, list(self._reports), self._models(), copied)


def _has_many(rows: Rows) -> bool:
    return bool(rows.negatives.lengths.max(initial=0) > 1)
