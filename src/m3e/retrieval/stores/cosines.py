"""Cosines that do not depend on a database's arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from m3e.errors import DataError
from m3e.retrieval.stores.database import Row, Vector


def cosines(query: Vector, rows: Sequence[Row]) -> list[float]:
    """The cosine of a vector of length 1 with each row's; equal vectors give equal numbers, whatever their place."""
    if not rows:
        return []
    vectors = np.stack([row.vector for row in rows]).astype(np.float64)
    lengths = np.sqrt(np.square(vectors).sum(axis=1))
    products = (vectors * query.astype(np.float64)).sum(axis=1)
    return [float(value) for value in np.clip(products / lengths, -1, 1)]


def unit_vector(vector: Vector, dimension: int, what: str = "the query") -> Vector:
    """``vector`` scaled to length 1.

    Raises:
        DataError: another dimension, a number that is not finite, or all zeros; names ``what``.
    """
    if vector.shape != (dimension,):
        raise DataError(f"{what} has a vector of shape {vector.shape}; the store holds vectors of {dimension} numbers")
    wide = vector.astype(np.float64)
    length = float(np.sqrt(np.square(wide).sum()))
    if not np.isfinite(length):
        raise DataError(f"{what}: the model gives a vector with numbers that are not finite")
    if length == 0:
        raise DataError(f"{what}: the model gives the vector of zeros, which has no direction; it knows no word of it")
    unit: Vector = (wide / length).astype(np.float32)
    return unit
