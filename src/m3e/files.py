"""Files that are never half written: atomic writes, markers, content hashes, strict JSON.

Every long step has the same shape: a folder in, a folder out, written under a
temporary name and renamed, with a marker that holds the hash of its inputs and
settings. Resume, "already done" and the refusal to mix all follow from it.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import math
import os
import shutil
import stat
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
        _give_usual_mode([temporary])
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; move its entries into place when the block ends well.

    Where ``path`` exists, entries of the same names are replaced and all others stay. On Linux, a kill
    at any moment leaves all of the old entries or all of the new.
    An exception leaves ``path`` as it was.
    """
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_sibling(target)
    if target.is_mount():  # beside it is another disk, and entries can be renamed only within one
        temporary = target / temporary.name
    temporary.mkdir()
    try:
        yield temporary
        _give_usual_mode(path for path in temporary.rglob("*") if path.is_file())
        if not target.exists():
            os.replace(temporary, target)
        else:
            _replace_entries(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _give_usual_mode(paths: Iterable[Path]) -> None:
    """Let others read files as the umask allows: safetensors (0.8) writes them for their owner alone."""
    umask = os.umask(0o077)
    os.umask(umask)
    for path in paths:
        if stat.S_IMODE(path.lstat().st_mode) == 0o600:
            path.chmod(0o666 & ~umask)


def remove_partial(folder: Path, name: str = "") -> None:
    """Remove what killed writers left in ``folder`` under temporary names; nothing may be written there meanwhile.

    Args:
        name: of the file or folder that they were writing; all of ``folder`` by default.
    """
    for left in folder.glob(".*.partial"):
        if name and left.name[1 : -len(".01234567.partial")] != name:
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _replace_entries(source: Path, target: Path) -> None:
    """Put the entries of ``source`` into ``target``, at once where the system can."""
    names = [entry.name for entry in source.iterdir()]
    # a shell that stands in the folder must not find itself in a removed one
    if not target.is_mount() and not Path.cwd().is_relative_to(target):
        try:
            _link_other_entries(target, source)
        except (OSError, NotImplementedError):  # a file system without hard links
            _move_entries(source, target, names)
            return
        if _exchange(source, target):
            return
    _move_entries(source, target, names)


def _link_other_entries(source: Path, target: Path) -> None:
    """Make the entries of ``source`` that ``target`` lacks appear there too, and its permissions."""
    for entry in source.iterdir():
        copy = target / entry.name
        if copy.exists():
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, copy, symlinks=True, copy_function=os.link)
        else:
            os.link(entry, copy, follow_symlinks=False)
    shutil.copymode(source, target)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one system call; whether that could be done."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):  # only Linux has it
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return int(swap(here, os.fsencode(first), here, os.fsencode(second), exchange)) == 0


def _move_entries(source: Path, target: Path, names: Iterable[str]) -> None:
    """Replace entries of ``target`` by those of ``source``, one after the other, the marker last."""
    retired = source / f".{source.name}.old"
    retired.mkdir()
    for name in sorted(names, key=lambda name: name == MARKER_NAME):
        entry, final = source / name, target / name
        if final.exists() and (final.is_dir() or entry.is_dir()):  # only a file takes a file's place by itself
            os.replace(final, retired / name)
        os.replace(entry, final)


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


def cache_folder() -> Path:
    """Where what was fetched or made once is kept: ``M3E_CACHE``, or ``m3e`` in the user's cache folder."""
    chosen = os.environ.get("M3E_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "m3e"


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


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of a write to an open file, which names none

_FAILED_WRITES = {"SafetensorError": ("I/O error",), "RuntimeError": ("iostream", "inline_container", "StreamWriter")}
"""What safetensors and torch raise, each of a type of its own, when the disk takes no more."""


def failed_write(error: BaseException) -> str | None:
    """What kept a file from being read or written, such as a full disk; ``None`` of any other error."""
    if isinstance(error, OSError):
        if error.filename and error.strerror:
            return f"{error.filename}: {error.strerror}"
        return error.strerror if error.errno in _FULL else None
    marks = _FAILED_WRITES.get(type(error).__name__, ())
    return f"not written ({error}); is the disk full?" if any(mark in str(error) for mark in marks) else None
