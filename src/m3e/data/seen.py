"""Whether texts were trained on, asked of a filter of texts alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from m3e.data.bloom import FILE_NAME, TextFilter
from m3e.data.contamination import evaluation_keys
from m3e.data.keys import hashes_of_keys
from m3e.errors import DataError

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Seen:
    """What a filter says of a file.

    Attributes:
        rows: of the file.
        rows_seen: rows of which at least one text was seen.
        texts: different texts, by key.
        texts_seen: of those, the ones seen; about one in a hundred that never was is counted too.
    """

    rows: int
    rows_seen: int
    texts: int
    texts_seen: int

    @property
    def share(self) -> float:
        """Of the texts, the share that was seen."""
        return self.texts_seen / self.texts if self.texts else 0.0


def filter_path(place: Path) -> Path:
    """The filter of a data folder, a model folder, or a filter itself.

    Raises:
        DataError: there is none.
    """
    path = place / FILE_NAME if place.is_dir() else place
    if not path.is_file():
        raise DataError(f"{place} has no {FILE_NAME}; m3e data prepare writes one into its output")
    return path


def texts_seen(path: Path, seen: TextFilter) -> Seen:
    """What the filter says of a file's texts.

    Raises:
        DataError: the file cannot be read.
    """
    rows = rows_seen = 0
    known: dict[str, bool] = {}
    pending = evaluation_keys(path)
    while chunk := [[key for side in sides for key in side if key] for sides in islice(pending, _ROWS_AT_ONCE)]:
        new = list(dict.fromkeys(key for keys in chunk for key in keys if key not in known))
        known.update(zip(new, seen.has_hashes(hashes_of_keys(new)).tolist(), strict=True))
        rows += len(chunk)
        rows_seen += sum(any(known[key] for key in keys) for keys in chunk)
    return Seen(rows, rows_seen, len(known), sum(known.values()))
