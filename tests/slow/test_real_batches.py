"""Batches over prepared real data: every promise of the plan, as training would meet it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from m3e import load
from m3e.data.pipeline import PipelineOptions
from m3e.data.prepare import run_pipeline
from m3e.data.sets import plan_of_path
from m3e.training.batches import PlanOptions, plan_batches
from m3e.training.packing import joined_mini_batches, padded_mini_batches, padding_share
from m3e.training.planned_loader import PlannedBatches
from m3e.training.sources import read_sources
from m3e.training.tokenise import Tokenisation, build_token_store

pytestmark = [pytest.mark.slow, pytest.mark.realdata]
FILES = ("simclue_pair", "simclue_triplet", "esp_faq_zh_section", "stsb_zh")


def test_batches_of_prepared_real_data(tmp_path: Path) -> None:
    data = Path(os.environ.get("M3E_DATA", ""))
    files = [data / f"{name}.train.parquet" for name in FILES]
    if not all(file.is_file() for file in files):
        pytest.skip("M3E_DATA names no folder with the training files")
    run_pipeline([plan_of_path(file) for file in files], tmp_path / "data", PipelineOptions())
    model = load("m3e-tiny", device="cpu")
    sources = read_sources(tmp_path / "data")
    store = build_token_store(sources, Tokenisation.of(model, sources), tmp_path / "tokens")
    plan = plan_batches(store.sets, PlanOptions(128, alpha=0.5, epochs=2))
    batches = PlannedBatches(plan, store.sets)
    drawn: Counter[tuple[int, int, int]] = Counter()
    tokens = padded = joined = 0
    for number in range(len(plan)):
        batch = batches[number]
        texts = [text for row in batch.keys.tolist() for text in set(row) - {0}]
        assert len(texts) == len(set(texts))
        epoch = int(number >= plan.epochs[0])
        drawn.update((epoch, int(plan.sets[number]), int(row)) for row in plan.rows[number])
        tokens += int(batch.lengths.sum())
        padded += sum(mini.ids.size for mini in padded_mini_batches(batch, 4096, 0))
        joined += sum(mini.ids.size for mini in joined_mini_batches(batch, 4096))
    assert max(drawn.values()) == 1
    assert padding_share(tokens, padded) <= 0.05
    assert padding_share(tokens, joined) == 0
    for epoch in plan.shares:
        for share in epoch:
            assert share.drawn + share.kept_out + share.unplaced == share.rows
            assert abs(share.share - share.wanted) < 1 / plan.epochs[0]
    roots = np.sqrt([share.rows for share in plan.shares[0]])
    assert [share.wanted for share in plan.shares[0]] == pytest.approx((roots / roots.sum()).tolist())
