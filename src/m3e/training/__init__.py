"""Training models: guarded fine-tuning on a user's own records."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m3e.training.finetuner import FineTuner as FineTuner
    from m3e.training.options import FineTuneOptions as FineTuneOptions
    from m3e.training.strategies import BitFitTraining as BitFitTraining
    from m3e.training.strategies import FullTraining as FullTraining
    from m3e.training.strategies import LoraTraining as LoraTraining
    from m3e.training.strategies import PrefixTraining as PrefixTraining

_HOMES = {
    "BitFitTraining": "m3e.training.strategies",
    "FineTuneOptions": "m3e.training.options",
    "FineTuner": "m3e.training.finetuner",
    "FullTraining": "m3e.training.strategies",
    "LoraTraining": "m3e.training.strategies",
    "PrefixTraining": "m3e.training.strategies",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'm3e.training' has no attribute {name!r}")
