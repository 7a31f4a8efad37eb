import codecs
import io
from functools import partial
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3e.data import encodings
from m3e.data.encodings import decode, find_encoding, open_text
from m3e.errors import DataError

CHINESE = "text,text_pos\r\n借书证怎么补办,带身份证到服务台\r\n閱覽室幾點關門,每晚九点\r\n𠮷野家在几楼,在三楼东侧\r\n"

TRADITIONAL = (
    "圖書館的開放時間是什麼\n"
    "請問怎樣辦理借書證\n"
    "一個人最多可以借幾本書\n"
    "書本逾期未還會被罰款嗎\n"
    "我們在下午六點之前都有人值班\n"
)


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (CHINESE.encode("utf-8"), None),
        (CHINESE.encode("utf-8-sig"), None),
        (codecs.BOM_UTF16_LE + CHINESE.encode("utf-16-le"), "UTF-16"),
        (codecs.BOM_UTF16_BE + CHINESE.encode("utf-16-be"), "UTF-16"),
        (codecs.BOM_UTF32_LE + CHINESE.encode("utf-32-le"), "UTF-32"),
        (CHINESE.encode("gb18030"), "GB18030"),
        (b"plain ASCII\n", None),
        (b"", None),
    ],
)
def test_the_bytes_decide(data, encoding):
    decoded = decode(data, "a.csv")
    assert decoded.encoding == encoding
    assert decoded.text == (CHINESE if len(data) > 20 else data.decode("ascii"))


def test_a_single_gb18030_line_among_ascii_lines_is_enough():
    data = b"id,text\n1,one\n2," + "两本书".encode("gb18030") + b"\n3,three\n"
    assert decode(data, "a.csv").text.splitlines()[2] == "2,两本书"


def test_one_broken_line_among_utf8_lines_is_named():
    lines = [line.encode() for line in ("问题,答案", "几点开门,九点", "几点关门,六点", "周末呢,照常")]
    lines[2] = "几点关门,六点".encode("gb18030")
    with pytest.raises(DataError, match=r"a\.csv, line 3\b.*not UTF-8"):
        decode(b"\r\n".join(lines), "a.csv")


def test_a_cut_character_in_one_long_line_is_not_taken_for_gb18030():
    data = '[{"text": "阅览室几点关门", "text_pos": "每晚九点关门"}]'.encode()
    cut = data[: data.index("门".encode()) + 2] + data[data.index("门".encode()) + 3 :]
    with pytest.raises(DataError, match=r"b\.json, line 1\b.*not UTF-8"):
        decode(cut, "b.json")


def test_accented_latin_lines_with_one_broken_line_are_not_taken_for_gb18030():
    lines = ["où est le café".encode(), "déjà vu".encode(), "voilà l'été".encode("latin-1"), "à côté".encode()]
    with pytest.raises(DataError, match="line 3"):
        decode(b"\n".join(lines), "c.csv")


def test_one_utf8_line_among_gb18030_lines_is_named():
    lines = ["问题一", "问题二的全文", "问题三的全文"]
    data = b"\n".join([lines[0].encode("gb18030"), lines[1].encode(), lines[2].encode("gb18030")])
    with pytest.raises(DataError, match=r"line 2: this line is UTF-8, though most lines are GB18030"):
        decode(data, "d.csv")


@pytest.mark.parametrize("line", [*TRADITIONAL.splitlines(), TRADITIONAL])
def test_big5_is_refused_rather_than_read_as_mojibake(line):
    with pytest.raises(DataError, match=r"e\.csv, line 1"):
        decode(line.encode("big5"), "e.csv")


def test_bytes_that_are_in_neither_encoding_are_named():
    data = "第一行文字\n第二行文字\n".encode("gb18030") + b"caf\xe9 au lait\n"
    with pytest.raises(DataError, match=r"f\.csv, line 3: .*neither UTF-8 nor GB18030"):
        decode(data, "f.csv")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_refused_by_name(encoding):
    with pytest.raises(DataError, match="UTF-16 without a byte order mark"):
        decode(CHINESE.encode(encoding), "g.csv")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04rest", "CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0rest", "CSV UTF-8"),
        (b"PAR1rest", r"\.parquet"),
        (b"\x1f\x8brest", r"\.gz"),
        (b"text\nab\x00c\n", "line 2: a NUL"),
        (codecs.BOM_UTF16_LE + "一\n二\n".encode("utf-16-le")[:-1], "line 2.*UTF-16"),
        (codecs.BOM_UTF8 + b"ok\n\xff\xfe\n", "line 2.*UTF-8"),
        (codecs.BOM_UTF16_LE + "一\n\0\n".encode("utf-16-le"), "line 2: a NUL"),
    ],
)
def test_what_is_no_text_is_refused(data, words):
    with pytest.raises(DataError, match=f"h.csv.*{words}"):
        decode(data, "h.csv")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_are_counted_whatever_ends_them(end):
    for bad in (b"\0", "坏".encode("gb18030")):
        lines = ["一行".encode(), b"two", "三行".encode(), b"four " + bad, "五行".encode()]
        with pytest.raises(DataError, match=r"i\.csv, line 4: "):
            decode(end.join(lines), "i.csv")


MARKS = [b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE]
CODECS = ["utf-8", "gb18030", "utf-16-le", "utf-16-be", "utf-32-le", "big5hkscs"]
TEXTS = st.text(st.sampled_from("aé借书證𠮷\u2028\x85,\n\r"), max_size=12)


@given(
    mark=st.sampled_from(MARKS),
    parts=st.lists(st.tuples(TEXTS, st.sampled_from(CODECS)), max_size=4),
    cut=st.integers(0, 3),
    piece=st.integers(1, 5),
)
def test_where_the_file_is_cut_into_pieces_changes_nothing(mark, parts, cut, piece):
    data = mark + b"".join(text.encode(codec, "ignore") for text, codec in parts)
    data = data[: len(data) - cut]

    def found():
        try:
            encoding = find_encoding(partial(io.BytesIO, data), "a.csv")
        except DataError as error:
            return str(error)
        with open_text(partial(io.BytesIO, data), encoding) as stream:
            assert stream.read() == decode(data, "a.csv").text
        return encoding

    whole = found()
    with mock.patch.object(encodings, "_PIECE", piece):
        assert found() == whole
    if isinstance(whole, encodings.TextEncoding):
        assert data.decode(whole.codec).removeprefix("\ufeff" if mark else "") == decode(data, "a.csv").text
