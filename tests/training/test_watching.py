"""What a person can watch while a stage trains: TensorBoard's files, and batches that are skipped by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e import load
from m3e.machine import Machine
from m3e.training import watched_training
from m3e.training.batches import BatchPlan
from m3e.training.cached_loss import CachedTextLoss
from m3e.training.stages.stage import StageWork
from tests.training.recipes import recipe, run, stage, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("prepared") / "data")


def test_tensorboard_has_every_figure_and_look(mini_folder: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="wants tensorboard: pip install 'm3e[watch]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watched = stage("contrastive", watch={"every": 2})
    report = run(recipe(mini_folder, data, watched), tmp_path / "out").stages["contrastive"]
    assert list((tmp_path / "out" / "1-contrastive" / "log").glob("events.out.tfevents.*"))
    events = EventAccumulator(str(tmp_path / "out" / "1-contrastive" / "log"))
    events.Reload()
    seen = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    assert [step for step, _ in report.losses] == [1, 2, 3, 4]
    assert seen["train/loss"] == pytest.approx({int(step): loss for step, loss in report.losses}, rel=1e-4)
    for name in ("learning_rate", "tokens_per_second", "rows_per_second", "padding", "mfu"):
        assert list(seen[f"train/{name}"]) == [1, 2, 3, 4], name
    assert seen["eval/general"] == pytest.approx({look["step"]: look["general"] for look in report.looks})
    assert list(seen["eval/score"]) == [0, 2, 4]


def test_a_broken_batch_is_skipped_and_named(
    mini_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 30 batches the fourth's loss is no number, and the 26th's is 1000 times the others'."""
    real, calls = CachedTextLoss.forward, []

    def broken(self: CachedTextLoss, batch: Any, labels: Any = None) -> Any:
        calls.append(batch)
        return real(self, batch, labels) * {4: float("nan"), 26: 1000.0}.get(len(calls), 1.0)

    monkeypatch.setattr(CachedTextLoss, "forward", broken)
    long = stage("contrastive", schedule={"steps": 15, "epochs": 2, "lr": 1e-3})
    lines: list[str] = []
    report = run(recipe(mini_folder, data, long), tmp_path / "out", lines)
    said = [line for line in lines if "the step is skipped" in line]
    plan = BatchPlan.load(tmp_path / "out" / "1-contrastive" / "batches")
    for line, number, fault in zip(
        said, (3, 25), ("the loss is nan at", "times the mean of that set's steps before"), strict=True
    ):
        rows = ", ".join(map(str, plan.rows[number].tolist()))
        assert f"batch {number} ({plan.names[plan.sets[number]]}, rows {rows})" in line
        assert fault in line
    assert report.stages["contrastive"].facts["skipped steps"] == 2
    weights = load(report.model, device="cpu").state_dict()
    assert all(np.isfinite(value.numpy()).all() for value in weights.values())


def test_a_skipped_step_changes_nothing(
    mini_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every batch is broken the weights are the start's: the optimizer has not moved them, nor decayed them."""
    real = CachedTextLoss.forward
    monkeypatch.setattr(CachedTextLoss, "forward", lambda *given: real(*given) * float("nan"))
    made = recipe(mini_folder, data, stage("contrastive", watch={"every": 0, "log_with": [], "most_skipped": 9}))
    report = run(made, tmp_path / "out")
    assert report.stages["contrastive"].facts["skipped steps"] == 4
    start, end = (load(folder, device="cpu").state_dict() for folder in (mini_folder, report.model))
    assert all((end[name] == value).all() for name, value in start.items())


def test_lines_say_how_it_goes(mini_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_training, "SECONDS_BETWEEN_LINES", 0.0)
    lines: list[str] = []
    run(recipe(mini_folder, write_data(tmp_path / "data"), stage("contrastive")), tmp_path / "out", lines)
    said = [line for line in lines if line.startswith("step ") and " of 4: loss " in line]
    assert len(said) == 4
    assert all(" tokens/s" in line and line.endswith(" min left") and ", lr " in line for line in said)


def test_a_stage_goes_on_in_what_it_began_in(
    mini_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured the other way after a stop, bf16 stays bf16; the user’s word, and a processor without, decide."""
    model, lines = load(mini_folder, device="cpu"), []

    def chosen(measured: str, precision: str = "auto", bf16: str = "amx") -> str:
        monkeypatch.setattr(
            watched_training, "precision_of", lambda _, wanted: measured if wanted == "auto" else wanted
        )
        monkeypatch.setattr(watched_training, "machine", lambda: Machine(cpu="some", bf16=bf16, threads=2))
        work = StageWork("words", tmp_path, None, None, tmp_path, precision=precision, say=lines.append)
        return watched_training.stage_precision(model, work)

    assert [chosen("bf16"), chosen("fp32")] == ["bf16", "bf16"]
    assert chosen("fp32", "fp32") == "fp32"
    assert chosen("bf16") == "fp32"
    assert chosen("bf16", "bf16") == "bf16"
    assert not lines
    assert chosen("fp32", bf16="none") == "fp32"
    assert "began in bf16, in which this processor is slow; it goes on in fp32" in lines[0]
