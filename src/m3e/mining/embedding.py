"""Texts to vectors of length 1 on disk, resumable, by any encoder; and cosines of pairs from there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from m3e.errors import M3EError, SettingsError
from m3e.files import hash_settings, read_json, write_json
from m3e.inference.api import ApiEncoder
from m3e.inference.chunk_encoding import ChunkEncoder, EncoderPlan
from m3e.inference.encoder import Encoder, Vectors
from m3e.mining.options import EmbeddingOptions
from m3e.mining.provenance import ModelFacts, facts_of_model
from m3e.mining.texts import TextFile
from m3e.retrieval.vector_folder import RAW, VectorFolder, VectorWriter, open_vectors

Side = Literal["query", "passage"]
OnProgress = Callable[[int, int, str], None]
"""Called with what is done, of how much, and what of."""

TEXTS_AT_ONCE = 4096
_PAIRS_AT_ONCE = 16_384


class Embedder(Protocol):
    """What makes vectors of queries and passages.

    Attributes:
        facts: which model it is.
        settings: all that decides the vectors' bytes beside the texts, as a JSON object.
        description: one line.
        dimension: numbers a vector.
    """

    facts: ModelFacts
    settings: dict[str, Any]
    description: str
    dimension: int

    def encode(self, texts: Sequence[str], side: Side) -> Vectors:
        """Vectors of shape (texts, dimension), fp32."""
        ...


class ModelEmbedder:
    """An :class:`Embedder` of a model by name, folder or hub id, or behind an endpoint.

    Raises:
        ModelError: the model cannot be opened.
    """

    def __init__(self, plan: EncoderPlan, options: EmbeddingOptions) -> None:
        opened = ChunkEncoder(plan)
        self._encoder: Encoder | ApiEncoder = opened.encoder
        self._prompts = {"query": options.query_prompt, "passage": options.passage_prompt}
        self.settings: dict[str, Any] = {**opened.settings, "prompts": self._prompts}
        if isinstance(self._encoder, ApiEncoder):
            self.facts = ModelFacts(self._encoder.name, self._encoder.revision)
        else:
            self.facts = facts_of_model(plan.model, opened.settings["model"])
        self.description = opened.description
        self.dimension = opened.dimension

    def encode(self, texts: Sequence[str], side: Side) -> Vectors:
        """Vectors of shape (texts, dimension), fp32, with the side's prompt."""
        prompt = self._prompts[side]
        if prompt is not None:
            return self._encoder.encode(texts, prompt=prompt)
        return self._encoder.encode_query(texts) if side == "query" else self._encoder.encode_document(texts)


def open_embedder(model: str, options: EmbeddingOptions, work: Path) -> ModelEmbedder:
    """The embedder of a model, with the backend and dtype that an earlier run in ``work`` chose for the same.

    Raises:
        ModelError: the model cannot be opened.
        SettingsError: options that do not fit it.
    """
    plan = EncoderPlan(model, dtype=options.dtype, device=options.device, token_budget=options.batch_tokens)
    if plan.is_endpoint and options != EmbeddingOptions(options.query_prompt, options.passage_prompt):
        raise SettingsError(f"{model} runs on its server; --dtype, --device and --batch-tokens are for models here")
    path = work / "encoder.json"
    asked = {"model": model, **asdict(options)}
    before = read_json(path) if path.is_file() else None
    if before is not None and before["asked"] == asked and not plan.is_endpoint:
        try:
            # what was measured once is not measured again, lest half of the vectors be of another backend
            return ModelEmbedder(replace(plan.settled(before["settings"]), threads=None), options)
        except M3EError:  # another model by now
            pass
    embedder = ModelEmbedder(plan, options)
    write_json(path, {"asked": asked, "settings": embedder.settings})
    return embedder


def write_vectors(
    texts: TextFile,
    embedder: Embedder,
    side: Side,
    folder: Path,
    on_progress: OnProgress = lambda done, total, note: None,
) -> VectorFolder:
    """The vectors of all texts, each scaled to length 1, in ``folder``; what is there of the same is kept.

    Raises:
        SettingsError: the disk has too little room for them.
    """
    fingerprint = hash_settings([embedder.settings, side, texts.digest])
    writer = VectorWriter(folder, embedder.dimension, "fp32", fingerprint)
    total = len(texts)
    if not writer.finished:
        _check_space(folder, (total - writer.rows) * embedder.dimension * 4)
        for start in range(writer.rows, total, TEXTS_AT_ONCE):
            on_progress(start, total, f"encode {'queries' if side == 'query' else 'passages'}")
            writer.append(scaled(embedder.encode(texts.slice(start, start + TEXTS_AT_ONCE), side)))
        writer.finish()
    on_progress(total, total, "")
    return open_vectors(folder)


def scaled(vectors: Vectors) -> Vectors:
    """The vectors at length 1; a vector of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def mapped(folder: VectorFolder) -> NDArray[np.float32]:
    """The vectors of a folder of fp32, without reading them: shape (rows, dimension)."""
    if not folder.rows:
        return np.empty(folder.shape, np.float32)
    return np.memmap(folder.path / RAW, np.float32, "r", shape=folder.shape)


def cosines(
    queries: NDArray[np.float32],
    passages: NDArray[np.float32],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
) -> NDArray[np.float32]:
    """The cosine of each pair of rows ``queries[first[i]]`` and ``passages[second[i]]``, some thousand at a time."""
    scores = np.empty(len(first), np.float32)
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        scores[part] = np.einsum("ij,ij->i", queries[first[part]], passages[second[part]])
    return scores


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    if free < needed:
        raise SettingsError(
            f"{folder}: the vectors need {needed / 1e9:.2f} GB on its disk, and {free / 1e9:.2f} GB are free; "
            "free some, or choose another place with --work"
        )
