"""uniem's inference class."""

from __future__ import annotations

from typing import Any

import numpy as np

from m3e import load
from m3e.inference import Encoder


class Uniem:
    """Encodes texts, as uniem's class of this name did; new code takes :class:`m3e.Encoder`."""

    def __init__(self, model: Any) -> None:
        self._encoder = Encoder(model)

    @classmethod
    def from_pretrained(cls, model_name_or_path: str, **_: Any) -> Uniem:
        """Load a name, folder or hub id."""
        return cls(load(model_name_or_path))

    def encode(
        self, sentences: list[str], batch_size: int = 32, progress_bar: Any = "auto"
    ) -> list[np.ndarray[Any, Any]]:
        """One vector a sentence."""
        return list(self._encoder.encode(sentences))

    def encode_single(self, sentence: str) -> np.ndarray[Any, Any]:
        """The vector of one sentence."""
        return np.asarray(self._encoder.encode([sentence])[0])
