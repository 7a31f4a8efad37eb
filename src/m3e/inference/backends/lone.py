"""The end of the way for one text, in numpy: its calls cost a fraction of torch's, and for one text they add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from m3e.inference.backends import Vectors


def takes_mean(pooling: Any) -> bool:
    """Whether a pooling takes the mean of the tokens, and no other beside it."""
    return pooling.pooling_mode in ("mean", ("mean",))


def ends_in_unit_mean(modules: Sequence[Any]) -> bool:
    """Whether what follows a transformer is the mean of the tokens brought to length 1, and nothing else."""
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    return [type(module) for module in modules] == [Pooling, Normalize] and takes_mean(modules[0])


def unit(vector: np.ndarray[Any, Any]) -> Vectors:
    """One vector brought to length 1, of shape (1, numbers)."""
    length = float(np.sqrt(vector @ vector))
    return np.asarray(vector[None] / max(length, 1e-12), dtype=np.float32)
