"""How fast a model turned a task's texts into vectors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Speed:
    """Texts encoded so far, and the seconds that took."""

    texts: int = 0
    seconds: float = 0.0

    @property
    def texts_per_second(self) -> float | None:
        """The mean rate; ``None`` where nothing was encoded."""
        return self.texts / self.seconds if self.texts and self.seconds > 0 else None


@contextmanager
def watch_encoding(scorer: Any) -> Iterator[Speed]:
    """Yield a :class:`Speed` that counts what ``scorer.encode`` does inside the block."""
    speed = Speed()
    original = getattr(scorer, "encode", None)
    if original is None:
        yield speed
        return

    def encode(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        vectors = original(*arguments, **options)
        speed.seconds += time.perf_counter() - start
        speed.texts += len(vectors)
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
