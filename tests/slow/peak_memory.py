"""The peak memory of training steps of so many rows: ``peak_memory.py MODEL ROWS``; writes kilobytes."""

from __future__ import annotations

import resource
import sys

import numpy as np

from m3e import load
from m3e.training.cached_loss import CachedTextLoss
from m3e.training.forward import training_form
from m3e.training.losses import InBatchSoftmaxLoss
from m3e.training.packing import TextBatch


def batch_of(rows: int) -> TextBatch:
    random = np.random.default_rng(0)
    lengths = random.integers(4, 60, 2 * rows)
    ids = random.integers(4, 80, int(lengths.sum())).astype(np.int32)
    slots = np.arange(2 * rows).reshape(rows, 2)
    return TextBatch(ids, lengths, slots, slots + 1)


def main() -> None:
    model = load(sys.argv[1], device="cpu")
    model.train()
    loss = CachedTextLoss(model, InBatchSoftmaxLoss(model, 0.05), token_budget=4096, kept_tokens=8192, rows_at_once=64)
    with training_form(model):
        for _ in range(2):
            loss(batch_of(int(sys.argv[2]))).backward()
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\n")


if __name__ == "__main__":
    main()
