"""The trainer over planned batches: it learns, says how fast, and goes on to the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformerTrainingArguments
from transformers import TrainerCallback

from m3e import load
from m3e.records import Kind, Pair, Record
from m3e.training.batches import PlanOptions, plan_batches
from m3e.training.cached_loss import CachedTextLoss, Work
from m3e.training.flops import model_flops
from m3e.training.guard import trained_weights
from m3e.training.losses import InBatchSoftmaxLoss
from m3e.training.planned_loader import PlannedBatches
from m3e.training.planned_trainer import PlannedTrainer, figures
from m3e.training.sources import read_sources
from m3e.training.token_store import TokenStore
from m3e.training.tokenise import Tokenisation, build_token_store
from tests.conftest import pair_rows
from tests.training.prepared import records, write_prepared


class Stop(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.fixture
def store(mini: Any, tmp_path: Path) -> TokenStore:
    faq: list[Record] = [Pair(**row) for row in pair_rows(60)]
    sets = {"faq": faq, "triplets": records(Kind.TRIPLET, 40, seed=1)}
    sources = read_sources(write_prepared(tmp_path / "data", sets))
    return build_token_store(sources, Tokenisation.of(mini, sources), tmp_path / "tokens", workers=1)


def trainer(
    folder: Path, store: TokenStore, out: Path, *, epochs: int = 2, sets: int = 2, **options: Any
) -> PlannedTrainer:
    torch.manual_seed(0)
    model = load(folder, device="cpu")
    plan = plan_batches(store.sets[:sets], PlanOptions(8, epochs=epochs))
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(out),
        num_train_epochs=1,
        learning_rate=2e-3,
        logging_steps=1,
        save_strategy="steps",
        save_steps=5,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        seed=3,
    )
    loss = CachedTextLoss(model, InBatchSoftmaxLoss(model, 0.05), token_budget=120, kept_tokens=120)
    return PlannedTrainer(model, arguments, loss, PlannedBatches(plan, store.sets[:sets]), **options)


def test_its_steps_are_those_of_a_plain_loop(mini_folder: Path, store: TokenStore, tmp_path: Path) -> None:
    run = trainer(mini_folder, store, tmp_path / "out")
    model = load(mini_folder, device="cpu")
    for each in (model, run.model):
        for module in each.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    steps = len(run.batches)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    loss = CachedTextLoss(model, InBatchSoftmaxLoss(model, 0.05))
    losses = []
    model.train()
    for number in range(steps):
        value = loss(run.batches[number])
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(value.item())
    run.train()
    log = [entry for entry in run.state.log_history if "loss" in entry]
    assert len(log) == steps == run.state.max_steps > 20
    assert [entry["loss"] for entry in log] == pytest.approx(losses, abs=1e-3)
    for entry in log:
        assert entry["tokens_per_second"] > 0
        assert entry["rows_per_second"] > 0
        assert entry["padding"] == 0
        assert 0 < entry["recomputed"] < 1
        assert 0 < entry["mfu"] < 1


def test_it_learns(mini_folder: Path, store: TokenStore, tmp_path: Path) -> None:
    run = trainer(mini_folder, store, tmp_path / "out", epochs=30, sets=1)
    run.train()
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


def test_a_stopped_run_goes_on_to_the_same_bits(mini_folder: Path, store: TokenStore, tmp_path: Path) -> None:
    whole = trainer(mini_folder, store, tmp_path / "whole")
    whole.train()
    stopped = trainer(mini_folder, store, tmp_path / "stopped", callbacks=[Stop(13)])
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    resumed = trainer(mini_folder, store, tmp_path / "stopped")
    torch.rand(100)  # whatever was drawn before must not matter
    resumed.train(resume_from_checkpoint=str(tmp_path / "stopped" / "checkpoint-10"))
    assert resumed.state.global_step == whole.state.global_step
    expected = trained_weights(whole.model)
    found = trained_weights(resumed.model)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    losses = [[entry["loss"] for entry in run.state.log_history if "loss" in entry] for run in (whole, resumed)]
    assert losses[0] == losses[1]


def test_figures_count_tokens_once(mini: Any) -> None:
    work = Work(rows=10, tokens=900, positions=1000, recomputed=250, square=9000)
    found = figures(mini, work, 2.0, 3, "fp32")
    assert found["tokens_per_second"] == 1350
    assert found["rows_per_second"] == 15
    assert found["padding"] == pytest.approx(0.1)
    assert found["recomputed"] == pytest.approx(0.25)


def test_operations_of_a_known_encoder(mini: Any) -> None:
    # two layers of 32 by 64: 4 projections and 2 feed-forward matrices with biases, 2 layer norms
    layer = 4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 2 * 2 * 32
    assert model_flops(mini, 100, 0) == 6 * 2 * layer * 100
    assert model_flops(mini, 0, 50) == 12 * 2 * 32 * 50
