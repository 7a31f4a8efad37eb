"""Which licences allow commercial use of a model's weights; what is not listed is unknown, and claims nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

Commercial = Literal["yes", "no", "unknown"]

_YES = {
    *("0bsd", "apache-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "mit", "mulanpsl-2.0", "unlicense"),
    *("cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "odc-by"),
    *("cdla-permissive-1.0", "cdla-permissive-2.0"),
}
_NO_PARTS = ("-nc", "noncommercial", "non-commercial", "research")


def commercial_use(licence: str) -> Commercial:
    """Whether a licence, by its identifier on a hub, allows commercial use."""
    name = "-".join(licence.strip().lower().split())
    if any(part in name for part in _NO_PARTS):
        return "no"
    return "yes" if name in _YES else "unknown"


def strictest(terms: Iterable[str]) -> Commercial:
    """What holds for something that several things went into: ``no`` before ``unknown`` before ``yes``."""
    found = set(terms)
    return cast(Commercial, next((term for term in ("no", "unknown") if term in found), "yes"))
