"""Answers of ``/v1/embeddings``: vectors as JSON, quickly."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from m3e.inference.encoder import Vectors


def embeddings_body(vectors: Vectors, *, model: str, tokens: int, as_base64: bool) -> bytes:
    """The JSON of an answer.

    Floats have nine digits, which is what a float32 needs to come back bit for bit, and a third of the time that
    ``json.dumps`` takes; base64 holds the same numbers as little-endian float32.

    Args:
        vectors: shape (texts, dimension), all finite.
        model: the id that the client asked for.
        tokens: of all texts together.
        as_base64: as the official clients ask for it.
    """
    items = _base64_items(vectors) if as_base64 else _float_items(vectors)
    data = ",".join(f'{{"object":"embedding","index":{index},"embedding":{item}}}' for index, item in enumerate(items))
    name = json.dumps(model, ensure_ascii=False)
    usage = f'{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}'
    return f'{{"object":"list","data":[{data}],"model":{name},"usage":{usage}}}'.encode()


def shorten(vectors: Vectors, dimensions: int) -> Vectors:
    """The first numbers of each vector, scaled to length 1 again."""
    first = vectors[:, :dimensions]
    lengths = np.linalg.norm(first, axis=1, keepdims=True)
    return np.asarray(first / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def _float_items(vectors: Vectors) -> Any:
    form = "[" + ",".join(["%.9g"] * vectors.shape[1]) + "]"
    return (form % tuple(row) for row in vectors.tolist())


def _base64_items(vectors: Vectors) -> Any:
    exact = np.ascontiguousarray(vectors, dtype="<f4")
    return (f'"{base64.b64encode(row).decode("ascii")}"' for row in exact)
