"""The data sets of a folder with a ``catalogue.csv``, with their licences."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from m3e.errors import DataError

Commercial = Literal["yes", "no", "unknown"]

TRAINING_SPLITS = ("train", "train_partial", "all", "unlabelled")
EVALUATION_SPLITS = ("dev", "test", "trial")


@dataclass(frozen=True)
class LocalSet:
    """One row of ``catalogue.csv`` and the parquet files that belong to it."""

    name: str
    kind: str
    category: str
    language: str
    domain: str
    commercial: Commercial
    licence: str
    source: str
    files: tuple[Path, ...]

    def training_files(self) -> list[Path]:
        """Files that may be trained on, as far as their split goes."""
        return [path for path in self.files if split_of(path) in TRAINING_SPLITS]


def data_folder() -> Path | None:
    """The folder that ``M3E_DATA`` names, where it exists."""
    value = os.environ.get("M3E_DATA")
    return Path(value) if value and Path(value).is_dir() else None


def split_of(path: Path) -> str:
    """The split in ``<name>.<split>.parquet`` or ``<name>.<split>.<part>.parquet``."""
    return path.name.split(".")[1]


def evaluation_files(folder: Path) -> list[Path]:
    """Every file of a dev, test or trial split in the folder."""
    return sorted(path for path in folder.glob("*.parquet") if split_of(path) in EVALUATION_SPLITS)


def read_catalogue(folder: Path) -> list[LocalSet]:
    """The sets that the folder's ``catalogue.csv`` lists, in its order.

    Raises:
        DataError: the file is missing, or a row lacks a column or has an unknown ``commercial``.
    """
    path = folder / "catalogue.csv"
    if not path.is_file():
        raise DataError(f"{path} is missing: name a folder that holds a catalogue.csv")
    by_name: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.parquet")):
        by_name.setdefault(file.name.split(".")[0], []).append(file)
    with path.open(encoding="utf-8", newline="") as stream:
        return [_set(path, line, row, by_name) for line, row in enumerate(csv.DictReader(stream), start=2)]


def _set(path: Path, line: int, row: dict[str, str], by_name: dict[str, list[Path]]) -> LocalSet:
    try:
        commercial = row["commercial"]
        if commercial not in ("yes", "no", "unknown"):
            raise DataError(f"{path}, line {line}: commercial is {commercial!r}; expected yes, no or unknown")
        return LocalSet(
            name=row["name"],
            kind=row["kind"],
            category=row["s2"],
            language=row["language"],
            domain=row["domain"],
            commercial=cast(Commercial, commercial),
            licence=row["licence_as_stated"],
            source=row["source"],
            files=tuple(by_name.get(row["name"], ())),
        )
    except KeyError as error:
        raise DataError(f"{path}, line {line}: column {error} is missing") from error
