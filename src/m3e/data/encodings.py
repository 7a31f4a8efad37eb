"""Bytes of a text file to text: the encoding is decided by the bytes, never by the system.

Nothing here holds more than a piece of the file, or a line: files may be larger than memory.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, TextIO

from m3e.errors import DataError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins with the BOM of UTF-16, so it comes first
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_NOT_TEXT = (
    (b"PK\x03\x04", "a zip archive, as Excel and Word write; open it and save it as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word document; open it and save it as CSV UTF-8"),
    (b"PAR1", "a parquet file; give it the extension .parquet"),
    (b"\x1f\x8b", "compressed with gzip; give it the extension .gz as well"),
    (b"%PDF", "a PDF document"),
)

# Text in another encoding (Big5 above all) that happens to decode as GB18030 lands in the private
# use area again and again; genuine text hardly ever does.
_PRIVATE_USE_LIMIT = 0.02
_PRIVATE_USE = re.compile("[\ue000-\uf8ff]+")
_NOT_ASCII = re.compile("[^\x00-\x7f]+")

# Between these two ranges lie the letters for which GB18030's Han characters most easily pass.
_SURE_IN_UTF8 = re.compile("[\x80-\u017f\u0800-\ufffc\ufffe-\U0010ffff]+")


OpenBytes = Callable[[], AbstractContextManager[IO[bytes]]]
"""Opens the same bytes at each call."""

OpenText = Callable[[], AbstractContextManager[TextIO]]
"""Opens the same text at each call, with its line ends as they are: LF, CRLF or CR."""

_PIECE = 1 << 20
_HEAD = 400


@dataclass(frozen=True)
class TextEncoding:
    """How a file's bytes are text.

    Attributes:
        codec: Python's name of it.
        mark: the byte order mark that comes before the text.
        label: what messages call it where it is not UTF-8.
    """

    codec: str
    mark: bytes = b""
    label: str | None = None


@dataclass(frozen=True)
class DecodedText:
    """A file's text without its byte order mark, and the encoding where it is not UTF-8."""

    text: str
    encoding: str | None = None


def decode(data: bytes, name: str) -> DecodedText:
    """The text of a file's bytes; see :func:`find_encoding`.

    Args:
        data: the whole file.
        name: the file's name for messages.

    Raises:
        DataError: as :func:`find_encoding`.
    """
    encoding = find_encoding(partial(io.BytesIO, data), name)
    return DecodedText(data[len(encoding.mark) :].decode(encoding.codec), encoding.label)


def find_encoding(open_bytes: OpenBytes, name: str) -> TextEncoding:
    """The encoding of a file, all of whose bytes are text in it.

    A byte order mark decides; else the file is UTF-8; else, where most of its lines that are not
    ASCII are not UTF-8 either, it is GB18030.

    Args:
        open_bytes: opens the file, once for each look at it.
        name: the file's name for messages.

    Raises:
        DataError: the bytes are no text, or are broken; the message has the first broken line's number.
    """
    with open_bytes() as stream:
        head = stream.read(_HEAD)
    for magic, what in _NOT_TEXT:
        if head.startswith(magic):
            raise DataError(f"{name} is not a text file but {what}")
    for mark, codec in _BOMS:
        if head.startswith(mark):
            _check_marked(open_bytes, mark, codec, name)
            return TextEncoding(codec, mark, None if codec == "utf-8" else codec[:6].upper())
    if _is_utf8(open_bytes, head, name):
        return TextEncoding("utf-8")
    _check_gb18030(open_bytes, name)
    return TextEncoding("gb18030", label="GB18030")


@contextmanager
def open_text(open_bytes: OpenBytes, encoding: TextEncoding) -> Iterator[TextIO]:
    """The text of a file, its line ends as they are."""
    with open_bytes() as stream:
        stream.read(len(encoding.mark))
        yield io.TextIOWrapper(stream, encoding.codec, newline="")


def _pieces(open_bytes: OpenBytes, skip: int = 0) -> Iterator[bytes]:
    """The bytes after the first ``skip``, piece by piece, then an empty piece."""
    with open_bytes() as stream:
        stream.read(skip)
        while piece := stream.read(_PIECE):
            yield piece
    yield b""


def _numbered_lines(open_bytes: OpenBytes) -> Iterator[tuple[int, bytes]]:
    """The lines, counted from 1; they end with LF, CRLF or CR."""
    with open_bytes() as stream:
        # Latin-1 gives every byte a character and back, and text streams know all line ends
        for number, line in enumerate(io.TextIOWrapper(stream, "latin-1", newline=""), start=1):
            yield number, line.encode("latin-1")


def _check_marked(open_bytes: OpenBytes, mark: bytes, codec: str, name: str) -> None:
    decoder = codecs.getincrementaldecoder(codec)()
    line, nul_line = 1, 0
    try:
        for piece in _pieces(open_bytes, len(mark)):
            text = decoder.decode(piece, final=not piece)
            if not nul_line and "\0" in text:
                nul_line = line + text[: text.index("\0")].count("\n")
            line += text.count("\n")
    except UnicodeDecodeError as error:
        line += error.object[: error.start].decode(codec, "replace").count("\n")
        raise DataError(
            f"{name}, line {line}: its bytes are not {codec.upper()}, though the file's first bytes say so; "
            "save the file as UTF-8"
        ) from error
    if nul_line:
        raise DataError(f"{name}, line {nul_line}: a NUL character; the file is not plain text or is damaged")


def _is_utf8(open_bytes: OpenBytes, head: bytes, name: str) -> bool:
    """Whether all bytes are UTF-8; a NUL anywhere is refused first."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_utf8 = True
    for piece in _pieces(open_bytes):
        if b"\0" in piece:
            raise _nul_error(open_bytes, head, name)
        if is_utf8:
            try:
                decoder.decode(piece, final=not piece)
            except UnicodeDecodeError:
                is_utf8 = False
    return is_utf8


def _nul_error(open_bytes: OpenBytes, head: bytes, name: str) -> DataError:
    at_even, at_odd = head[::2].count(0), head[1::2].count(0)
    # ASCII in UTF-16 has its NULs all on one side
    if min(at_even, at_odd) == 0 and at_even + at_odd >= 2:
        return DataError(f"{name} looks like UTF-16 without a byte order mark; save it as UTF-8")
    number = next(number for number, line in _numbered_lines(open_bytes) if b"\0" in line)
    return DataError(f"{name}, line {number}: a NUL byte; the file is not plain text or is damaged")


def _check_gb18030(open_bytes: OpenBytes, name: str) -> None:
    """Refuse a file that is not UTF-8 but no GB18030 either: UTF-8 with broken lines, Big5, a mixture."""
    lines = _lines_by_encoding(open_bytes)
    # where most of what is not ASCII is sound UTF-8, a file of one long line has no good lines beside it
    if lines.other <= lines.utf8 or lines.sound > lines.broken:
        raise DataError(
            f"{name}, line {lines.first_other}: its bytes are not UTF-8, though the rest of the file is; "
            "mend or delete that line"
        )
    if lines.first_surely_utf8:
        raise DataError(
            f"{name}, line {lines.first_surely_utf8}: this line is UTF-8, though most lines are GB18030; "
            "a file must be in one encoding"
        )
    if _private_use_share(open_bytes, name) > _PRIVATE_USE_LIMIT:
        raise DataError(
            f"{name}, line {lines.first_other}: its bytes are not UTF-8, and read as GB18030 they are no Chinese text "
            "(Big5, perhaps); save the file as UTF-8"
        )


@dataclass
class _Lines:
    """Lines that are not ASCII: how many are UTF-8, how many are not, and where the first of them stand.

    ``sound`` and ``broken`` count characters: those that only UTF-8 gives, and those that no UTF-8 gives.
    """

    utf8: int = 0
    first_surely_utf8: int = 0
    other: int = 0
    first_other: int = 0
    sound: int = 0
    broken: int = 0


def _lines_by_encoding(open_bytes: OpenBytes) -> _Lines:
    lines = _Lines()
    for number, line in _numbered_lines(open_bytes):
        if line.isascii():
            continue
        text = line.decode("utf-8", "replace")
        lines.sound += _count(_SURE_IN_UTF8, text)
        lines.broken += text.count("\ufffd")
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            lines.other += 1
            lines.first_other = lines.first_other or number
            continue
        lines.utf8 += 1
        # a GB18030 character can pass for a two-byte UTF-8 character, two in a row hardly for Han characters
        if not lines.first_surely_utf8 and sum(char >= "\u0800" for char in text) >= 2:
            lines.first_surely_utf8 = number
    return lines


def _private_use_share(open_bytes: OpenBytes, name: str) -> float:
    """How much of what is not ASCII lies in the private use area when read as GB18030."""
    private = others = 0
    for number, line in _numbered_lines(open_bytes):
        try:
            text = line.decode("gb18030")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}, line {number}: its bytes are neither UTF-8 nor GB18030; save the file as UTF-8"
            ) from error
        private += _count(_PRIVATE_USE, text)
        others += _count(_NOT_ASCII, text)
    return private / max(1, others)


def _count(characters: re.Pattern[str], text: str) -> int:
    """How many characters of ``text`` are among ``characters``, a pattern of runs."""
    return sum(map(len, characters.findall(text)))
