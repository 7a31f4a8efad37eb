"""Chunks encoded by a Ray cluster, through the engine that prepares data."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from m3e.data.engine import start_engine, stream
from m3e.errors import ModelError, first_line
from m3e.inference.chunk_encoding import ChunkEncoder, EncoderPlan
from m3e.inference.chunk_store import ChunkStore, EncodedChunk
from m3e.inference.texts import Chunk

_LOCK = threading.Lock()


def encode_on_cluster(
    plan: EncoderPlan, engine: str, chunks: Iterable[Chunk], store: ChunkStore, dimension: int
) -> Iterator[EncodedChunk]:
    """The vectors of each chunk, in the order in which they are finished.

    Args:
        plan: of the model that each worker opens; a folder must lie under the same path there.
        engine: as for ``m3e data``.
        chunks: are written to the store's folder first, a file each.
        store: its folder must be seen by all workers under the same path.
        dimension: numbers a vector.

    Raises:
        ModelError: a worker cannot open the model, or has another.
        SettingsError: the cluster does not answer.
    """
    daft = start_engine(engine)
    folder = store.folder / "texts"
    shutil.rmtree(folder, ignore_errors=True)
    with store.named_errors():
        if not _write_texts(chunks, folder):
            return
    returned = daft.DataType.struct(
        {"vectors": daft.DataType.binary(), "cut": daft.DataType.int64(), "error": daft.DataType.string()}
    )

    def encoded(digests: Any, texts: Any) -> list[dict[str, Any]]:
        return [
            _encoded(plan, Chunk(list(part), digest))
            for digest, part in zip(digests.to_pylist(), texts.to_pylist(), strict=True)
        ]

    # in the worker's own process, so that all its chunks share one model
    gpus = 1 if (plan.device or "").startswith("cuda") else 0
    encode = daft.func.batch(return_dtype=returned, unnest=True, use_process=False, gpus=gpus)(encoded)
    col = daft.col
    path = re.sub(r"([\\\[\]{}*?])", r"\\\1", str(folder)) + "/*.parquet"  # which Daft would take for wildcards
    frame = daft.read_parquet(path).select(col("digest"), encode(col("digest"), col("texts")))
    for batch in stream(frame):
        for row in batch.to_pylist():
            if row["error"] is not None:
                raise ModelError(f"a worker of the cluster failed: {row['error']}; finished chunks are kept")
            vectors = np.frombuffer(row["vectors"], "<f4").reshape(-1, dimension)
            yield EncodedChunk(row["digest"], vectors, row["cut"])


def _write_texts(chunks: Iterable[Chunk], folder: Path) -> int:
    """A file for each chunk, so that an engine makes a task of each; how many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("digest", pa.string()), ("texts", pa.large_list(pa.large_string()))])
    folder.mkdir()
    count = 0
    for count, chunk in enumerate(chunks, start=1):
        table = pa.table({"digest": [chunk.digest], "texts": [chunk.texts]}, schema=schema)
        pq.write_table(table, folder / f"{count:08d}.parquet", compression="lz4", use_dictionary=False)
    return count


def _encoded(plan: EncoderPlan, chunk: Chunk) -> dict[str, Any]:
    try:
        with _LOCK:  # one at a time: PyTorch's threads are busy with one
            found = _encoder_of(plan).encode(chunk)
    except Exception as error:
        return {"vectors": b"", "cut": 0, "error": f"{type(error).__name__}: {first_line(error)}"}
    return {"vectors": found.vectors.astype("<f4").tobytes(), "cut": found.cut, "error": None}


@cache
def _encoder_of(plan: EncoderPlan) -> ChunkEncoder:
    return ChunkEncoder(plan)
