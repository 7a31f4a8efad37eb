"""What pydantic found wrong, in one line that names each key."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import ValidationError

Place = Sequence[int | str]


def faults(error: ValidationError, *, place: Callable[[Place], Place] = lambda path: path) -> str:
    """All faults as ``mapping.fields[0].txt: no such key; …``.

    Args:
        place: the keys to name for pydantic's own path.
    """
    return "; ".join(_fault(place(fault["loc"]), fault["type"], fault["msg"]) for fault in error.errors())


def _fault(place: Place, kind: str, message: str) -> str:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
    message = "no such key" if kind == "extra_forbidden" else message.removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
