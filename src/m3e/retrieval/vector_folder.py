"""Vectors on disk: one raw file of rows, their ids, and a marker that says what they are.

A folder holds ``vectors.bin`` (rows × dimension numbers in fp32, fp16 or bf16, nothing else), ``ids.parquet`` and
the marker ``m3e.json`` with rows, dimension, dtype and the fingerprint of what made them. A folder that was not
finished goes on from its last chunk; one with another fingerprint is written anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from m3e.errors import DataError, SettingsError
from m3e.files import atomic_file, check_output_folder, read_marker, write_marker

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, np.dtype[Any]]
Precision = Literal["fp32", "fp16", "bf16"]

STEP = "vectors"
RAW, IDS = "vectors.bin", "ids.parquet"
_BYTES: dict[str, int] = {"fp32": 4, "fp16": 2, "bf16": 2}
_SLICE = 8192


@dataclass(frozen=True)
class VectorFolder:
    """A finished folder of vectors.

    Attributes:
        longest: the greatest length of a row.
        rounding: the greatest distance between a row and the same row rounded to bf16.
    """

    path: Path
    rows: int
    dimension: int
    dtype: Precision
    fingerprint: str
    longest: float
    rounding: float

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, dimension)."""
        return self.rows, self.dimension

    def __len__(self) -> int:
        return self.rows

    def ids(self) -> list[str]:
        """The ids of the rows, in order; their numbers where none were given."""
        import pyarrow.parquet as pq

        if not (self.path / IDS).exists():
            return [str(row) for row in range(self.rows)]
        return cast(list[str], pq.read_table(self.path / IDS)["id"].to_pylist())

    def read(self, start: int, stop: int) -> Array:
        """Rows ``start`` to ``stop`` as fp32."""
        import torch

        stop = min(stop, self.rows)
        rows = torch.empty((max(0, stop - start), self.dimension), dtype=torch_dtype(self.dtype))
        with (self.path / RAW).open("rb", buffering=0) as stream:
            stream.seek(start * self.row_bytes)
            read_into(stream, rows)
        return rows.float().numpy()

    @property
    def row_bytes(self) -> int:
        """Bytes a row takes in the raw file."""
        return self.dimension * _BYTES[self.dtype]


def torch_dtype(dtype: Precision) -> torch.dtype:
    """The torch dtype of a name."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]


def read_into(stream: Any, rows: torch.Tensor) -> None:
    """Fill a contiguous tensor from a raw, unbuffered file.

    Raises:
        DataError: the file ends too soon.
    """
    import torch

    if not rows.numel():
        return
    view = rows.view(torch.uint8).numpy().data.cast("B")
    filled = 0
    while filled < len(view):
        count = stream.readinto(view[filled:])
        if not count:
            raise DataError(f"{stream.name} ends {len(view) - filled} bytes too soon; write its folder again")
        filled += count


def open_vectors(folder: Path) -> VectorFolder:
    """The vectors in a finished folder.

    Raises:
        DataError: the folder holds no vectors of ours, they are unfinished, or the raw file has another size.
    """
    facts = read_marker(folder)
    if facts is None or facts["m3e"] != STEP:
        raise DataError(f"{folder} is not a folder of vectors that m3e wrote")
    if not facts["finished"]:
        raise DataError(f"{folder} holds {facts['rows']} rows of an unfinished run; write it to its end first")
    found = _folder(folder, facts)
    size = (folder / RAW).stat().st_size if (folder / RAW).exists() else 0
    if size != found.rows * found.row_bytes:
        raise DataError(f"{folder / RAW} has {size} bytes, not {found.rows * found.row_bytes}; write the folder again")
    return found


def _folder(path: Path, facts: dict[str, Any]) -> VectorFolder:
    names = ("rows", "dimension", "dtype", "fingerprint", "longest", "rounding")
    return VectorFolder(path, *(facts[name] for name in names))


class VectorWriter:
    """Append vectors to a folder, a chunk at a time; a folder begun with the same settings goes on.

    Args:
        folder: absent, empty, or written by this class.
        dimension: numbers a row.
        dtype: what is stored; fp16 keeps unit vectors eight times more exactly than bf16, bf16 is read faster.
        fingerprint: of everything that decides the vectors: model, texts, prompts.

    Attributes:
        rows: rows written so far; append goes on behind them.

    Raises:
        SettingsError: a dtype that does not exist.
        OutputExistsError: the folder holds other files.
    """

    def __init__(self, folder: Path, dimension: int, dtype: Precision, fingerprint: str) -> None:
        if dtype not in _BYTES:
            raise SettingsError(f"dtype {dtype!r} is not known; choose fp32, fp16 or bf16")
        check_output_folder(folder, overwrite=False, step=STEP)
        self.folder = folder
        self._facts: dict[str, Any] = {
            "dimension": dimension,
            "dtype": dtype,
            "fingerprint": fingerprint,
            "rows": 0,
            "longest": 0.0,
            "rounding": 0.0,
            "finished": False,
        }
        self._resume()

    @property
    def rows(self) -> int:
        """Rows written so far."""
        return int(self._facts["rows"])

    @property
    def finished(self) -> bool:
        """Whether the folder was finished before: there is nothing to append."""
        return bool(self._facts["finished"])

    def append(self, vectors: Array) -> None:
        """Write rows behind those that are there.

        Raises:
            DataError: another dimension, or a number that is not finite in the stored dtype; names the row.
        """
        import torch

        width = self._facts["dimension"]
        if vectors.ndim != 2 or vectors.shape[1] != width:
            raise DataError(f"{self.folder} holds vectors of {width} numbers, not of shape {vectors.shape}")
        with (self.folder / RAW).open("ab") as stream:
            for start in range(0, len(vectors), _SLICE):
                part = torch.from_numpy(np.array(vectors[start : start + _SLICE], dtype=np.float32))
                stored = part.to(torch_dtype(self._facts["dtype"]))
                self._measure(stored.float(), self.rows + start)
                stream.write(stored.view(torch.uint8).numpy().data.cast("B"))
        self._facts["rows"] += len(vectors)
        write_marker(self.folder, STEP, **self._facts)

    def finish(self, ids: Sequence[str] | None = None) -> VectorFolder:
        """The finished folder, with the ids of its rows where given.

        Raises:
            DataError: the number of ids is not the number of rows.
        """
        if ids is not None and len(ids) != self.rows:
            raise DataError(f"{self.folder}: {len(ids)} ids for {self.rows} vectors")
        if ids is not None and not self.finished:
            import pyarrow as pa
            import pyarrow.parquet as pq

            with atomic_file(self.folder / IDS) as temporary:
                pq.write_table(pa.table({"id": pa.array(list(ids), pa.large_string())}), temporary)
        self._facts["finished"] = True
        write_marker(self.folder, STEP, **self._facts)
        return open_vectors(self.folder)

    def _resume(self) -> None:
        raw, before = self.folder / RAW, read_marker(self.folder)
        same = before is not None and all(
            before.get(key) == self._facts[key] for key in ("dimension", "dtype", "fingerprint")
        )
        size = raw.stat().st_size if raw.exists() else 0
        wanted = int(before["rows"]) * self._facts["dimension"] * _BYTES[self._facts["dtype"]] if same and before else 0
        if before is not None and same and size >= wanted:
            self._facts |= {key: before[key] for key in self._facts}
            os.truncate(raw, wanted) if raw.exists() else raw.touch()  # a kill may have left half a chunk
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / IDS).unlink(missing_ok=True)
        write_marker(self.folder, STEP, **self._facts)
        raw.write_bytes(b"")

    def _measure(self, rows: torch.Tensor, first: int) -> None:
        import torch

        lengths = torch.linalg.vector_norm(rows, dim=1)
        if not bool(torch.isfinite(lengths).all()):
            bad = first + int((~torch.isfinite(lengths)).nonzero()[0])
            raise DataError(f"vector {bad} is not finite in {self._facts['dtype']}; encode it again")
        lost = torch.linalg.vector_norm(rows - rows.bfloat16().float(), dim=1)
        self._facts["longest"] = max(self._facts["longest"], float(lengths.max()))
        self._facts["rounding"] = max(self._facts["rounding"], float(lost.max()))
