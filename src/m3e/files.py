"""Files that are never half written: atomic writes, markers, content hashes, strict JSON.

Every long step has the same shape: a folder in, a folder out, written under a
temporary name and renamed, with a marker that holds the hash of its inputs and
settings. Resume, "already done" and the refusal to mix all follow from it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from m3e.errors import OutputExistsError

MARKER_NAME = "m3e.json"
_CHUNK = 1 << 20


def _temporary_sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it into place when the block ends well.

    An exception removes the temporary file and leaves the old ``path`` as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_sibling(target)
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; move its entries into place when the block ends well.

    Where ``path`` exists, entries of the same names are replaced and all others stay.
    An exception leaves ``path`` as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_sibling(target)
    temporary.mkdir()
    try:
        yield temporary
        if not target.exists():
            os.replace(temporary, target)
        else:
            _move_entries(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_entries(source: Path, target: Path) -> None:
    """Replace the entries of ``target`` by those of ``source``, the marker last."""
    retired = _temporary_sibling(target)
    retired.mkdir()
    try:
        for entry in sorted(source.iterdir(), key=lambda item: item.name == MARKER_NAME):
            final = target / entry.name
            if final.exists() or final.is_symlink():
                os.replace(final, retired / entry.name)
            os.replace(entry, final)
    finally:
        shutil.rmtree(retired, ignore_errors=True)


def json_safe(value: Any) -> Any:
    """``value`` with every non-finite float replaced by ``None``, recursively."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    return value


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write strict JSON (UTF-8, no ``NaN``), atomically."""
    text = json.dumps(json_safe(value), ensure_ascii=False, indent=2, allow_nan=False)
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value of a UTF-8 JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def hash_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def hash_files(paths: Iterable[Path], root: Path) -> str:
    """SHA-256 over the names (relative to ``root``) and bytes of files, whatever their order."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(bytes.fromhex(hash_file(path)))
    return digest.hexdigest()


def hash_settings(settings: Any) -> str:
    """SHA-256 of a JSON value with sorted keys."""
    text = json.dumps(json_safe(settings), ensure_ascii=False, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_marker(folder: Path) -> dict[str, Any] | None:
    """The marker that an m3e step left in ``folder``, or ``None``."""
    try:
        value = read_json(folder / MARKER_NAME)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and "m3e" in value else None


def write_marker(folder: Path, step: str, **facts: Any) -> None:
    """Write the marker of ``step`` with whatever identifies its inputs and settings."""
    write_json(folder / MARKER_NAME, {"m3e": step, **facts})


def check_output_folder(folder: Path, *, overwrite: bool, step: str) -> None:
    """Refuse, before any work, an output folder that holds something else.

    An absent or empty folder is fine, and so is one that ``step`` itself wrote.

    Raises:
        OutputExistsError: the folder holds other files and ``overwrite`` is false, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputExistsError(f"--out {folder} is a file; name a folder")
    if overwrite or not folder.exists() or not any(folder.iterdir()):
        return
    marker = read_marker(folder)
    if marker is None or marker["m3e"] != step:
        raise OutputExistsError(
            f"the output folder {folder} already holds files that {step} did not write; "
            f"choose another --out, or pass --overwrite to write beside them"
        )
