from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from m3e.training.text_vectors import NO_TEXT, TextVectors


def table(path: Path) -> tuple[TextVectors, np.ndarray]:
    """Ten texts in no order, their vectors mapped from a file."""
    vectors = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float16)
    np.save(path / "vectors.npy", vectors)
    ids = np.array([70, 20, 90, 10, 50, 30, 100, 40, 80, 60])
    return TextVectors(ids, np.load(path / "vectors.npy", mmap_mode="r")), vectors


def test_vectors_are_found_by_id_and_unknown_ones_are_zeros(tmp_path: Path) -> None:
    known, vectors = table(tmp_path)
    found, is_known = known.look_up(torch.tensor([10, 100, 55, 10, NO_TEXT, 101, 70]))
    assert is_known.tolist() == [True, True, False, True, False, False, True]
    assert found.dtype == torch.float32
    rows = vectors.astype(np.float32).tolist()
    nothing = [0.0] * 4
    assert found.tolist() == [rows[3], rows[6], nothing, rows[3], nothing, nothing, rows[0]]
    assert known.look_up(torch.tensor([10]), torch.float64)[0].dtype == torch.float64
    assert (len(known), known.dimension) == (10, 4)


def test_an_empty_slot_has_no_vector_whatever_the_table_holds() -> None:
    found, known = TextVectors(np.array([NO_TEXT, 1]), np.ones((2, 3), np.float16)).look_up(torch.tensor([NO_TEXT, 1]))
    assert known.tolist() == [False, True]
    assert found.tolist() == [[0.0] * 3, [1.0] * 3]
    nothing = TextVectors(np.empty(0, np.int64), np.empty((0, 3), np.float16))
    assert not nothing.look_up(torch.tensor([1, 2]))[1].any()


def test_ids_and_vectors_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="3 ids for 2 vectors"):
        TextVectors(np.arange(3), np.ones((2, 3)))
