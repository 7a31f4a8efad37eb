"""How fast a model turned a task's texts into vectors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from m3e.machine import machine


@dataclass
class Speed:
    """Texts encoded so far, the seconds that took, and how many were cut to the model's length.

    ``cut`` is ``None`` where the model does not count. ``kept`` says that some vectors were there already: the
    time that it took to read them is nobody's speed.
    """

    texts: int = 0
    seconds: float = 0.0
    cut: int | None = None
    kept: bool = False

    @property
    def texts_per_second(self) -> float | None:
        """The mean rate; ``None`` where nothing was encoded, or not all of it."""
        return self.texts / self.seconds if self.texts and self.seconds > 0 and not self.kept else None

    @property
    def truncated(self) -> float | None:
        """The share of texts that were cut; ``None`` where nobody counted."""
        return self.cut / self.texts if self.texts and self.cut is not None else None


@contextmanager
def watch_encoding(scorer: Any) -> Iterator[Speed]:
    """Yield a :class:`Speed` that counts what ``scorer.encode`` does inside the block."""
    speed = Speed()
    original = getattr(scorer, "encode", None)
    if original is None:
        yield speed
        return

    def encode(*arguments: Any, **options: Any) -> Any:
        from_cache = _from_cache(scorer)
        start = time.perf_counter()
        vectors = original(*arguments, **options)
        speed.seconds += time.perf_counter() - start
        speed.texts += len(vectors)
        speed.kept |= _from_cache(scorer) > from_cache
        cut = getattr(getattr(scorer, "encoder", None), "cut", None)
        if isinstance(cut, int):
            speed.cut = (speed.cut or 0) + cut
        return vectors

    own = "encode" in vars(scorer)
    scorer.encode = encode
    try:
        yield speed
    finally:
        if own:
            scorer.encode = original
        else:
            del scorer.encode


def hardware_of(scorer: Any) -> str:
    """The GPU's or the processor's name (with its threads) that a model runs on; ``an endpoint`` where nobody knows."""
    from m3e.inference import ApiEncoder

    encoder = getattr(scorer, "encoder", None)
    if isinstance(encoder, ApiEncoder):
        return "an endpoint"
    device = getattr(getattr(encoder, "model", None), "device", None)
    if getattr(device, "type", "cpu") == "cuda":
        import torch

        return str(torch.cuda.get_device_name(device))
    here = machine()
    return f"{here.cpu}, {here.threads} threads"


def dtype_of(scorer: Any) -> str | None:
    """The dtype that a model computes in; ``None`` where it has no encoder of ours."""
    dtype: str | None = getattr(getattr(scorer, "encoder", None), "dtype", None)
    return dtype


def _from_cache(scorer: Any) -> int:
    """Texts so far whose vectors an endpoint's encoder had kept."""
    return int(getattr(getattr(getattr(scorer, "encoder", None), "usage", None), "cached", 0))
