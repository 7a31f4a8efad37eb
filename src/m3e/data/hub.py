"""Data sets of a hub, by id."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from m3e.data.labels import is_entailment_class
from m3e.data.tables import Row, Table
from m3e.errors import DataError, HubUnreachableError, first_line

TIMEOUT_SECONDS = 10
_HUB = "https://huggingface.co"

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(:[\w.-]+)?", re.ASCII)


def is_hub_id(text: str) -> bool:
    """Whether ``text`` has the form ``org/name`` or ``org/name:config``."""
    return _HUB_ID.fullmatch(text) is not None


def load_hub_dataset(hub_id: str) -> Any:
    """The ``datasets.DatasetDict`` of a hub id, from the hub or from what an earlier call kept.

    Args:
        hub_id: ``org/name``, or ``org/name:config`` where a data set has several configurations.

    Raises:
        HubUnreachableError: the hub does not answer, or offline mode is set and nothing was kept.
        DataError: the hub has no such data set, or it cannot be loaded.
    """
    offline = _is_offline()
    if not offline and not _hub_answers():
        raise HubUnreachableError(
            f"there is no file or folder {hub_id} here, and the hub {_endpoint()} cannot be reached to look for a "
            "data set of that name; set HF_ENDPOINT to a mirror to use another hub"
        )
    import datasets

    path, _, config = hub_id.partition(":")
    try:
        return datasets.load_dataset(path, config or None)
    except Exception as error:  # the libraries below raise whatever they like
        if offline:
            raise HubUnreachableError(
                f"there is no file or folder {hub_id} here, nor a data set of that name in the cache, and "
                "HF_HUB_OFFLINE forbids to ask the hub; unset it (and set HF_ENDPOINT to use a mirror)"
            ) from error
        reason = first_line(error)
        raise DataError(f"the data set {hub_id} cannot be loaded from {_endpoint()}: {reason}") from error


@dataclass(frozen=True)
class HubSplit:
    """A split of a hub's data set, read from the hub as its rows are asked for.

    Attributes:
        table: reading its rows again fetches them again.
        class_names: of columns that hold a class; of inference, the rows hold the names, of others the numbers.
    """

    table: Table
    class_names: dict[str, tuple[str, ...]]


def stream_hub_splits(
    hub_id: str, splits: Sequence[str], *, config: str | None = None, revision: str | None = None
) -> list[HubSplit]:
    """The splits of a hub's data set, none of whose rows but the first are fetched yet.

    Args:
        hub_id: ``org/name``, or a name of the hub's own.
        splits: names of splits, as ``datasets`` reads them.
        config: where a data set has several configurations.
        revision: a branch, tag or commit.

    Raises:
        HubUnreachableError: the hub does not answer, or offline mode is set and nothing was kept.
        DataError: the hub has no such data set, configuration, revision or split, or it cannot be loaded.
    """
    offline = _is_offline()
    if not offline and not _hub_answers():
        raise HubUnreachableError(f"the hub {_endpoint()} cannot be reached; set HF_ENDPOINT to use a mirror")
    import datasets

    found = []
    for split in splits:
        try:
            dataset = datasets.load_dataset(hub_id, config, split=split, revision=revision, streaming=True)
            found.append(_hub_split(dataset, " ".join(filter(None, (hub_id, config, split)))))
        except Exception as error:  # the libraries below raise whatever they like
            if offline:
                raise HubUnreachableError(
                    "it is not in the cache, and HF_HUB_OFFLINE forbids to ask the hub"
                ) from error
            raise DataError(f"{_endpoint()} does not give {hub_id}: {first_line(error)}") from error
    return found


def _hub_split(dataset: Any, name: str) -> HubSplit:
    first = next(iter(dataset), None)
    if first is None:
        raise DataError(f"{name} has no rows")
    features = dataset.features or {}
    columns = tuple(features) or tuple(first)
    names = {column: tuple(getattr(feature, "names", None) or ()) for column, feature in features.items()}
    class_names = {column: found for column, found in names.items() if found}
    inference = {column: found for column, found in class_names.items() if any(map(is_entailment_class, found))}
    table = Table(name, columns, _HubRows(dataset, name, inference), is_uniform=bool(features))
    return HubSplit(table, class_names)


@dataclass(frozen=True)
class _HubRows:
    dataset: Any
    name: str
    class_names: Mapping[str, tuple[str, ...]]

    def __iter__(self) -> Iterator[Row]:
        rows = iter(self.dataset)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:  # of the network, of Arrow, of the formats below
                raise DataError(f"{self.name}: reading from {_endpoint()} broke off: {first_line(error)}") from error
            yield self._named(row)

    def _named(self, row: Mapping[str, Any]) -> Row:
        if not self.class_names:
            return row
        values = dict(row)
        for column, names in self.class_names.items():
            number = values.get(column)
            if isinstance(number, int) and 0 <= number < len(names):
                values[column] = names[number]
        return values


def mirrored(url: str) -> str:
    """A URL of the hub at the mirror that ``HF_ENDPOINT`` names; any other as it is."""
    return f"{_endpoint().rstrip('/')}/{url.removeprefix(f'{_HUB}/')}" if url.startswith(f"{_HUB}/") else url


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or _HUB


def _is_offline() -> bool:
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in names)


def _hub_answers() -> bool:
    """Whether anything at all answers at the hub's address; asked once in a run, as many sets may want to know."""
    return _answers(_endpoint())


@cache
def _answers(endpoint: str) -> bool:
    from huggingface_hub import get_session  # the hub's client knows of proxies

    try:
        get_session().head(endpoint, timeout=TIMEOUT_SECONDS)
    except Exception:  # requests' and httpx' errors have no base in common
        return False
    return True
