"""Vectors of the texts of planned batches: each text once, and a stopped run goes on as it began."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3e.inference import Encoder
from m3e.models import load
from m3e.training import planned_vectors as module
from m3e.training.batches import PlanOptions, plan_batches
from m3e.training.planned_run import chosen_sources
from m3e.training.planned_vectors import planned_vectors
from m3e.training.recipe_parts import Rows
from m3e.training.rows import text_id
from m3e.training.token_store import TokenStore
from m3e.training.tokenise import Tokenisation, build_token_store
from tests.conftest import pair_rows
from tests.training.recipes import write_data


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEXTS_A_PART", 32)


@pytest.fixture
def planned(mini_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """The arguments that say which texts are wanted."""
    sources = chosen_sources(write_data(tmp_path / "data"), Rows(sets=("faq",)), ("pair",), "stage")
    model = load(mini_folder)
    store: TokenStore = build_token_store(sources, Tokenisation.of(model, sources), tmp_path / "tokens", workers=1)
    plan = plan_batches(store.sets, PlanOptions(8, seed=1))
    return {"sources": sources, "store": store, "plan": plan, "negatives": 0, "one_prompt": True}


def encoder(folder: Path, dtype: Any) -> Encoder:
    return Encoder(load(folder), backend="torch", dtype=dtype)


def test_every_text_once(mini_folder: Path, planned: dict[str, Any], tmp_path: Path) -> None:
    made = encoder(mini_folder, "fp32")
    ids, vectors = planned_vectors(made, folder=tmp_path / "vectors", **planned)
    texts = list({text: None for row in pair_rows(64) for text in (row["text"], row["text_pos"])})
    assert sorted(ids.tolist()) == sorted(text_id(text) for text in texts)
    expected = made.encode_query(texts)
    place = {key: at for at, key in enumerate(ids.tolist())}
    found = vectors[[place[text_id(text)] for text in texts]]
    assert np.abs(found - expected / np.linalg.norm(expected, axis=1, keepdims=True)).max() < 1e-3


def test_a_stopped_run_goes_on_in_the_type_it_began_with(
    mini_folder: Path, planned: dict[str, Any], tmp_path: Path
) -> None:
    whole = planned_vectors(encoder(mini_folder, "fp32"), folder=tmp_path / "whole", **planned)
    other = planned_vectors(encoder(mini_folder, "bf16"), folder=tmp_path / "other", **planned)
    assert not np.array_equal(whole[1], other[1])

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    said: list[str] = []
    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        planned_vectors(encoder(mini_folder, "fp32"), folder=tmp_path / "stopped", say=stop, **planned)
    torch.set_num_threads(threads + 1)
    try:
        again = planned_vectors(encoder(mini_folder, "bf16"), folder=tmp_path / "stopped", say=said.append, **planned)
    finally:
        torch.set_num_threads(threads)
    assert len(said) == math.ceil(len(whole[0]) / 32) - 1, "a part was made again, or left out"
    assert np.array_equal(again[0], whole[0])
    assert np.abs(again[1].astype(np.float32) - whole[1]).max() < 1e-4
    assert np.abs(other[1].astype(np.float32) - whole[1]).max() > 1e-4
