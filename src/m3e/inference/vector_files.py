"""Blocks of vectors to one file: npy, safetensors or parquet, with one block in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from m3e.inference.encoder import Vectors

FORMATS = (".npy", ".parquet", ".safetensors")


def write_vectors(path: Path, ending: str, rows: int, dimension: int, blocks: Iterable[Vectors]) -> None:
    """Write fp32 vectors, one after the other.

    Args:
        path: of the new file.
        ending: ``.npy`` (an array of shape (rows, dimension)), ``.safetensors`` (the same as ``vectors``) or
            ``.parquet`` (a fixed-size list column ``vector``, one row group a block).
        rows: of all blocks together.

    Raises:
        OSError: the file cannot be written.
        ValueError: the blocks hold another number of rows.
    """
    if ending == ".parquet":
        _write_parquet(path, dimension, blocks)
        return
    header = _npy_header(rows, dimension) if ending == ".npy" else _safetensors_header(rows, dimension)
    with path.open("wb") as stream:
        stream.write(header)
        for block in blocks:
            stream.write(np.ascontiguousarray(block, dtype="<f4").data)
        if stream.tell() != len(header) + 4 * rows * dimension:
            raise ValueError(f"{path}: the vectors are not {rows} of {dimension} numbers")


def _npy_header(rows: int, dimension: int) -> bytes:
    import io

    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)}
    np.lib.format.write_array_header_1_0(header, shape)
    return header.getvalue()


def _safetensors_header(rows: int, dimension: int) -> bytes:
    facts = {"dtype": "F32", "shape": [rows, dimension], "data_offsets": [0, 4 * rows * dimension]}
    text = json.dumps({"vectors": facts}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_parquet(path: Path, dimension: int, blocks: Iterable[Vectors]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.list_(pa.float32(), dimension)
    plain = {"compression": "none", "use_dictionary": False}  # neither makes such numbers smaller
    with pq.ParquetWriter(path, pa.schema([("vector", kind)]), **plain) as writer:
        for block in blocks:
            column = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), type=kind)
            writer.write_table(pa.table({"vector": column}))
