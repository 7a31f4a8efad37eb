"""What runs a model: token ids in, vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Vectors = np.ndarray[Any, np.dtype[np.float32]]


class Backend(Protocol):
    """A model made ready to run.

    Attributes:
        name: ``torch``, ``openvino``, ``onnx`` or ``static``.
        dtype: of the weights while they multiply: ``fp32``, ``bf16`` or ``int8``.
        packs: whether it needs no padding.
        token_budget: padded tokens a call that it does best with.
    """

    name: str
    dtype: str
    packs: bool
    token_budget: int

    def __call__(self, ids: Sequence[Sequence[int]], prompt: int = 0) -> Vectors:
        """One fp32 vector a text; the pooling leaves out the first ``prompt`` tokens where the model says so."""
        ...
