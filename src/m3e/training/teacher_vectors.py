"""A teacher's vectors made ready to be learnt: centred, and turned to the student's dimension.

Work goes through a file in blocks, so that it may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3e.errors import DataError, SettingsError
from m3e.evaluation.measures import unit
from m3e.files import atomic_file

BLOCK = 16_384
"""Vectors at a time."""


def write_targets(vectors: NDArray[Any], target: Path, *, dimension: int | None = None) -> float:
    """Write the teacher's vectors as a student is to learn them, ``target`` in fp16; the share of them that is kept.

    Their mean is taken off and they are scaled to length 1 again: many models' vectors share one large direction, which
    says nothing about a text and would fill most of a student's cosines. With ``dimension`` they are then given by
    their principal components, largest first, so that the first d numbers are the best d for any d; and scaled again.

    Args:
        vectors: of shape (texts, numbers), such as ``np.load(…, mmap_mode="r")`` gives.
        target: a ``.npy`` file.
        dimension: the student's; ``None`` leaves the numbers as they are.

    Returns:
        The mean squared length of what the components keep of a centred vector, 0..1; 1 without ``dimension``.

    Raises:
        SettingsError: the teacher has fewer numbers than ``dimension``.
        DataError: a vector holds something that is no finite number.
    """
    width = int(vectors.shape[1])
    if dimension is not None and dimension > width:
        raise SettingsError(f"the teacher's vectors have {width} numbers and cannot be mapped to {dimension}")
    mean = _mean(vectors)
    turn, kept = (None, 1.0) if dimension is None else _components(vectors, mean, dimension)
    with atomic_file(target) as temporary, temporary.open("wb") as stream:
        shape = (len(vectors), dimension or width)
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for block in _blocks(vectors):
            centred = unit(block - mean)
            stream.write((centred if turn is None else unit(centred @ turn)).astype("<f2").tobytes())
    return kept


def _mean(vectors: NDArray[Any]) -> NDArray[np.float64]:
    total = np.zeros(vectors.shape[1])
    start = 0
    for block in _blocks(vectors):
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            raise DataError(
                f"the teacher's vector {start + int(np.argmin(finite))} is no vector: not all its numbers are"
            )
        total += block.sum(axis=0)
        start += len(block)
    return total / max(1, len(vectors))


def _components(vectors: NDArray[Any], mean: NDArray[np.float64], dimension: int) -> tuple[NDArray[np.float64], float]:
    """The principal directions of the centred vectors, (numbers, dimension), and the share of them that they keep."""
    moment = np.zeros((vectors.shape[1], vectors.shape[1]))
    for block in _blocks(vectors):
        centred = unit(block - mean)
        moment += centred.T @ centred
    values, directions = np.linalg.eigh(moment)
    chosen = directions[:, ::-1][:, :dimension]
    # either sign is a principal direction: the same one on every machine
    largest = np.take_along_axis(chosen, np.abs(chosen).argmax(axis=0)[None], axis=0)
    return chosen * np.sign(largest), float(values[::-1][:dimension].sum() / max(values.sum(), 1e-12))


def _blocks(vectors: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(vectors), BLOCK):
        yield np.asarray(vectors[start : start + BLOCK], np.float64)
