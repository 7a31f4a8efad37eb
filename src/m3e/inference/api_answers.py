"""Reading a server's answer with suspicion: every text gets its own vector, or the reason why it has none."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from m3e.errors import ModelError

Vector = np.ndarray[Any, np.dtype[np.float32]]


class UnclearAnswerError(ModelError):
    """Two vectors for one text: any of the vectors may be another text's; ``index`` is that text's."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


@dataclass(frozen=True)
class Reading:
    """An answer that was read.

    Attributes:
        vectors: one a text, in the order of the texts; a string says what is wrong with it.
        tokens: what the server counted, 0 where it does not say.
    """

    vectors: list[Vector | str]
    tokens: int


def read_answer(answer: Any, count: int, dimension: int | None) -> Reading:
    """The vectors of ``count`` texts in an answer, put in order by their ``index``.

    Args:
        answer: parsed JSON.
        count: texts that were sent.
        dimension: what every vector must have; ``None`` for whatever most of them have.

    Raises:
        UnclearAnswerError: two vectors have one index.
        ModelError: it is no answer to an embeddings request.
    """
    rows = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ModelError(f"the answer holds no list of vectors under 'data': {answer!r:.120}")
    indices = [row.get("index") for row in rows]
    odd = [index for index in indices if type(index) is not int or not 0 <= index < count]
    if odd:
        raise ModelError(f"the answer gives a vector the index {odd[0]!r}; the {count} texts have 0 to {count - 1}")
    found: dict[int, Any] = {row["index"]: row.get("embedding") for row in rows}
    if len(found) < len(rows):
        twice = next(index for index, times in Counter(indices).items() if times > 1)
        raise UnclearAnswerError(f"{indices.count(twice)} vectors came back", twice)
    vectors = [_vector(found[index]) if index in found else "no vector came back" for index in range(count)]
    sizes = Counter(len(vector) for vector in vectors if not isinstance(vector, str))
    size = dimension or (sizes.most_common(1)[0][0] if sizes else 0)
    return Reading([_checked(vector, size) for vector in vectors], _tokens(answer))


def _vector(value: Any) -> Vector | str:
    """A vector sent as numbers or as base64 of little-endian fp32."""
    if isinstance(value, str):
        try:
            raw = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return "its vector is not base64"
        return np.frombuffer(raw, "<f4") if len(raw) % 4 == 0 else "its vector is cut off"
    try:
        vector = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        return "its vector is not a list of numbers"
    return vector if vector.ndim == 1 else "its vector is not a list of numbers"


def _checked(vector: Vector | str, size: int) -> Vector | str:
    if isinstance(vector, str):
        return vector
    if len(vector) != size or not size:
        return f"its vector has {len(vector)} numbers instead of {size}"
    return vector if np.isfinite(vector).all() else "its vector holds a number that is not finite"


def _tokens(answer: dict[str, Any]) -> int:
    usage = answer.get("usage")
    value = usage.get("total_tokens", usage.get("prompt_tokens")) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value > 0 else 0
