"""Models in packed form: what is packed comes back up to rounding, and damage is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from m3e.errors import ModelError
from m3e.models import load
from m3e.models.bundled import HASHES, pack, unpack
from m3e.models.static import write_static

TEXTS = ["怎么重置密码", "如何退款", "reset my password", "你好"]


def files(folder: Path) -> set[Path]:
    """Of a model, but for m3e's marker."""
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name != "m3e.json"}


@pytest.fixture(scope="module")
def packed(mini_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "mini"
    pack(mini_folder, folder)
    return folder


def test_a_model_comes_back(mini_folder: Path, packed: Path, tmp_path: Path) -> None:
    unpack(packed, tmp_path)
    assert files(tmp_path) == files(mini_folder)
    before, after = load(mini_folder), load(tmp_path)
    cosines = (before.encode(TEXTS) * after.encode(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.999
    for name, values in before.state_dict().items():
        found, scale = after.state_dict()[name], values.abs().amax(-1, keepdim=True) / 127
        assert torch.all((found - values).abs() <= 0.51 * scale + 1e-3 * values.abs()), name


def test_packing_again_changes_nothing(packed: Path, tmp_path: Path) -> None:
    own, again = tmp_path / "own", tmp_path / "again"
    own.mkdir()
    unpack(packed, own)
    pack(own, again)
    assert (again / HASHES).read_bytes() == (packed / HASHES).read_bytes()


def test_a_static_model_comes_back(mini_folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    tokenizer = load(mini_folder).tokenizer.backend_tokenizer
    rows = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 16)).astype(np.float32)
    write_static(first, tokenizer, rows)
    pack(first, tmp_path / "packed")
    unpack(tmp_path / "packed", second)
    cosines = (load(first).encode(TEXTS) * load(second).encode(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.9999


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_damage_is_found(packed: Path, tmp_path: Path, damage: str) -> None:
    folder, target = tmp_path / "copy", tmp_path / "target"
    shutil.copytree(packed, folder)
    target.mkdir()
    weights = folder / "model.npz"
    if damage == "changed":
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    else:
        weights.unlink()
    with pytest.raises(ModelError, match=r"model\.npz is missing or damaged; reinstall m3e"):
        unpack(folder, target)
