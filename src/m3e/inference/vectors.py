"""Texts of a file to a file of vectors: one row a text, in order, in memory that does not grow with the file.

The texts are read and checked once, and cut into chunks; finished chunks lie in a folder beside the output
until all are there. A killed run goes on from them, with the backend and dtype that it had begun with.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from m3e.data.engine import start_engine
from m3e.errors import DataError, M3EError, SettingsError
from m3e.files import atomic_file
from m3e.inference.chunk_encoding import ChunkEncoder, EncoderPlan
from m3e.inference.chunk_store import ChunkStore, EncodedChunk
from m3e.inference.cluster import encode_on_cluster
from m3e.inference.encode_options import EncodeOptions, EncodeReport
from m3e.inference.encoder import Vectors
from m3e.inference.texts import Bounds, Chunk, Texts, open_texts
from m3e.inference.vector_files import FORMATS, write_vectors
from m3e.inference.workers import encode_in_processes


def encode_file(
    model: str | os.PathLike[str],
    source: Path,
    out: Path,
    options: EncodeOptions | None = None,
    *,
    on_rows: Callable[[int, int], None] = lambda done, total: None,
    on_line: Callable[[str], None] = lambda line: None,
) -> EncodeReport:
    """Write one fp32 vector a row of ``source`` to ``out``.

    Args:
        model: a name, folder or hub id, or ``api:BASE_URL#model``.
        source: jsonl, json, csv, tsv, parquet, or txt (one text a line).
        out: ``.npy`` (rows, dimension), ``.parquet`` (a list column ``vector``) or ``.safetensors`` (``vectors``).
        on_rows: called with rows done and rows in all.
        on_line: called with each line worth printing before the end.

    Raises:
        DataError: the file cannot be read, has no such field, or holds a row without text there.
        SettingsError: an option that does not exist or does not fit, or an output that cannot be written.
        ModelError: the model cannot be loaded, or a worker process failed.
    """
    options = options or EncodeOptions()
    plan = options.plan(os.fspath(model))
    _check_out(out, source)
    if options.engine is not None:
        start_engine(options.engine)
    store = ChunkStore(out)
    with store.named_errors():
        out.parent.mkdir(parents=True, exist_ok=True)
    with store.locked(), _kept_threads(plan):
        texts = open_texts(source, options.field)
        for note in texts.table.notes:
            on_line(note)
        run = _begin(store, plan, on_line)
        on_line(run.description)
        outline = _outline(texts, run.bounds)
        finished = {digest for digest in outline.sizes if store.get(digest) is not None}
        kept = done = sum(outline.sizes[digest] for digest in finished)
        if kept:
            on_line(f"{kept} of {outline.rows} vectors of an earlier run were kept")
        _check_space(store, outline.rows, run.dimension)
        on_rows(done, outline.rows)
        with contextlib.closing(_encoded(run, options, _todo(texts, run.bounds, outline, finished), store)) as chunks:
            for chunk in chunks:
                store.put(chunk)
                done += outline.sizes[chunk.digest]
                on_rows(done, outline.rows)
        cut = _assemble(store, outline, run.dimension)
        store.remove()
    return EncodeReport(
        outline.rows, run.dimension, cut, outline.blank, texts.field, kept, run.description, run.settings, out
    )


@contextlib.contextmanager
def _kept_threads(plan: EncoderPlan) -> Iterator[None]:
    """Leave the process with as many threads as it had."""
    if plan.threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_out(out: Path, source: Path) -> None:
    if out.suffix not in FORMATS:
        raise SettingsError(f"--out {out}: the ending must be one of {', '.join(FORMATS)}")
    if out.is_dir():
        raise SettingsError(f"--out {out} is a folder; name a file in it")
    if out.exists() and source.exists() and out.samefile(source):
        raise SettingsError(f"--out {out} is the input; the vectors would take its place")


@dataclass
class _Run:
    """What this run, and one that goes on with it, must not change.

    Attributes:
        encoder: opened already, for a run in this process.
        plan: how others open the same.
    """

    encoder: ChunkEncoder | None
    plan: EncoderPlan
    bounds: Bounds
    dimension: int
    settings: dict[str, Any]
    description: str


def _begin(store: ChunkStore, asked: EncoderPlan, on_line: Callable[[str], None]) -> _Run:
    """Open the encoder, as an earlier run had it where that was asked for the same; else begin anew."""
    wanted = asdict(replace(asked, model="", threads=None, device=None))
    marker = store.marker()
    if marker is not None and marker.get("asked") == wanted:
        # what was measured once is not measured again, and as many threads as then compute now
        encoder = _reopened(asked.settled(marker["settings"]))
        if encoder is not None and encoder.settings == marker["settings"]:
            return _run(encoder, Bounds(**marker["bounds"]))
    encoder, bounds = ChunkEncoder(asked), Bounds()
    if encoder.lacks_prompt:
        on_line(f"the model has no {asked.prompt} prompt; texts are encoded as they are")
    if store.begin({"asked": wanted, "settings": encoder.settings, "bounds": asdict(bounds)}):
        on_line("chunks of an earlier run with another model or other settings were removed")
    return _run(encoder, bounds)


def _reopened(plan: EncoderPlan) -> ChunkEncoder | None:
    """The encoder of an earlier run, or ``None`` where this is another model or cannot be run that way any more."""
    try:
        return ChunkEncoder(plan)
    except M3EError:
        return None


def _run(encoder: ChunkEncoder, bounds: Bounds) -> _Run:
    plan = encoder.plan.settled(encoder.settings)
    return _Run(encoder, plan, bounds, encoder.dimension, encoder.settings, encoder.description)


@dataclass(frozen=True)
class _Outline:
    """What a first look through all texts tells.

    Attributes:
        digests: of each chunk, in order.
        sizes: rows of all chunks with this digest.
        rows: of all together.
        blank: rows that hold nothing but spaces.
    """

    digests: list[str]
    sizes: Counter[str]
    rows: int
    blank: int


def _outline(texts: Texts, bounds: Bounds) -> _Outline:
    digests: list[str] = []
    sizes: Counter[str] = Counter()
    blank = 0
    for chunk in texts.chunks(bounds):
        digests.append(chunk.digest)
        sizes[chunk.digest] += len(chunk.texts)
        blank += sum(not text or text.isspace() for text in chunk.texts)
    return _Outline(digests, sizes, sizes.total(), blank)


def _todo(texts: Texts, bounds: Bounds, outline: _Outline, finished: set[str]) -> Iterator[Chunk]:
    """The chunks that are not finished, each once."""
    seen = set(finished)
    number = 0
    for number, chunk in enumerate(texts.chunks(bounds), start=1):
        if number > len(outline.digests) or chunk.digest != outline.digests[number - 1]:
            raise _changed(texts)
        if chunk.digest not in seen:
            seen.add(chunk.digest)
            yield chunk
    if number != len(outline.digests):
        raise _changed(texts)


def _changed(texts: Texts) -> DataError:
    return DataError(f"{texts.table.name} changed while it was read; run the same command again when it is complete")


def _encoded(run: _Run, options: EncodeOptions, chunks: Iterator[Chunk], store: ChunkStore) -> Generator[EncodedChunk]:
    processes = options.processes
    if options.engine is None and processes == 1:
        assert run.encoder is not None
        yield from run.encoder.encode_all(chunks)
        return
    run.encoder = None  # each worker opens its own
    if options.engine is None:
        yield from encode_in_processes(run.plan, processes, options.devices, chunks)
    else:
        yield from encode_on_cluster(run.plan, options.engine, chunks, store, run.dimension)


def _check_space(store: ChunkStore, rows: int, dimension: int) -> None:
    """Refuse before the work what would end with a full disk after it: the chunks and the file are there together."""
    with store.named_errors():
        needed = 2 * 4 * rows * dimension - store.size()
        free = shutil.disk_usage(store.folder).free
    if free < needed:
        raise SettingsError(
            f"{store.out}: {rows} vectors of {dimension} numbers need {needed / 1e9:.2f} GB on its disk until they "
            f"are one file, and {free / 1e9:.2f} GB are free; free some, or choose another --out"
        )


def _assemble(store: ChunkStore, outline: _Outline, dimension: int) -> int:
    """Write the output from the chunks; how many texts were cut."""
    cut = 0

    def blocks() -> Iterator[Vectors]:
        nonlocal cut
        for digest in outline.digests:
            chunk = store.get(digest)
            if chunk is None:
                raise DataError(f"{store.folder}: a chunk is gone or damaged; run the same command again")
            cut += chunk.cut
            yield chunk.vectors

    with store.named_errors(), atomic_file(store.out) as temporary:
        write_vectors(temporary, store.out.suffix, outline.rows, dimension, blocks())
    return cut
