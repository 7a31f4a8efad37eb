"""The evaluation files that training rows are compared with: those that are here, and those that are named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from m3e.catalogue.cards import DatasetCard
from m3e.catalogue.local import evaluation_files
from m3e.catalogue.shelf import find_card
from m3e.data.card_records import open_rows
from m3e.data.streams import Account
from m3e.data.text_files import is_readable_name
from m3e.errors import DataError
from m3e.files import atomic_file, cache_folder, hash_settings

_ROWS_AT_ONCE = 4096


def evaluation_paths(
    named: Sequence[str],
    cards: Sequence[DatasetCard],
    *,
    folder: Path | None = None,
    raw: Path | None = None,
) -> tuple[list[Path], list[str]]:
    """The files to compare with, and lines about sets that are not here.

    Args:
        named: files, folders, and names of evaluation sets in the catalogue, which are read (from a hub, if
            need be) and kept in the cache.
        cards: the catalogue.
        folder: its dev, test and trial files are compared with.
        raw: evaluation sets whose raw files are in it are too.

    Raises:
        DataError: a named file or set is not there, or is not one for evaluation.
    """
    paths = evaluation_files(folder) if folder is not None else []
    for name in named:
        path = Path(name)
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if is_readable_name(file))
            if not inside:
                raise DataError(f"--against {name}: the folder holds no data files")
            paths += inside
        elif path.exists():
            paths.append(path)
        else:
            paths.append(_materialised(find_card(name, cards), raw))
    chosen = {path.name.split(".")[0] for path in paths}
    shipped = [card for card in cards if card.use == "evaluation" and card.tasks]
    missing = []
    for card in shipped:
        if raw is not None and any(source.path and (raw / source.path).exists() for source in card.sources):
            paths.append(_materialised(card, raw))
        elif _cached(card).is_file():
            paths.append(_cached(card))
        elif card.name not in chosen:
            missing.append(card.name)
    notes = []
    if missing:
        shown = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
        notes.append(
            f"not compared with {len(missing)} evaluation sets of the catalogue that are not on this machine "
            f"({shown}); --against NAME reads one"
        )
    return list(dict.fromkeys(paths)), notes


def _cached(card: DatasetCard) -> Path:
    key = hash_settings(card.model_dump(mode="json"))[:12]
    return cache_folder() / "evaluation" / f"{card.name.replace('/', '__')}.{key}.parquet"


def _materialised(card: DatasetCard, raw: Path | None) -> Path:
    """The texts of an evaluation set, row by row, as a parquet file in the cache."""
    if card.use != "evaluation":
        raise DataError(f"--against {card.name}: this set is for training; name a file, or a set for evaluation")
    path = _cached(card)
    if path.is_file():
        return path
    rows: list[list[str]] = []
    with atomic_file(path) as temporary:
        schema = pa.schema([("text", pa.large_list(pa.large_string()))])
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for row in open_rows(card, raw=raw, account=Account()):
                rows.append([text for value in row.values() for text in _texts(value)])
                if len(rows) >= _ROWS_AT_ONCE:
                    writer.write_table(pa.table({"text": rows}, schema=schema))
                    rows = []
            writer.write_table(pa.table({"text": rows}, schema=schema))
    return path


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [text for item in value for text in _texts(item)] if isinstance(value, list | tuple) else []
