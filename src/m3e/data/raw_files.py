"""The files of a card's source, plain or inside an archive, each made ready for :func:`read_table`."""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from m3e.data.archives import extract_members, is_archive
from m3e.data.sources import is_beside
from m3e.data.text_files import EXTENSIONS, is_readable_name
from m3e.errors import DataError

_BOM = b"\xef\xbb\xbf"
_DELIMITERS = {"csv": ",", "tsv": "\t"}


@dataclass(frozen=True)
class RawFile:
    """A file that can be read now; one out of an archive is gone when the next one is asked for.

    Attributes:
        name: for messages: the file's own, or its path in the folder or archive.
        path: where its bytes are.
    """

    name: str
    path: Path


def select_files(
    patterns: Sequence[str], without: str | None = None, *, any_name: bool = False
) -> Callable[[str], bool]:
    """A test of paths: whether they, or their last part, match a pattern.

    Args:
        patterns: as :mod:`fnmatch` reads them; without any, files of a format that can be read.
        without: a pattern of files that are not meant, whatever else matches.
        any_name: without patterns, files of any name.
    """

    def is_wanted(path: str) -> bool:
        if without is not None and _matches(path, without):
            return False
        if patterns:
            return any(_matches(path, pattern) for pattern in patterns)
        return not is_beside(Path(path)) and (any_name or is_readable_name(Path(path)))

    return is_wanted


def list_raw_files(path: Path, is_wanted: Callable[[str], bool], scratch: Path, name: str) -> Iterator[RawFile]:
    """The files that a path comes to: itself, those of a folder, or those of an archive.

    Of a folder that holds no wanted file but archives, the files in these.

    Args:
        path: exists.
        is_wanted: decides by a file's path in its folder or archive; a file that ``path`` names itself is wanted.
        scratch: an existing folder for what is taken out of archives.
        name: what messages call ``path``.

    Raises:
        DataError: an archive is damaged.
    """
    if path.is_dir():
        inner = [file.relative_to(path).as_posix() for file in sorted(path.rglob("*")) if file.is_file()]
        wanted = [file for file in inner if is_wanted(file)]
        for file in wanted or [file for file in inner if is_archive(path / file) and not is_beside(Path(file))]:
            if is_archive(path / file):
                yield from list_raw_files(path / file, is_wanted, scratch, f"{name}/{file}")
            else:
                yield RawFile(f"{name}/{file}", path / file)
    elif is_archive(path):
        for member, file_path in extract_members(path, is_wanted, scratch, name=name):
            yield RawFile(f"{name}/{member}", file_path)
    else:
        yield RawFile(name, path)


@contextmanager
def scratch_folder(cache: Path) -> Iterator[Path]:
    """A folder for as long as the block lasts, under ``cache`` where that can be written.

    ``/tmp`` may be too small for what is in an archive, or in memory.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = TemporaryDirectory(prefix="scratch-", dir=cache)
    except OSError:
        folder = TemporaryDirectory(prefix="m3e-")
    with folder as name:
        yield Path(name)


@contextmanager
def ready_to_read(file: RawFile, format_name: str | None, columns: Sequence[str], scratch: Path) -> Iterator[RawFile]:
    """The file under a name that says its format, with a line of column names where it lacks one.

    Args:
        file: see :func:`list_raw_files`.
        format_name: an extension without its dot; by default, what the file's own name says.
        columns: the names that a csv or tsv file lacks.
        scratch: an existing folder.

    Raises:
        DataError: the format is not known, or ``columns`` are given for a format that names its own.
    """
    is_packed = file.path.suffix.lower() == ".gz"
    stem = Path(file.path.stem) if is_packed else file.path
    format_name = format_name or stem.suffix.lower().removeprefix(".")
    if f".{format_name}" not in (*EXTENSIONS, ".ndjson"):
        raise DataError(f"{file.name}: its name does not say the format; write format = … into the card's source")
    if columns and format_name not in _DELIMITERS:
        raise DataError(f"{file.name}: columns are for csv and tsv files without a header, this one is {format_name}")
    target = scratch / f"ready.{format_name}{'.gz' if is_packed and not columns else ''}"
    try:
        if columns:
            _write_with_header(file, target, _DELIMITERS[format_name].join(columns), is_packed=is_packed)
            yield RawFile(f"{file.name} (with a line of column names added)", target)
        elif stem.suffix.lower() != f".{format_name}":
            target.symlink_to(file.path.resolve())
            yield RawFile(file.name, target)
        else:
            yield file
    finally:
        target.unlink(missing_ok=True)


def _write_with_header(file: RawFile, target: Path, header: str, *, is_packed: bool) -> None:
    try:
        with gzip.open(file.path) if is_packed else file.path.open("rb") as stream, target.open("wb") as out:
            start = stream.read(len(_BOM))
            out.write(_BOM if start == _BOM else b"")
            out.write(header.encode() + b"\n")
            out.write(b"" if start == _BOM else start)
            shutil.copyfileobj(stream, out, 1 << 20)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file.name} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _matches(path: str, pattern: str) -> bool:
    return fnmatch(path, pattern) or fnmatch(PurePosixPath(path).name, pattern)
