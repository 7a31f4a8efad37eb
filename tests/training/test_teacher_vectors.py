from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m3e.errors import DataError, SettingsError
from m3e.training import teacher_vectors
from m3e.training.teacher_vectors import write_targets


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def one_sided(texts: int = 300, width: int = 12) -> np.ndarray:
    """Vectors that share one large direction, and differ most along a few others."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(texts, width)) * (0.7 ** np.arange(width))
    turned = vectors @ np.linalg.qr(random.normal(size=(width, width)))[0]
    return unit(turned + 5 * random.normal(size=width)).astype(np.float16)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_vectors, "BLOCK", 64)


def test_vectors_are_centred_and_of_length_one_again(tmp_path: Path) -> None:
    vectors = one_sided()
    np.save(tmp_path / "raw.npy", vectors)
    assert write_targets(np.load(tmp_path / "raw.npy", mmap_mode="r"), tmp_path / "targets.npy") == 1.0
    found = np.load(tmp_path / "targets.npy", mmap_mode="r")
    exact = vectors.astype(np.float64)
    assert found.dtype == np.float16
    assert np.allclose(found, unit(exact - exact.mean(axis=0)), atol=1e-3)
    off_diagonal = (exact @ exact.T).mean()
    assert off_diagonal > 0.9
    assert abs((found.astype(np.float64) @ found.astype(np.float64).T).mean()) < 0.05


def test_components_are_those_of_a_singular_value_decomposition(tmp_path: Path) -> None:
    vectors = one_sided()
    centred = unit(vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0))
    kept = write_targets(vectors, tmp_path / "targets.npy", dimension=5)
    found = np.load(tmp_path / "targets.npy").astype(np.float64)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    wanted = unit(centred @ directions[:5].T)
    assert kept == pytest.approx((values[:5] ** 2).sum() / (values**2).sum(), abs=1e-9)
    assert np.allclose(np.abs(found), np.abs(wanted), atol=2e-3)
    assert np.allclose(found @ found.T, wanted @ wanted.T, atol=5e-3)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=2e-3)


def test_all_components_keep_every_cosine_and_the_first_keep_most(tmp_path: Path) -> None:
    vectors = one_sided()
    write_targets(vectors, tmp_path / "centred.npy")
    assert write_targets(vectors, tmp_path / "turned.npy", dimension=12) == pytest.approx(1)
    centred, turned = (np.load(tmp_path / name).astype(np.float64) for name in ("centred.npy", "turned.npy"))
    exact = centred @ centred.T
    assert np.allclose(turned @ turned.T, exact, atol=5e-3)
    apart = [np.abs(unit(every[:, :4]) @ unit(every[:, :4]).T - exact).mean() for every in (turned, centred)]
    assert apart[0] < 0.5 * apart[1]


def test_what_cannot_be_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="have 12 numbers and cannot be mapped to 13"):
        write_targets(one_sided(), tmp_path / "targets.npy", dimension=13)
    broken = one_sided()
    broken[200, 3] = np.nan
    with pytest.raises(DataError, match="vector 200"):
        write_targets(broken, tmp_path / "targets.npy")
    assert not list(tmp_path.iterdir())
