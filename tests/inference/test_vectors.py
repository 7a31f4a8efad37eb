"""A file of texts to a file of vectors: the encoder's vectors, and a run that was stopped goes on to the same bytes."""

from __future__ import annotations

import errno
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e.errors import DataError, ModelError, SettingsError
from m3e.inference import Encoder, vectors
from m3e.inference.backends import choice
from m3e.inference.chunk_encoding import ChunkEncoder
from m3e.inference.encode_options import EncodeOptions
from m3e.inference.texts import Bounds
from m3e.inference.vectors import encode_file
from tests.conftest import write_mini
from tests.fake_embeddings import FakeServer, vector_of

TEXTS = [f"今天{number}天气{'猫' * (number % 9)}" for number in range(47)]
FP32 = EncodeOptions(dtype="fp32", device="cpu")


class Stopped(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of ten texts, where a run chooses them."""
    monkeypatch.setattr(vectors, "Bounds", lambda **bounds: Bounds(**(bounds or {"texts": 10})))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "t.jsonl", TEXTS)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that a model was run on, as they come."""
    seen: list[str] = []
    whole = ChunkEncoder._tokenise

    def tokenise(self: ChunkEncoder, chunk: Any) -> Any:
        seen.extend(chunk.texts)
        return whole(self, chunk)

    monkeypatch.setattr(ChunkEncoder, "_tokenise", tokenise)
    return seen


def write(path: Path, texts: list[Any]) -> Path:
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    return path


def stop_after(rows: int, done: int, total: int) -> None:
    if done >= rows:
        raise Stopped


def stopped(*arguments: Any, rows: int = 20) -> None:
    with pytest.raises(Stopped):
        encode_file(*arguments, on_rows=partial(stop_after, rows))


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.mark.parametrize("prompt", [None, "query", "document"])
def test_a_vector_a_row_in_order(mini_folder: Path, source: Path, tmp_path: Path, prompt: Any) -> None:
    options = EncodeOptions(dtype="fp32", prompt=prompt)
    seen: list[tuple[int, int]] = []
    report = encode_file(mini_folder, source, tmp_path / "v.npy", options, on_rows=lambda *rows: seen.append(rows))
    own = Encoder(str(mini_folder), dtype="fp32")
    expected = own.encode(TEXTS, prompt_name=prompt)
    found = np.load(tmp_path / "v.npy")
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-6
    assert (report.rows, report.dimension, report.cut, report.blank, report.kept_rows) == (47, 32, 0, 0, 0)
    assert (report.field, report.settings["dtype"], report.settings["prompt"]) == ("text", "fp32", prompt)
    assert seen == [(done, 47) for done in (0, 10, 20, 30, 40, 47)]
    assert hidden(tmp_path) == []


def test_dim_shortens_and_scales(mini_folder: Path, source: Path, tmp_path: Path) -> None:
    report = encode_file(mini_folder, source, tmp_path / "v.npy", EncodeOptions(dtype="fp32", dim=5))
    first = Encoder(str(mini_folder), dtype="fp32").encode(TEXTS)[:, :5]
    assert report.dimension == 5
    assert np.abs(np.load(tmp_path / "v.npy") - first / np.linalg.norm(first, axis=1, keepdims=True)).max() < 1e-6


def test_blank_and_cut_texts_are_counted_in_kept_chunks_too(mini_folder: Path, tmp_path: Path) -> None:
    texts = ["", "　", "猫" * 100, *TEXTS[:10], "猫" * 200]
    source, out = write(tmp_path / "t.jsonl", texts), tmp_path / "v.npy"
    stopped(mini_folder, source, out, FP32, rows=10)
    report = encode_file(mini_folder, source, out, FP32)
    assert (report.rows, report.blank, report.cut, report.kept_rows) == (14, 2, 2, 10)
    assert np.isfinite(np.load(out)).all()


@pytest.mark.parametrize("ending", ["npy", "parquet", "safetensors"])
def test_a_stopped_run_goes_on_to_the_same_bytes(
    mini_folder: Path, source: Path, tmp_path: Path, encoded: list[str], ending: str
) -> None:
    out, whole = tmp_path / f"v.{ending}", tmp_path / f"whole.{ending}"
    encode_file(mini_folder, source, whole, FP32)
    encoded.clear()
    stopped(mini_folder, source, out, FP32)
    assert not out.exists()
    encoded.clear()
    lines: list[str] = []
    report = encode_file(mini_folder, source, out, FP32, on_line=lines.append)
    assert encoded == TEXTS[20:]
    assert report.kept_rows == 20
    assert "20 of 47 vectors of an earlier run were kept" in lines
    assert out.read_bytes() == whole.read_bytes()
    assert hidden(tmp_path) == []


def test_a_stopped_run_of_a_static_model_goes_on(source: Path, tmp_path: Path, encoded: list[str]) -> None:
    stopped("m3e-static", source, tmp_path / "v.npy")
    encoded.clear()
    assert encode_file("m3e-static", source, tmp_path / "v.npy").kept_rows == 20
    assert encoded == TEXTS[20:]
    assert np.abs(np.load(tmp_path / "v.npy") - Encoder("m3e-static").encode(TEXTS)).max() < 1e-6


def test_a_run_that_goes_on_keeps_its_dtype_bounds_and_threads(
    mini_folder: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    out, options = tmp_path / "v.npy", EncodeOptions(backend="torch", device="cpu")
    before = torch.get_num_threads()
    monkeypatch.setattr(choice, "_fast_dtype", lambda *_: "bf16")
    monkeypatch.setattr(vectors, "Bounds", lambda **bounds: Bounds(**(bounds or {"texts": 7})))
    encode_file(mini_folder, source, tmp_path / "whole.npy", options)
    stopped(mini_folder, source, out, options)
    monkeypatch.setattr(vectors, "Bounds", lambda **bounds: Bounds(**(bounds or {"texts": 13})))
    monkeypatch.setattr(choice, "_fast_dtype", lambda *_: pytest.fail("measured again"))
    try:
        torch.set_num_threads(before + 1)  # as on another day
        report = encode_file(mini_folder, source, out, options)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert (report.settings["dtype"], report.settings["threads"], report.kept_rows) == ("bf16", before, 21)
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        EncodeOptions(dtype="bf16", device="cpu"),
        EncodeOptions(dtype="fp32", device="cpu", prompt="query"),
        EncodeOptions(dtype="fp32", device="cpu", dim=8),
        EncodeOptions(dtype="fp32", device="cpu", batch_tokens=64),
    ],
    ids=["dtype", "prompt", "dim", "batch"],
)
def test_other_settings_begin_anew_and_say_so(
    mini_folder: Path, source: Path, tmp_path: Path, encoded: list[str], options: EncodeOptions
) -> None:
    stopped(mini_folder, source, tmp_path / "v.npy", FP32)
    encoded.clear()
    lines: list[str] = []
    encode_file(mini_folder, source, tmp_path / "v.npy", options, on_line=lines.append)
    assert encoded == TEXTS
    assert any("other settings were removed" in line for line in lines)
    encode_file(mini_folder, source, tmp_path / "fresh.npy", options)
    assert (tmp_path / "v.npy").read_bytes() == (tmp_path / "fresh.npy").read_bytes()


def test_another_model_in_the_same_folder_begins_anew(source: Path, tmp_path: Path, encoded: list[str]) -> None:
    (tmp_path / "a").mkdir()
    model = write_mini(tmp_path / "a")
    stopped(model, source, tmp_path / "v.npy", FP32)
    write_mini(model, seed=1)
    encoded.clear()
    encode_file(model, source, tmp_path / "v.npy", FP32)
    assert encoded == TEXTS
    assert np.abs(np.load(tmp_path / "v.npy") - Encoder(str(model), dtype="fp32").encode(TEXTS)).max() < 1e-6


def test_an_edit_of_the_same_size_and_time_is_seen(
    mini_folder: Path, source: Path, tmp_path: Path, encoded: list[str]
) -> None:
    out = tmp_path / "v.npy"
    out.write_bytes(b"an older file")
    stopped(mini_folder, source, out, FP32)
    assert out.read_bytes() == b"an older file"
    before = source.stat()
    edited = ["猫猫5天气猫猫猫猫猫" if at == 5 else text for at, text in enumerate(TEXTS)]
    write(source, edited)
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert source.stat().st_size == before.st_size
    assert source.stat().st_mtime_ns == before.st_mtime_ns
    encoded.clear()
    encode_file(mini_folder, source, out, FP32)
    assert encoded == edited[:10] + edited[20:], "the second chunk holds the same texts as before"
    encode_file(mini_folder, source, tmp_path / "fresh.npy", FP32)
    assert out.read_bytes() == (tmp_path / "fresh.npy").read_bytes()


def test_rows_that_move_keep_their_own_vectors(mini_folder: Path, source: Path, tmp_path: Path) -> None:
    stopped(mini_folder, source, tmp_path / "v.npy", FP32)
    turned = TEXTS[10:20] + TEXTS[:10] + TEXTS[10:20] + TEXTS[40:]
    report = encode_file(mini_folder, write(source, turned), tmp_path / "v.npy", FP32)
    assert report.kept_rows == 30
    expected = Encoder(str(mini_folder), dtype="fp32").encode(turned)
    assert np.abs(np.load(tmp_path / "v.npy") - expected).max() < 1e-6


def test_a_file_that_changes_meanwhile_is_refused(mini_folder: Path, source: Path, tmp_path: Path) -> None:
    state = source.stat()

    def edit(done: int, total: int) -> None:
        if done == 0:
            write(source, [*TEXTS[:-1], "猫" + TEXTS[-1][1:]])
            os.utime(source, ns=(state.st_atime_ns, state.st_mtime_ns))

    with pytest.raises(DataError, match=r"t\.jsonl changed while it was read"):
        encode_file(mini_folder, source, tmp_path / "v.npy", FP32, on_rows=edit)
    assert not (tmp_path / "v.npy").exists()


def test_a_bad_row_is_named_before_anything_is_encoded(mini_folder: Path, tmp_path: Path, encoded: list[str]) -> None:
    source = write(tmp_path / "t.jsonl", [*TEXTS, 3])
    with pytest.raises(DataError, match=r"t\.jsonl, row 48 \(line 48\): text is a number \(3\), not text"):
        encode_file(mini_folder, source, tmp_path / "v.npy", FP32)
    assert encoded == []
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]


def test_a_mended_row_costs_its_chunk_only(mini_folder: Path, source: Path, tmp_path: Path, encoded: list[str]) -> None:
    stopped(mini_folder, source, tmp_path / "v.npy", FP32)
    with pytest.raises(DataError, match="row 48"):
        encode_file(mini_folder, write(source, [*TEXTS, None]), tmp_path / "v.npy", FP32)
    encoded.clear()
    encode_file(mini_folder, write(source, [*TEXTS, "猫"]), tmp_path / "v.npy", FP32)
    assert encoded == [*TEXTS[20:], "猫"]


def test_outputs_that_cannot_be(mini_folder: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "d.npy").mkdir()
    parquet = tmp_path / "t.parquet"
    parquet.write_bytes(b"")
    for out, reason in (
        (tmp_path / "d.npy", "is a folder"),
        (tmp_path / "v.txt", "the ending must be one of"),
        (source / "v.npy", "cannot be written: "),
    ):
        with pytest.raises(SettingsError, match=reason):
            encode_file(mini_folder, source, out, FP32)
    with pytest.raises(SettingsError, match="is the input"):
        encode_file(mini_folder, parquet, parquet, FP32)
    assert hidden(tmp_path) == []


def test_too_small_a_disk_is_found_before_the_work(
    mini_folder: Path, source: Path, tmp_path: Path, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = vectors.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(vectors.shutil, "disk_usage", lambda path: usage._replace(free=2 * 47 * 32 * 4 - 1))
    with pytest.raises(SettingsError, match=r"47 vectors of 32 numbers need 0\.00 GB.* are free"):
        encode_file(mini_folder, source, tmp_path / "v.npy", FP32)
    assert encoded == []


@pytest.mark.parametrize("moment", ["a chunk", "the file"])
def test_a_disk_that_fills_up_loses_nothing(
    mini_folder: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    encode_file(mini_folder, source, tmp_path / "whole.npy", FP32)
    out = tmp_path / "v.npy"
    written: list[int] = []

    def full(*arguments: Any) -> int:
        written.append(1)
        if len(written) == 3 or moment == "the file":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(*arguments)

    write_bytes = Path.write_bytes
    with monkeypatch.context() as patch:
        if moment == "a chunk":
            patch.setattr(Path, "write_bytes", full)
        else:
            patch.setattr(vectors, "write_vectors", full)
        with pytest.raises(SettingsError, match=r"v\.npy cannot be written: No space left .* chunks are kept"):
            encode_file(mini_folder, source, out, FP32)
    assert not out.exists()
    report = encode_file(mini_folder, source, out, FP32)
    assert report.kept_rows == (20 if moment == "a chunk" else 47)
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_a_prompt_that_the_model_lacks_is_said(source: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    model = write_mini(tmp_path / "plain")
    lines: list[str] = []
    options = EncodeOptions(dtype="fp32", prompt="query")
    encode_file(model, source, tmp_path / "v.npy", options, on_line=lines.append)
    assert "the model has no query prompt; texts are encoded as they are" in lines
    assert np.abs(np.load(tmp_path / "v.npy") - Encoder(str(model), dtype="fp32").encode(TEXTS)).max() < 1e-6


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"prompt": "passage"}, "choose query or document"),
        ({"workers": 0}, "at least 1"),
        ({"engine": "ray", "workers": 2}, "leave out --workers"),
        ({"engine": "ray", "device": "cpu,cpu"}, "leave out --workers"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        EncodeOptions(**options)


def test_devices_and_processes() -> None:
    assert EncodeOptions().devices == [None]
    assert EncodeOptions(device="cuda:0, cuda:1").devices == ["cuda:0", "cuda:1"]
    assert EncodeOptions(device="cuda:0,cuda:1").processes == 2
    assert EncodeOptions(device="cuda:0", workers=3).processes == 3


def test_an_endpoint_encodes_a_file(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: list[str]
) -> None:
    monkeypatch.setenv("M3E_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("M3E_API_KEY", "")
    with FakeServer() as server:
        stopped(server.name, source, tmp_path / "v.npy")
        report = encode_file(server.name, source, tmp_path / "v.npy")
        with pytest.raises(SettingsError, match="runs on its server"):
            encode_file(server.name, source, tmp_path / "v.npy", FP32)
    assert report.kept_rows == 20
    assert np.array_equal(np.load(tmp_path / "v.npy"), np.stack([vector_of("small", text) for text in TEXTS]))
    assert encoded == []


def test_a_model_that_changes_under_a_plan_is_refused(mini_folder: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    plan = FP32.plan(str(mini_folder))
    settled = plan.settled(ChunkEncoder(plan).settings)
    assert ChunkEncoder(settled).dimension == 32
    (tmp_path / "other").mkdir()
    with pytest.raises(ModelError, match="is not the model that the run began with"):
        ChunkEncoder(replace(settled, model=str(write_mini(tmp_path / "other", seed=1))))
