from __future__ import annotations

import json
import math
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from m3e import files
from m3e.errors import OutputExistsError
from m3e.files import (
    atomic_file,
    atomic_folder,
    check_output_folder,
    failed_write,
    hash_files,
    hash_settings,
    read_json,
    read_marker,
    remove_partial,
    write_json,
    write_marker,
)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_folder(tmp_path / "model") as temporary:
            (temporary / "weights").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", ["exchange", "no exchange", "no hard links", "mounted", "working folder", "symlink"])
def test_a_folder_is_replaced_name_by_name(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model"
    (target / "part").mkdir(parents=True)
    (target / "part" / "stale").write_text("old")
    (target / "weights").write_text("old")
    (target / "was a file").write_text("old")
    (target / "was a folder").mkdir()
    (target / "notes.txt").write_text("keep")
    (target / "photos" / "2023").mkdir(parents=True)
    (target / "photos" / "2023" / "cat").write_text("keep")
    (target / "dangling").symlink_to("nowhere")
    target.chmod(0o750)
    written = target
    if way == "no exchange":
        monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    elif way == "no hard links":
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError("not supported")))
    elif way == "mounted":
        monkeypatch.setattr(Path, "is_mount", lambda path: path == target)
    elif way == "working folder":
        monkeypatch.chdir(target)
        written = Path()
    elif way == "symlink":
        written = tmp_path / "link"
        written.symlink_to(target, target_is_directory=True)
    with atomic_folder(written) as temporary:
        (temporary / "part").mkdir()
        (temporary / "part" / "fresh").write_text("new")
        (temporary / "weights").write_text("new")
        (temporary / "was a file").mkdir()
        (temporary / "was a folder").write_text("new")
    names = {"part", "weights", "was a file", "was a folder", "notes.txt", "photos", "dangling"}
    assert {path.name for path in target.iterdir()} == names
    assert (target / "notes.txt").read_text() == (target / "photos" / "2023" / "cat").read_text() == "keep"
    assert [path.name for path in (target / "part").iterdir()] == ["fresh"]
    assert (target / "weights").read_text() == (target / "was a folder").read_text() == "new"
    assert list((target / "was a file").iterdir()) == []
    assert (target / "dangling").readlink() == Path("nowhere")
    assert target.stat().st_mode & 0o777 == 0o750
    assert {path.name for path in tmp_path.iterdir()} <= {"model", "link"}
    if way == "working folder":
        assert target.samefile("."), "a shell in the folder still stands in it"


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_what_a_library_keeps_for_its_owner_may_be_read_as_the_umask_allows(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        path.touch(mode=0o600)

    with atomic_file(tmp_path / "file") as temporary:
        write(temporary)
    with atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "inner").mkdir()
        write(temporary / "inner" / "file")
    usual = tmp_path / "usual"
    usual.touch()
    for path in (tmp_path / "file", tmp_path / "folder" / "inner" / "file"):
        assert path.stat().st_mode == usual.stat().st_mode


def test_json_never_holds_nan(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_json(path, {"a": math.nan, "b": [math.inf, 1.5], "文": (-math.inf,)})
    assert read_json(path) == {"a": None, "b": [None, 1.5], "文": [None]}
    json.loads(path.read_text("utf-8"), parse_constant=lambda name: pytest.fail(name))


def test_hashes_depend_on_names_and_bytes_not_on_order(tmp_path: Path) -> None:
    for name, text in (("a", "1"), ("b", "2")):
        (tmp_path / name).write_text(text)
    paths = [tmp_path / "a", tmp_path / "b"]
    first = hash_files(paths, tmp_path)
    assert hash_files(reversed(paths), tmp_path) == first
    (tmp_path / "b").write_text("3")
    assert hash_files(paths, tmp_path) != first
    assert hash_settings({"x": 1, "y": 2}) == hash_settings({"y": 2, "x": 1}) != hash_settings({"x": 2, "y": 1})


def test_an_output_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    check_output_folder(tmp_path / "absent", overwrite=False, step="finetune")
    check_output_folder(tmp_path, overwrite=False, step="finetune")
    (tmp_path / "notes.txt").write_text("keep")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        check_output_folder(tmp_path, overwrite=False, step="finetune")
    check_output_folder(tmp_path, overwrite=True, step="finetune")
    write_marker(tmp_path, "encode")
    with pytest.raises(OutputExistsError, match=tmp_path.name):
        check_output_folder(tmp_path, overwrite=False, step="finetune")
    write_marker(tmp_path, "finetune")
    check_output_folder(tmp_path, overwrite=False, step="finetune")
    with pytest.raises(OutputExistsError, match="file"):
        check_output_folder(tmp_path / "notes.txt", overwrite=True, step="finetune")


def test_only_our_markers_are_read(tmp_path: Path) -> None:
    assert read_marker(tmp_path) is None
    (tmp_path / "m3e.json").write_text("{broken")
    assert read_marker(tmp_path) is None
    write_marker(tmp_path, "model", name="x")
    assert read_marker(tmp_path) == {"m3e": "model", "name": "x"}


def test_leftovers_of_killed_writes_are_removed(tmp_path: Path) -> None:
    target = tmp_path / "out"
    (tmp_path / ".out.0123abcd.partial").mkdir()
    (tmp_path / ".out.0123abcd.partial" / "shard").write_text("x", encoding="utf-8")
    (tmp_path / ".out.89efabcd.partial").write_text("x", encoding="utf-8")
    others = [".out.json.0123abcd.partial", ".another.0123abcd.partial", "out.partial"]
    for name in others:
        (tmp_path / name).write_text("x", encoding="utf-8")
    remove_partial(target.parent, target.name)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def write_in_python(path: Path) -> None:
    path.write_bytes(bytes(99_999))


def write_in_torch(path: Path) -> None:
    torch.save({"weight": torch.zeros(99_999)}, path)


def write_in_safetensors(path: Path) -> None:
    save_file({"weight": torch.zeros(99_999)}, path)


@pytest.mark.parametrize("write", [write_in_python, write_in_torch, write_in_safetensors])
def test_what_does_not_fit_is_known_whoever_writes(write: Callable[[Path], None], tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises((OSError, RuntimeError, SafetensorError)) as caught:
            write(tmp_path / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    reason = failed_write(caught.value)
    assert reason is not None
    assert "File too large" in reason or "is the disk full?" in reason


def test_a_path_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory") as caught:
        (tmp_path / "file" / "inner").mkdir()
    assert failed_write(caught.value) == f"{tmp_path / 'file' / 'inner'}: Not a directory"


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), OSError("no route"), ValueError("iostream")])
def test_what_is_no_failed_write(error: Exception) -> None:
    assert failed_write(error) is None
