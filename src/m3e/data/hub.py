"""Data sets of a hub, by id."""

from __future__ import annotations

import os
import re
from typing import Any

from m3e.errors import DataError, HubUnreachableError, first_line

TIMEOUT_SECONDS = 10

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


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def _is_offline() -> bool:
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in names)


def _hub_answers() -> bool:
    """Whether anything at all answers at the hub's address; asked through the hub client, which knows of proxies."""
    from huggingface_hub import get_session

    try:
        get_session().head(_endpoint(), timeout=TIMEOUT_SECONDS)
    except Exception:  # requests' and httpx' errors have no base in common
        return False
    return True
