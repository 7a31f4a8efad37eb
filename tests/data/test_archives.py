import gzip
import io
import tarfile
import zipfile

import pytest

from m3e.data.archives import extract_members, is_archive
from m3e.errors import DataError


def take(archive, tmp_path, is_wanted=lambda name: True):
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    found = []
    for name, path in extract_members(archive, is_wanted, scratch):
        assert list(scratch.iterdir()) == [path]
        found.append((name, path.suffix, path.read_bytes()))
    assert list(scratch.iterdir()) == []
    return found


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def write_tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.tar.xz", "w:xz")],
)
def test_members_of_a_tar_come_one_at_a_time(tmp_path, name, mode):
    archive = write_tar(tmp_path / name, {"./d/a.jsonl": b"1", "d/b.csv": b"2" * 3000, "c.txt": b"3"}, mode)
    assert is_archive(archive)
    found = take(archive, tmp_path, lambda member: not member.endswith(".txt"))
    assert found == [("d/a.jsonl", ".jsonl", b"1"), ("d/b.csv", ".csv", b"2" * 3000)]


def test_members_of_a_zip_without_what_macos_adds(tmp_path):
    members = {"d/": b"", "d/a.json": b"1", "__MACOSX/d/._a.json": b"x", "d/._b.json": b"x", "b.jsonl.gz": b"2"}
    archive = write_zip(tmp_path / "a.zip", members)
    assert take(archive, tmp_path) == [("d/a.json", ".json", b"1"), ("b.jsonl.gz", ".gz", b"2")]


def test_an_archive_whose_name_says_nothing_is_told_by_its_bytes(tmp_path):
    zipped = write_zip(tmp_path / "download", {"a.csv": b"1"})
    tarred = write_tar(tmp_path / "fetched", {"a.csv": b"2"})
    plain = tmp_path / "rows"
    plain.write_text("a,b\n1,2\n")
    assert [is_archive(path) for path in (zipped, tarred, plain, tmp_path / "absent")] == [True, True, False, False]
    assert take(zipped, tmp_path) == [("a.csv", ".csv", b"1")]
    assert take(tarred, tmp_path) == [("a.csv", ".csv", b"2")]
    assert not is_archive(tmp_path / "a.jsonl.gz")


@pytest.mark.parametrize("encoding", ["gbk", "utf-8"])
def test_chinese_names_without_the_utf8_flag(tmp_path, encoding):
    name = "法律知道\\问答.csv"
    stand_in = name.encode(encoding).decode("cp437")
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("x" * len(name.encode(encoding)), b"1")
    data = archive.read_bytes().replace(b"x" * len(name.encode(encoding)), name.encode(encoding))
    archive.write_bytes(data)
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == [stand_in]
    assert take(archive, tmp_path) == [("法律知道/问答.csv", ".csv", b"1")]


@pytest.mark.parametrize("name", ["../a.csv", "/etc/a.csv", "d/../../a.csv", "C:\\a.csv"])
def test_a_member_that_points_outside_is_refused(tmp_path, name):
    for archive in (write_zip(tmp_path / "a.zip", {name: b"1"}), write_tar(tmp_path / "a.tar.gz", {name: b"1"})):
        if "\\" in name and archive.suffix == ".gz":
            continue
        with pytest.raises(DataError, match=f"{archive.name} has a member .* outside"):
            take(archive, tmp_path)


def test_links_in_a_tar_are_not_followed(tmp_path):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as file:
        info = tarfile.TarInfo("a.csv")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(info)
    assert take(archive, tmp_path) == []


def test_a_zip_that_is_none_or_cut_off_or_changed(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"a.csv": bytes(range(256)) * 40})
    data = archive.read_bytes()
    for bad in (b"<html>", data[: len(data) // 2], data[:60] + b"\xff" * 8 + data[68:]):
        archive.write_bytes(bad)
        with pytest.raises(DataError, match=r"a\.zip.* damaged or cut off"):
            take(archive, tmp_path)


def test_a_zip_with_a_password(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"a.csv": b"1"})
    data = bytearray(archive.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.zip: a\.csv .*password"):
        take(archive, tmp_path)


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
def test_a_tar_gz_that_is_cut_off(tmp_path, keep):
    noise = b"".join(str(number * 7919 % 65521).encode() for number in range(20_000))
    archive = write_tar(tmp_path / "a.tar.gz", {"a.csv": noise, "b.csv": noise})
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DataError, match=r"a\.tar\.gz.* damaged or cut off"):
        take(archive, tmp_path)


def test_a_gz_that_is_no_tar(tmp_path):
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(gzip.compress(b"not a tar"))
    with pytest.raises(DataError, match=r"a\.tar\.gz.* damaged or cut off"):
        take(archive, tmp_path)
