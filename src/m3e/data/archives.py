"""Files inside zip and tar archives, taken out one at a time."""

from __future__ import annotations

import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from m3e.errors import DataError, first_line

_TAR_NAMES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz")
_UTF8_NAME = 0x800
"""The flag of a zip member whose name is UTF-8; without it, the name is in whatever the packer's system used."""

_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError)
_UNSUPPORTED = (NotImplementedError, RuntimeError)
"""What :mod:`zipfile` raises for a compression it does not know, and for a password."""

_Member = tuple[str, Callable[[], AbstractContextManager[IO[bytes]]]]


def is_archive(path: Path) -> bool:
    """Whether a file is an archive of files, by its name, or by its first bytes where the name has no extension."""
    name = path.name.lower()
    if name.endswith((".zip", *_TAR_NAMES)):
        return True
    return not path.suffix and path.is_file() and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path))


def extract_members(
    archive: Path, is_wanted: Callable[[str], bool], scratch: Path, *, name: str | None = None
) -> Iterator[tuple[str, Path]]:
    """The wanted files of an archive, in its order: each one's path in it, and a file with its bytes.

    The file stays until the next one is asked for, so that only one at a time takes room on disk.

    Args:
        archive: zip, or tar with gzip, bzip2, xz or no compression.
        is_wanted: decides by a member's path, its parts divided by ``/``.
        scratch: an existing folder for the files.
        name: what messages call the archive.

    Raises:
        DataError: the archive is damaged or cut off, needs a password, or has a member whose path leaves it.
    """
    name = name or archive.name
    try:
        members = _zip_members(archive) if _is_zip(archive) else _tar_members(archive)
        for member, open_member in members:
            if _leaves_the_archive(member):
                raise DataError(f"{name} has a member {member!r} that points outside the archive; it is not opened")
            if _is_junk(member) or not is_wanted(member):
                continue
            target = scratch / f"member{''.join(PurePosixPath(member).suffixes[-2:])}"
            try:
                _copy(open_member, target, f"{name}: {member}")
                yield member, target
            finally:
                target.unlink(missing_ok=True)
    except _DAMAGE as error:
        raise DataError(_damage_message(name, error)) from error


def _copy(open_member: Callable[[], AbstractContextManager[IO[bytes]]], target: Path, name: str) -> None:
    try:
        with open_member() as stream, target.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
    except (*_DAMAGE, *_UNSUPPORTED) as error:
        raise DataError(_damage_message(name, error)) from error


def _damage_message(name: str, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:  # the disk is full, or the file is gone: nothing is damaged
        return f"{name} cannot be read: {error.strerror}"
    return f"{name} cannot be read, the archive is damaged or cut off: {first_line(error)}; fetch it again"


def _is_zip(archive: Path) -> bool:
    name = archive.name.lower()
    return name.endswith(".zip") or (not name.endswith(_TAR_NAMES) and zipfile.is_zipfile(archive))


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if not info.is_dir():
                yield _zip_name(info), partial(file.open, info)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """A member's path as its packer wrote it: Chinese Windows writes GBK, and backslashes."""
    name = info.orig_filename
    if not info.flag_bits & _UTF8_NAME and not name.isascii():
        data = name.encode("cp437")
        for encoding in ("utf-8", "gb18030"):
            try:
                name = data.decode(encoding)
                break
            except UnicodeDecodeError:
                continue
    return name.replace("\\", "/")


def _tar_members(archive: Path) -> Iterator[_Member]:
    # not tarfile's stream mode, which does not notice where compressed data is cut off
    with tarfile.open(archive) as file:
        for info in file:
            if info.isreg():  # a link may point anywhere
                yield info.name.removeprefix("./"), partial(_tar_stream, file, info)


def _tar_stream(file: tarfile.TarFile, info: tarfile.TarInfo) -> AbstractContextManager[IO[bytes]]:
    stream = file.extractfile(info)
    if stream is None:
        raise tarfile.TarError(f"{info.name} has no content")
    return closing(stream)


def _leaves_the_archive(member: str) -> bool:
    path = PurePosixPath(member)
    return path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", member) is not None


def _is_junk(member: str) -> bool:
    """Whether macOS put the member there beside a file."""
    parts = PurePosixPath(member).parts
    return not parts or parts[0] == "__MACOSX" or parts[-1].startswith("._") or parts[-1] == ".DS_Store"
