"""The data sets of a folder with a ``catalogue.csv``, as cards with their licences."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from typing import Any

from m3e.catalogue.cards import DatasetCard, parse_card
from m3e.errors import DataError

TRAINING_SPLITS = ("train", "train_partial", "all", "unlabelled")
EVALUATION_SPLITS = ("dev", "test", "trial")

_KINDS = {
    "scored pair": "scored_pair",
    "pair": "pair",
    "triplet": "triplet",
    "NLI": "scored_pair",
    "classification": "classification",
    "retrieval": "retrieval",
}


def data_folder() -> Path | None:
    """The folder that ``M3E_DATA`` names, where it exists."""
    value = os.environ.get("M3E_DATA")
    return Path(value).absolute() if value and Path(value).is_dir() else None


def split_of(path: Path) -> str:
    """The split in ``<name>.<split>.parquet`` or ``<name>.<split>.<part>.parquet``; empty where there is none."""
    parts = path.name.split(".")
    return parts[1] if len(parts) > 2 else ""


def evaluation_files(folder: Path) -> list[Path]:
    """Every file of a dev, test or trial split in the folder that holds texts, and not only ids."""
    return sorted(
        path
        for path in folder.glob("*.parquet")
        if split_of(path) in EVALUATION_SPLITS and not path.name.endswith((".qrels.parquet", ".candidates.parquet"))
    )


def training_files(folder: Path) -> dict[str, list[Path]]:
    """Files that may be trained on as far as their split goes, by the name of their set."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.parquet")):
        if split_of(path) in TRAINING_SPLITS and len(path.name.split(".")) == 3:  # corpus, queries, qrels have a part
            found.setdefault(path.name.split(".")[0], []).append(path)
    return found


def read_catalogue(folder: Path) -> list[DatasetCard]:
    """A card for each set that the folder's ``catalogue.csv`` lists, in its order.

    A set without a training file is one for evaluation.

    Raises:
        DataError: the file is missing, or a row lacks a column or has a value that a card cannot hold.
    """
    path = folder / "catalogue.csv"
    if not path.is_file():
        raise DataError(f"{path} is missing: name a folder that holds a catalogue.csv")
    training = training_files(folder)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [_card(path, line, row, training.get(row.get("name") or "", [])) for line, row in enumerate(rows, start=2)]


def _card(path: Path, line: int, row: dict[str, str], files: list[Path]) -> DatasetCard:
    where = f"{path.name}, line {line}"
    try:
        stated = row["licence_as_stated"] or "not stated"
        category = _category(row["s2"], row["language"])
        values: dict[str, Any] = {
            "name": row["name"],
            "title": row["name"],
            "description": f"{row['kind']}, {row['domain']}",
            "use": "train" if files else "evaluation",
            "kind": next((kind for start, kind in _KINDS.items() if row["kind"].startswith(start)), "text"),
            "category": category,
            "symmetric": category == "s2s" and not re.search("->", row["kind"]),
            "languages": _languages(row["language"]),
            "domain": row["domain"],
            "provider": row["source"],
            "rows": _rows(row.get("rows_per_split") or "", TRAINING_SPLITS if files else EVALUATION_SPLITS),
            "licence": {
                "stated": stated,
                "commercial": row["commercial"],
                "reason": row["commercial_in_words"] or stated,
                "source": row["source"],
            },
            "sources": [{"path": str(file), "part": file.name} for file in files],
        }
    except KeyError as error:
        raise DataError(f"{where}: column {error} is missing") from error
    if row["kind"].startswith("NLI"):
        values["mapping"] = {
            "labels": {"entailment": 2, "neutral": 1, "contradiction": 0},
            "fields": [{"sentence1": "sentence1", "sentence2": "sentence2", "label": "label"}],
        }
    return parse_card(values, where)


def _rows(stated: str, splits: tuple[str, ...]) -> int | None:
    """The rows of some splits in ``train 34334 dev 4316``; ``None`` where none of them is named."""
    counts = dict(re.findall(r"(\w+) ([\d,]+)", stated))
    return sum(int(counts[split].replace(",", "")) for split in splits if split in counts) or None


def _category(stated: str, language: str) -> str:
    """The category that a set's own words come to: code beside text, a short text beside a long one, or two alike."""
    if "s2c" in stated or "+" in language:
        return "s2c"
    return "s2p" if "p2p" in stated or "s2p" in stated else "s2s"


def _languages(stated: str) -> list[str]:
    """Codes in ``zh-en``, ``zh (classical/modern)``, ``en + python``."""
    spoken = [word for word in re.split(r"[^a-z]+", stated.lower()) if word in ("zh", "en")]
    return [*dict.fromkeys(spoken), *(["code"] if "+" in stated else [])]
