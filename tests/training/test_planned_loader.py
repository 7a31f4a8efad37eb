"""Batches as the trainer gets them: the same for any number of workers, split evenly over processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e.errors import SettingsError
from m3e.records import Kind
from m3e.training.batches import PlanOptions, plan_batches
from m3e.training.packing import TextBatch
from m3e.training.planned_loader import BATCH, PlannedBatches, planned_loader
from m3e.training.sources import read_sources
from m3e.training.token_store import TokenStore
from m3e.training.tokenise import Tokenisation, build_token_store
from tests.training.prepared import records, write_prepared


@pytest.fixture
def store(mini: Any, tmp_path: Path) -> TokenStore:
    sets = {"faq": records(Kind.PAIR, 90), "ranked": records(Kind.RANKED, 40, seed=1)}
    sources = read_sources(write_prepared(tmp_path / "data", sets))
    return build_token_store(sources, Tokenisation.of(mini, sources), tmp_path / "tokens", workers=1)


def contents(batch: TextBatch) -> tuple[Any, ...]:
    return batch.dataset, batch.ids.tolist(), batch.slots.tolist(), batch.keys.tolist()


def test_workers_change_nothing(store: TokenStore) -> None:
    plan = plan_batches(store.sets, PlanOptions(8, epochs=2))
    batches = PlannedBatches(plan, store.sets)
    alone = [contents(item[BATCH]) for item in planned_loader(batches)]
    assert len(alone) == len(plan) > 20
    assert alone == [contents(batches[number]) for number in range(len(batches))]
    for workers in (1, 2, 4):
        assert [contents(item[BATCH]) for item in planned_loader(batches, workers)] == alone


def test_no_text_twice_in_a_batch_and_no_row_twice_in_an_epoch(store: TokenStore) -> None:
    plan = plan_batches(store.sets, PlanOptions(8))
    seen: set[tuple[int, int]] = set()
    for number, batch in enumerate(PlannedBatches(plan, store.sets)[index] for index in range(len(plan))):
        texts = [text for row in batch.keys.tolist() for text in set(row) - {0}]
        assert len(texts) == len(set(texts))
        rows = {(int(plan.sets[number]), int(row)) for row in plan.rows[number]}
        assert not rows & seen
        seen |= rows


def test_processes_have_even_parts_of_the_same_batch(store: TokenStore) -> None:
    plan = plan_batches(store.sets, PlanOptions(8))
    whole = PlannedBatches(plan, store.sets)
    parts = [PlannedBatches(plan, store.sets, rank, 4) for rank in range(4)]
    for number in range(len(plan)):
        rows = [row for part in parts for row in part[number].keys.tolist()]
        assert rows == whole[number].keys.tolist()
        assert all(len(part[number].slots) == 2 for part in parts)


def test_what_cannot_be_split_or_is_another_stores(store: TokenStore) -> None:
    plan = plan_batches(store.sets, PlanOptions(8))
    with pytest.raises(SettingsError, match="8 rows cannot be split evenly over 3 processes"):
        PlannedBatches(plan, store.sets, 0, 3)
    with pytest.raises(SettingsError, match="planned for faq, ranked"):
        PlannedBatches(plan, store.sets[:1])


def test_lengths_within_a_batch_stay_mixed(store: TokenStore) -> None:
    plan = plan_batches(store.sets, PlanOptions(8))
    faq = store.sets[0]
    tokens = faq.row_tokens()
    spread = np.mean([tokens[rows].std() for rows in plan.rows[plan.sets == 0]])
    assert spread > 0.7 * tokens.std()
