"""Bytes of a text file to text: the encoding is decided by the bytes, never by the system."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

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


@dataclass(frozen=True)
class DecodedText:
    """A file's text without its byte order mark, and the encoding where it is not UTF-8."""

    text: str
    encoding: str | None = None


def decode(data: bytes, name: str) -> DecodedText:
    """The text of a file's bytes.

    A byte order mark decides; else the file is UTF-8; else, where most of its lines that are not
    ASCII are not UTF-8 either, it is GB18030.

    Args:
        data: the whole file.
        name: the file's name for messages.

    Raises:
        DataError: the bytes are no text, or are broken; the message has the first broken line's number.
    """
    for magic, what in _NOT_TEXT:
        if data.startswith(magic):
            raise DataError(f"{name} is not a text file but {what}")
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return _decode_with_bom(data[len(bom) :], encoding, name)
    _refuse_nul(data, name)
    try:
        return DecodedText(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        return _decode_gb18030(data, name, line_at(data, error.start))


def line_at(data: bytes, offset: int) -> int:
    """The number, from 1, of the line that holds the byte at ``offset``; lines end with LF, CRLF or CR."""
    before = data[:offset]
    return 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")


def _decode_with_bom(data: bytes, encoding: str, name: str) -> DecodedText:
    label = None if encoding == "utf-8" else encoding[:6].upper()
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = 1 + data[: error.start].decode(encoding, "replace").count("\n")
        raise DataError(
            f"{name}, line {line}: its bytes are not {encoding.upper()}, though the file's first bytes say so; "
            "save the file as UTF-8"
        ) from error
    if "\0" in text:
        line = 1 + text[: text.index("\0")].count("\n")
        raise DataError(f"{name}, line {line}: a NUL character; the file is not plain text or is damaged")
    return DecodedText(text, label)


def _refuse_nul(data: bytes, name: str) -> None:
    first = data.find(b"\0")
    if first < 0:
        return
    head = data[:400]
    at_even, at_odd = head[::2].count(0), head[1::2].count(0)
    # ASCII in UTF-16 has its NULs all on one side
    if min(at_even, at_odd) == 0 and at_even + at_odd >= 2:
        raise DataError(f"{name} looks like UTF-16 without a byte order mark; save it as UTF-8")
    raise DataError(f"{name}, line {line_at(data, first)}: a NUL byte; the file is not plain text or is damaged")


def _decode_gb18030(data: bytes, name: str, broken_line: int) -> DecodedText:
    """The text of a file that is not UTF-8, unless it is UTF-8 with broken lines."""
    lines = _lines_by_encoding(data)
    if len(lines.other) <= len(lines.utf8) or _is_damaged_utf8(data):
        raise DataError(
            f"{name}, line {broken_line}: its bytes are not UTF-8, though the rest of the file is; "
            "mend or delete that line"
        )
    if lines.surely_utf8:
        raise DataError(
            f"{name}, line {lines.surely_utf8[0]}: this line is UTF-8, though most lines are GB18030; "
            "a file must be in one encoding"
        )
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}, line {line_at(data, error.start)}: its bytes are neither UTF-8 nor GB18030; "
            "save the file as UTF-8"
        ) from error
    if _private_use_share(text) > _PRIVATE_USE_LIMIT:
        raise DataError(
            f"{name}, line {broken_line}: its bytes are not UTF-8, and read as GB18030 they are no Chinese text "
            "(Big5, perhaps); save the file as UTF-8"
        )
    return DecodedText(text, "GB18030")


@dataclass(frozen=True)
class _Lines:
    """Numbers of the lines that are not ASCII: those that are UTF-8, of them those beyond doubt, and the others."""

    utf8: list[int]
    surely_utf8: list[int]
    other: list[int]


def _lines_by_encoding(data: bytes) -> _Lines:
    lines = _Lines([], [], [])
    for number, line in enumerate(data.splitlines(), start=1):
        if line.isascii():
            continue
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            lines.other.append(number)
            continue
        lines.utf8.append(number)
        # a GB18030 character can pass for a two-byte UTF-8 character, two in a row hardly for Han characters
        if sum(char >= "\u0800" for char in text) >= 2:
            lines.surely_utf8.append(number)
    return lines


def _is_damaged_utf8(data: bytes) -> bool:
    """Whether most of what is not ASCII is sound UTF-8: a file of one long line has no good lines beside it."""
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    return _count(_SURE_IN_UTF8, text) > broken


def _private_use_share(text: str) -> float:
    return _count(_PRIVATE_USE, text) / max(1, _count(_NOT_ASCII, text))


def _count(characters: re.Pattern[str], text: str) -> int:
    """How many characters of ``text`` are among ``characters``, a pattern of runs."""
    return sum(map(len, characters.findall(text)))
