from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from m3e.errors import SettingsError
from m3e.inference.chunk_store import ChunkStore, EncodedChunk

VECTORS = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def store(tmp_path: Path) -> ChunkStore:
    store = ChunkStore(tmp_path / "v.npy")
    assert not store.begin({"settings": {"dtype": "fp32"}})
    return store


def test_a_chunk_comes_back(store: ChunkStore) -> None:
    assert store.get("a") is None
    store.put(EncodedChunk("a", VECTORS, 2))
    found = store.get("a")
    assert found is not None
    assert (found.digest, found.cut) == ("a", 2)
    assert np.array_equal(found.vectors, VECTORS)
    assert store.size() >= VECTORS.nbytes


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "zeros", "folder"])
def test_a_damaged_chunk_does_not_count(store: ChunkStore, damage: str) -> None:
    store.put(EncodedChunk("a", VECTORS, 0))
    [path] = store.folder.glob("*.safetensors")
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        damaged = {
            "empty": b"",
            "cut": data[:-5],
            "flipped": data[:-1] + bytes([data[-1] ^ 1]),
            "zeros": b"\0" * len(data),
        }
        path.write_bytes(damaged[damage])
    assert store.get("a") is None


def test_the_same_settings_keep_what_is_there_and_others_remove_it(store: ChunkStore) -> None:
    store.put(EncodedChunk("a", VECTORS, 0))
    again = ChunkStore(store.out)
    assert not again.begin({"settings": {"dtype": "fp32"}})
    assert again.get("a") is not None
    assert again.begin({"settings": {"dtype": "bf16"}})
    assert again.get("a") is None
    assert again.marker() == {"m3e": "encode", "settings": {"dtype": "bf16"}}


def test_two_runs_do_not_write_one_output(store: ChunkStore) -> None:
    refused = pytest.raises(SettingsError, match=r"another m3e encode is writing .*v\.npy")
    with store.locked(), refused, ChunkStore(store.out).locked():
        pass
    store.begin({"settings": {}})
    store.put(EncodedChunk("a", VECTORS, 0))
    with ChunkStore(store.out).locked():
        pass
    assert [path.name for path in store.out.parent.iterdir()] == [".v.npy.parts"]


def test_nothing_is_left_where_no_chunk_was_finished(store: ChunkStore) -> None:
    with pytest.raises(KeyboardInterrupt), store.locked():
        raise KeyboardInterrupt
    assert list(store.out.parent.iterdir()) == []


def test_a_full_disk_is_one_line_that_says_what_is_kept(store: ChunkStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(EncodedChunk("a", VECTORS, 0))

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SettingsError, match=r"v\.npy cannot be written: No space left on device.*; 1 finished chunks"):
        store.put(EncodedChunk("b", VECTORS, 0))
    assert store.get("a") is not None
    assert store.get("b") is None
    assert [path.name for path in store.folder.iterdir() if path.name.endswith(".partial")] == []
