"""uniem's names of the training strategies."""

from __future__ import annotations

import warnings
from typing import Any

from m3e.training.strategies import BitFitTraining, PrefixTraining
from m3e.training.strategies import FullTraining as FullParametersTraining

__all__ = ["BitFitTraining", "FullParametersTraining", "PrefixTraining"]


def __getattr__(name: str) -> Any:
    if name == "BitFitTrainging":
        warnings.warn("BitFitTrainging is now spelt BitFitTraining", DeprecationWarning, stacklevel=2)
        return BitFitTraining
    raise AttributeError(f"module 'uniem.training_strategy' has no attribute {name!r}")
