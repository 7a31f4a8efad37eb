"""The peak memory of training steps of so many rows: ``peak_memory.py MODEL ROWS CASE``; writes kilobytes."""

from __future__ import annotations

import resource
import sys

import numpy as np

from m3e import load
from m3e.records import Kind
from m3e.training.cached_loss import CachedTextLoss
from m3e.training.forward import training_form
from m3e.training.packing import TextBatch
from tests.training.loss_cases import CASES, loss_of


def batch_of(rows: int, kind: Kind) -> TextBatch:
    random = np.random.default_rng(0)
    columns = 4 if kind is Kind.RANKED else 3 if kind is Kind.TRIPLET else 2
    lengths = random.integers(4, 60, columns * rows)
    ids = random.integers(4, 80, int(lengths.sum())).astype(np.int32)
    slots = np.arange(columns * rows).reshape(rows, columns)
    labels = random.random(rows, np.float32) if kind is Kind.SCORED_PAIR else None
    scores = random.random((rows, columns - 1), np.float32)
    return TextBatch(ids, lengths, slots, slots + 1, labels, scores=scores)


def main() -> None:
    model = load(sys.argv[1], device="cpu")
    model.train()
    case = CASES[sys.argv[3]]
    # the table of a guide or teacher is as large for few rows as for many
    inner = loss_of(case, model, batch_of(4096, case.kind).keys)
    batch = batch_of(int(sys.argv[2]), case.kind)
    loss = CachedTextLoss(model, inner, token_budget=4096, kept_tokens=8192, rows_at_once=64)
    with training_form(model):
        for _ in range(2):
            loss(batch).backward()
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\n")


if __name__ == "__main__":
    main()
