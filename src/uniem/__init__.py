"""A shim that lets code written for uniem 0.2 and 0.3 run on m3e unchanged. It takes the place of the old package."""

from __future__ import annotations

from m3e import __version__
from uniem.finetuner import FineTuner
from uniem.model import Uniem

__all__ = ["FineTuner", "Uniem", "__version__"]
