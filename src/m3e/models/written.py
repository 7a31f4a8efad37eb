"""Model folders that are written once into the cache and checked on every use."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from m3e.files import atomic_folder, cache_folder, hash_files, read_marker, write_marker

_NOT_WEIGHTS = ("README.md", "m3e.json")


def written_once(name: str, made_from: str, write: Callable[[Path], None], *, label: str = "") -> Path:
    """The folder ``name`` in the cache, written anew where it is missing, damaged or made from something else.

    Args:
        made_from: identifies what it is made from.
        write: fills an existing, empty folder.
        label: the model's name in the marker; ``name`` by default.
    """
    folder = cache_folder() / "models" / name
    if not _is_intact(folder, made_from):
        shutil.rmtree(folder, ignore_errors=True)
        with atomic_folder(folder) as temporary:
            write(temporary)
            files = _weight_files(temporary)
            write_marker(
                temporary,
                "model",
                name=label or name,
                made_from=made_from,
                content=hash_files(files, temporary),
                sizes=_sizes(files, temporary),
            )
    return folder


def _weight_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name not in _NOT_WEIGHTS]


def _sizes(files: list[Path], root: Path) -> dict[str, int]:
    return {path.relative_to(root).as_posix(): path.stat().st_size for path in sorted(files)}


def _is_intact(folder: Path, made_from: str) -> bool:
    marker = read_marker(folder)
    if marker is None or marker.get("made_from", "") != made_from:
        return False
    files = _weight_files(folder)
    return marker.get("sizes") == _sizes(files, folder) and marker.get("content") == hash_files(files, folder)
