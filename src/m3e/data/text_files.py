"""A file of any accepted format to a table."""

from __future__ import annotations

import dataclasses
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

from m3e.data.arrow_tables import read_parquet
from m3e.data.delimited import read_delimited
from m3e.data.encodings import OpenText, find_encoding, open_text
from m3e.data.file_state import FileState
from m3e.data.json_rows import read_json
from m3e.data.tables import Row, Table
from m3e.errors import DataError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson", ".json")
EXTENSIONS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""What can be read, for messages; the text formats also with ``.gz`` after them."""

_EXCEL = (".xlsx", ".xls", ".xlsm", ".et", ".numbers", ".ods")


def is_readable_name(path: Path) -> bool:
    """Whether a file of this name is of a format that can be read."""
    return _format_of(path) in (*_DELIMITERS, *_JSON, ".parquet")


def read_table(path: Path, name: str | None = None, *, columns: Sequence[str] | None = None) -> Table:
    """The rows of a file, every cell as it was typed.

    A text file is looked through here, so that all its errors come now; its rows are read from it anew
    each time, as are those of a parquet file: neither is held in memory. JSON other than lines is.

    Args:
        path: jsonl, json, csv, tsv or parquet; the text formats also compressed with gzip.
        name: what messages call the file; its own name by default.
        columns: those that are wanted; others may be left out of the rows where that saves reading them.

    Raises:
        DataError: the file is missing, of another format, damaged, or has no rows. The message names the
            file, and the line where there is one to blame. Reading the rows raises it too, where the file
            has changed meanwhile.
    """
    name = name or path.name
    extension = _format_of(path)
    if not is_readable_name(path):
        raise DataError(f"{name}: {_format_message(extension)}")
    if extension == ".parquet":
        if not path.is_file():
            raise DataError(f"{name}: there is no such file: {path}")
        if path.stat().st_size == 0:
            raise DataError(f"{name} has no rows: the file is empty")
        return read_parquet(path, name, columns)
    text, notes = _text_of(path, name)
    table = read_delimited(text, name, _DELIMITERS[extension]) if extension in _DELIMITERS else read_json(text, name)
    return dataclasses.replace(table, notes=(*notes, *table.notes)) if notes else table


def read_lines(path: Path, name: str | None = None) -> Table:
    """A table of one column, ``line``, with a row for each line of a plain text file, empty lines included.

    Lines end with LF, CRLF or CR, and with nothing else.

    Raises:
        DataError: as :func:`read_table`.
    """
    name = name or path.name
    text, notes = _text_of(path, name)
    with text() as stream:
        if not stream.read(1):
            raise DataError(f"{name} has no rows: the file is empty")
    return Table(name, ("line",), _Lines(text), notes=notes, is_uniform=True, may_hold_lists=False)


@dataclass(frozen=True)
class _Lines:
    """The lines of a text as rows, each time they are read."""

    open_text: OpenText

    def __iter__(self) -> Iterator[Row]:
        with self.open_text() as lines:
            for line in lines:
                yield {"line": line.rstrip("\r\n")}


def _text_of(path: Path, name: str) -> tuple[OpenText, tuple[str, ...]]:
    """A file's text, and a note where it is not UTF-8."""
    opener = _opener(path, name)
    encoding = find_encoding(opener, name)
    notes = () if encoding.label is None else (f"{name}: read as {encoding.label}",)
    return partial(open_text, opener, encoding), notes


def _format_of(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"] and suffixes[-2:-1] != [".parquet"]:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _format_message(extension: str) -> str:
    accepted = ", ".join(EXTENSIONS)
    if extension in _EXCEL:
        return f"{extension} files are not read; save the sheet as CSV UTF-8 (accepted: {accepted})"
    what = f"the extension {extension} is not known" if extension else "a file name needs an extension"
    return f"{what}; accepted: {accepted}"


def _opener(path: Path, name: str) -> _Opener:
    with _named_errors(name):
        state = FileState.of(path, name)
        return _Opener(state, None if path.is_file() else path.read_bytes())


@dataclass(frozen=True)
class _Opener:
    """Opens the bytes of one file, decompressed, as long as it stays as it was.

    Attributes:
        state: the file, and how it was at first.
        data: its bytes where they can be had only once, as from a pipe.
    """

    state: FileState
    data: bytes | None

    def __call__(self) -> AbstractContextManager[IO[bytes]]:
        """The bytes from the first on."""
        return self._open()

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        with _named_errors(self.state.name):
            if self.data is not None:
                yield self._decompressed(io.BytesIO(self.data))
                return
            self.state.check()
            with self.state.path.open("rb") as file:
                try:
                    yield self._decompressed(file)
                except Exception:
                    self.state.check()  # a change explains whatever went wrong
                    raise
            self.state.check()

    def _decompressed(self, file: IO[bytes]) -> IO[bytes]:
        is_compressed = self.state.path.suffix.lower() == ".gz"
        return cast(IO[bytes], gzip.GzipFile(fileobj=file)) if is_compressed else file


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{name} cannot be read: {reason}") from error
