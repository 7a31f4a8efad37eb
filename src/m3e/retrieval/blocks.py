"""The corpus block by block, from an array or from disk, where a thread reads the next block meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from queue import Queue
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.errors import DataError
from m3e.retrieval.vector_folder import RAW, VectorFolder, read_into, torch_dtype

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, np.dtype[Any]]

BF16_HALF_STEP = 2.0**-8
"""The greatest relative change when a number is rounded to bf16."""


@dataclass(frozen=True)
class Block:
    """Some rows of the corpus; valid until the next block is asked for.

    Attributes:
        start: the number of the first row.
        vectors: shape (rows, dimension), fp32, fp16 or bf16.
        longest: no row is longer.
        rounding: no row changes more when it is rounded to bf16.
    """

    start: int
    vectors: torch.Tensor
    longest: float
    rounding: float


def blocks(corpus: Array | VectorFolder, rows: int, first: int = 0) -> Generator[Block, None, None]:
    """The corpus from row ``first`` on, ``rows`` at a time; close it where not all is read."""
    return _from_folder(corpus, rows, first) if isinstance(corpus, VectorFolder) else _from_array(corpus, rows, first)


def _from_array(corpus: Array, rows: int, first: int) -> Generator[Block, None, None]:
    import torch

    for start in range(first, len(corpus), rows):
        part = np.ascontiguousarray(corpus[start : start + rows])
        if part.dtype not in (np.float32, np.float16):
            part = part.astype(np.float32)
        vectors = torch.from_numpy(part if part.flags.writeable else part.copy())
        lengths = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float32)
        longest = float(lengths.max())
        if not np.isfinite(longest):
            bad = start + int((~torch.isfinite(lengths)).nonzero()[0])
            raise DataError(f"vector {bad} of the corpus is not finite; encode it again")
        yield Block(start, vectors, longest, BF16_HALF_STEP * longest)


def _from_folder(folder: VectorFolder, rows: int, first: int) -> Generator[Block, None, None]:
    """Two buffers take turns: one is read into while the other is worked on."""
    import torch

    empty: Queue[torch.Tensor | None] = Queue()
    full: Queue[tuple[int, torch.Tensor, int] | BaseException | None] = Queue()
    for _ in range(2):
        empty.put(torch.empty((min(rows, folder.rows), folder.dimension), dtype=torch_dtype(folder.dtype)))

    def read() -> None:
        try:
            with (folder.path / RAW).open("rb", buffering=0) as stream:
                stream.seek(first * folder.row_bytes)
                for start in range(first, folder.rows, rows):
                    buffer = empty.get()
                    if buffer is None:
                        return
                    count = min(rows, folder.rows - start)
                    read_into(stream, buffer[:count])
                    full.put((start, buffer, count))
            full.put(None)
        except BaseException as error:  # whatever it is, the consumer must not wait forever
            full.put(error)

    reader = threading.Thread(target=read, name="m3e-read-ahead", daemon=True)
    reader.start()
    try:
        while (item := full.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            start, buffer, count = item
            yield Block(start, buffer[:count], folder.longest, folder.rounding)
            empty.put(buffer)
    finally:
        empty.put(None)
        reader.join()
