"""Matrices in 8 bits a number, with one scale a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_int8(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """The rows of a matrix as whole numbers -127..127, and each row's scale."""
    scales = np.maximum(np.abs(values).max(axis=1), 1e-8) / 127
    scales = scales.astype(np.float16).astype(np.float32)
    scales[scales == 0] = 6e-8
    return np.clip(np.rint(values / scales[:, None]), -127, 127).astype(np.int8), scales.astype(np.float16)


def from_int8(values: NDArray[Any], scales: NDArray[Any]) -> NDArray[np.float32]:
    """The inverse of :func:`to_int8`, up to rounding."""
    product: NDArray[np.float32] = values.astype(np.float32) * scales.astype(np.float32)[:, None]
    return product
