"""Where keys come from, and that none is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3e.errors import SettingsError
from m3e.serving import ServeOptions
from m3e.serving.keys import KEYS_VARIABLE, Keys, read_keys


def test_keys_of_options_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys.txt"
    file.write_bytes("\ufeff# of the team\r\nfile-1\r\n\r\n  file-2  \r\n#file-3\r\n".encode())
    monkeypatch.setenv(KEYS_VARIABLE, "env-1, env-2,,option-1")
    assert read_keys(["option-1", "option-2"], file) == (
        "option-1",
        "option-2",
        "file-1",
        "file-2",
        "env-1",
        "env-2",
    )


def test_no_key_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEYS_VARIABLE, raising=False)
    assert read_keys([], None) == ()
    assert not Keys([])
    assert Keys([]).accept(None)
    assert Keys([]).accept("anything")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# only a comment\n", b"   \n"])
def test_a_file_without_a_key_does_not_open_the_server(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys.txt"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"keys\.txt holds no key"):
        read_keys([], file)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.txt cannot be read"):
        read_keys([], tmp_path / "none.txt")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00k")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_keys([], tmp_path / "bytes")


@pytest.mark.parametrize("key", ["", "  ", "two words", "schlüssel", "钥匙", "line\nbreak", "nul\x00", "tab\tin"])
def test_keys_that_no_header_carries_are_refused_without_being_shown(key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_keys([key], None)
    assert "--api-key" in str(refused.value)
    assert not key.strip() or key not in str(refused.value)


def test_only_whole_keys_open() -> None:
    keys = Keys(["alpha", "beta"])
    assert keys.accept("alpha")
    assert keys.accept("beta")
    for wrong in (None, "", "alph", "alphaa", "ALPHA", "alpha beta", "\u0101lpha", "alpha\x00"):
        assert not keys.accept(wrong)


@pytest.mark.parametrize(
    ("headers", "given"),
    [
        ({b"authorization": b"Bearer k"}, "k"),
        ({b"authorization": b"bEaReR k"}, "k"),
        ({b"authorization": b" Bearer  k "}, "k"),
        ({b"authorization": b"Bearer \xe9"}, "é"),
        ({b"api-key": b"k"}, "k"),
        ({b"authorization": b"Bearer a", b"api-key": b"b"}, "a"),
        ({b"authorization": b"Basic a", b"api-key": b"b"}, "b"),
        ({b"authorization": b"Bearer"}, None),
        ({b"authorization": b"Bearer "}, None),
        ({b"authorization": b"k"}, None),
        ({}, None),
    ],
)
def test_where_a_key_stands(headers: dict[bytes, bytes], given: str | None) -> None:
    assert Keys.given(headers) == given


def test_options_do_not_show_keys() -> None:
    assert "secret" not in repr(ServeOptions(keys=("secret",)))
    assert "secret" not in repr(vars(Keys(["secret"])))
