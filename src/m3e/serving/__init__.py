"""A model behind OpenAI's API: batches across requests, keys, limits, metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m3e.serving.app import create_app as create_app
    from m3e.serving.options import ServeOptions as ServeOptions
    from m3e.serving.server import serve as serve

_HOMES = {"ServeOptions": "options", "create_app": "app", "serve": "server"}

__all__ = ["ServeOptions", "create_app", "serve"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"m3e.serving.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'm3e.serving' has no attribute {name!r}")
