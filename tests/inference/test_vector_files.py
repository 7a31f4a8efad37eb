from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save

from m3e.inference.vector_files import write_vectors


def blocks(rows: int, dimension: int) -> list[np.ndarray]:
    values = np.random.default_rng(0).normal(size=(rows, dimension)).astype(np.float32)
    return [values[start : start + 4] for start in range(0, rows, 4)]


@pytest.mark.parametrize(("rows", "dimension"), [(1, 1), (4, 3), (9, 8), (1234, 7)])
def test_the_bytes_are_those_of_the_formats_own_writers(tmp_path: Path, rows: int, dimension: int) -> None:
    parts = blocks(rows, dimension)
    whole = np.concatenate(parts)
    write_vectors(tmp_path / "v", ".npy", rows, dimension, iter(parts))
    expected = io.BytesIO()
    np.save(expected, whole)
    assert (tmp_path / "v").read_bytes() == expected.getvalue()
    write_vectors(tmp_path / "v", ".safetensors", rows, dimension, iter(parts))
    assert (tmp_path / "v").read_bytes() == save({"vectors": whole})
    assert np.array_equal(load_file(tmp_path / "v")["vectors"], whole)


def test_parquet_has_a_row_group_for_each_block(tmp_path: Path) -> None:
    parts = blocks(9, 8)
    write_vectors(tmp_path / "v", ".parquet", 9, 8, iter(parts))
    file = pq.ParquetFile(tmp_path / "v")
    assert [file.metadata.row_group(index).num_rows for index in range(3)] == [4, 4, 1]
    assert str(file.schema_arrow.field("vector").type) == "fixed_size_list<element: float>[8]"
    assert np.array_equal(np.stack(file.read()["vector"].to_numpy()), np.concatenate(parts))


@pytest.mark.parametrize("ending", [".npy", ".safetensors"])
@pytest.mark.parametrize("rows", [8, 10])
def test_another_number_of_rows_is_refused(tmp_path: Path, ending: str, rows: int) -> None:
    with pytest.raises(ValueError, match="not"):
        write_vectors(tmp_path / "v", ending, rows, 8, blocks(9, 8))
