"""m3e: Chinese-first text embeddings. Make models, judge them, put them to work.

Importing this package is cheap: each name below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m3e.evaluation import evaluate as evaluate
    from m3e.inference import Encoder as Encoder
    from m3e.models import load as load
    from m3e.training import FineTuner as FineTuner

try:
    __version__ = version("m3e")
except PackageNotFoundError:  # used from a source tree that is not installed
    __version__ = "0+unknown"

_HOMES = {
    "Encoder": "m3e.inference",
    "FineTuner": "m3e.training",
    "evaluate": "m3e.evaluation",
    "load": "m3e.models",
}

__all__ = ["Encoder", "FineTuner", "__version__", "errors", "evaluate", "load", "records"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in ("errors", "records"):
        return importlib.import_module(f"m3e.{name}")
    raise AttributeError(f"module 'm3e' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
