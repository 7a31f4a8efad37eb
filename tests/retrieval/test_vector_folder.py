"""Vectors on disk: what is read is what was written, rounded; half-written folders go on or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e.errors import DataError, OutputExistsError, SettingsError
from m3e.files import read_json
from m3e.retrieval.vector_folder import RAW, VectorFolder, VectorWriter, open_vectors

ROWS = np.random.default_rng(0).normal(size=(25, 6)).astype(np.float32)


def write(folder: Path, rows: Any = ROWS, dtype: Any = "fp32", fingerprint: str = "a") -> VectorFolder:
    writer = VectorWriter(folder, rows.shape[1], dtype, fingerprint)
    writer.append(rows)
    return writer.finish([f"d{index}" for index in range(len(rows))])


@pytest.mark.parametrize(("dtype", "size", "relative"), [("fp32", 4, 0), ("fp16", 2, 2**-11), ("bf16", 2, 2**-8)])
def test_rows_come_back_within_the_rounding_of_their_type(tmp_path: Path, dtype: Any, size: int, relative: float):
    write(tmp_path / "v", dtype=dtype)
    folder = open_vectors(tmp_path / "v")
    assert (folder.rows, folder.dimension, folder.dtype, len(folder)) == (25, 6, dtype, 25)
    assert (tmp_path / "v" / RAW).stat().st_size == 25 * 6 * size
    assert (np.abs(folder.read(0, 25) - ROWS) <= np.abs(ROWS) * relative).all()
    assert np.array_equal(folder.read(7, 9), folder.read(0, 25)[7:9])
    assert folder.ids()[24] == "d24"
    assert folder.longest == pytest.approx(np.linalg.norm(folder.read(0, 25), axis=1).max())
    assert (folder.rounding == 0) == (dtype == "bf16")


def test_the_raw_file_is_plain_numbers(tmp_path: Path) -> None:
    write(tmp_path / "v", dtype="fp16")
    assert np.array_equal(np.fromfile(tmp_path / "v" / RAW, np.float16).reshape(25, 6), ROWS.astype(np.float16))
    assert read_json(tmp_path / "v" / "m3e.json")["rows"] == 25


def test_rows_without_ids_are_numbered(tmp_path: Path) -> None:
    writer = VectorWriter(tmp_path / "v", 6, "fp16", "a")
    writer.append(ROWS[:3])
    assert writer.finish().ids() == ["0", "1", "2"]


def test_a_killed_writer_goes_on_behind_its_last_whole_chunk(tmp_path: Path) -> None:
    first = VectorWriter(tmp_path / "v", 6, "bf16", "a")
    first.append(ROWS[:10])
    with (tmp_path / "v" / RAW).open("ab") as stream:
        stream.write(b"half a row")
    with pytest.raises(DataError, match="unfinished"):
        open_vectors(tmp_path / "v")
    second = VectorWriter(tmp_path / "v", 6, "bf16", "a")
    assert (second.rows, second.finished) == (10, False)
    second.append(ROWS[10:])
    whole = write(tmp_path / "w", dtype="bf16")
    assert np.array_equal(second.finish().read(0, 25), whole.read(0, 25))
    assert open_vectors(tmp_path / "v").longest == whole.longest
    assert VectorWriter(tmp_path / "v", 6, "bf16", "a").finished


@pytest.mark.parametrize("other", [{"fingerprint": "b"}, {"dtype": "fp16"}])
def test_vectors_of_something_else_are_written_anew(tmp_path: Path, other: Any) -> None:
    write(tmp_path / "v")
    settings = {"dtype": "fp32", "fingerprint": "a", **other}
    writer = VectorWriter(tmp_path / "v", 6, **settings)
    assert (writer.rows, writer.finished) == (0, False)
    writer.append(ROWS[:2])
    assert writer.finish().ids() == ["0", "1"]


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputExistsError):
        VectorWriter(tmp_path, 6, "fp16", "a")
    with pytest.raises(DataError, match="not a folder of vectors"):
        open_vectors(tmp_path)


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    writer = VectorWriter(tmp_path / "v", 6, "fp16", "a")
    writer.append(ROWS[:4])
    large = ROWS.copy()
    large[3, 2] = 1e6  # beyond fp16
    with pytest.raises(DataError, match="vector 7 is not finite in fp16"):
        writer.append(large)
    with pytest.raises(DataError, match="6 numbers"):
        writer.append(np.ones((2, 5)))
    with pytest.raises(DataError, match="3 ids for 4 vectors"):
        writer.finish(["a", "b", "c"])
    with pytest.raises(SettingsError, match="fp8"):
        VectorWriter(tmp_path / "w", 6, "fp8", "a")  # type: ignore[arg-type]
    assert writer.finish().rows == 4


def test_a_raw_file_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "v")
    with (tmp_path / "v" / RAW).open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(DataError, match="604 bytes, not 600"):
        open_vectors(tmp_path / "v")
