"""TOML files that ship with m3e by name, a user's own by path, and single keys set on top of them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from m3e.errors import SettingsError


def names_in(folder: Path) -> list[str]:
    """Names of the TOML files that ship in ``folder``."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def read_toml(name: str, folder: Path, kind: str) -> tuple[dict[str, Any], str]:
    """The tables of the file in ``folder`` called ``name``, else of the file at that path; and the file's name.

    Args:
        kind: what such a file is called in messages, as ``recipe``.

    Raises:
        SettingsError: there is none, or it is not TOML in UTF-8.
    """
    path = folder / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        raise SettingsError(f"there is no {kind} {name!r}; shipped: {', '.join(names_in(folder))}; or name a TOML file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig")), path.name
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path.name}: {error}") from error


def key_and_value(line: str) -> tuple[str, Any]:
    """A ``--set`` line's key, and its value as TOML has it; what is no TOML value is text.

    Raises:
        SettingsError: the line has no ``=`` or no key.
    """
    key, equals, text = line.partition("=")
    if not equals or not key:
        raise SettingsError(f"--set {line}: write key=value")
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key, text
