from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from m3e.errors import ModelError
from m3e.evaluation.general import GeneralScore, general_check
from m3e.evaluation.measures import spearman, unit
from m3e.inference import Encoder
from m3e.records import Kind
from m3e.training.guard import Guard, HeldOut, Judgement, reason_to_refuse, trained_weights
from m3e.training.rows import Example


def judgement(step: int = 0, task: float | None = 0.5, general: float = 0.6, spread: float = 0.2) -> Judgement:
    return Judgement(step, task, 0.0, {}, None, GeneralScore(general, general, spread))


@pytest.mark.parametrize(
    ("now", "contrastive", "part"),
    [
        (judgement(general=0.55), True, None),
        (judgement(spread=0.9), True, None),
        (judgement(spread=0.9, general=0.58), True, "alike"),
        (judgement(spread=0.9, general=0.58), False, None),
        (judgement(general=0.45), True, "forgot"),
        (judgement(general=0.45), False, "forgot"),
        (judgement(general=math.nan), True, "finite"),
    ],
)
def test_what_is_refused(now: Judgement, contrastive: bool, part: str | None) -> None:
    reason = reason_to_refuse(judgement(), now, contrastive=contrastive)
    assert (reason is None) == (part is None)
    assert part is None or part in reason


def test_the_best_of_all_looks_is_kept_and_the_start_where_none_was(mini, tmp_path: Path, monkeypatch) -> None:
    guard = Guard(mini, None, tmp_path)
    tasks = {0: 0.5, 1: 0.4, 2: 0.8, 3: 0.6}
    monkeypatch.setattr(guard, "judge", lambda step: judgement(step, tasks[step]))
    bias = mini[0].model.encoder.layer[0].output.dense.bias
    original = bias.detach().clone()
    for step in range(4):
        with torch.no_grad():
            bias.copy_(original + step)
        guard.look(step)
    assert guard.restore().step == 2
    assert torch.equal(bias, original + 2)

    other = Guard(mini, None, tmp_path / "other")
    monkeypatch.setattr(other, "judge", lambda step: judgement(step, 0.5 - step / 10))
    for step in range(2):
        other.look(step)
        with torch.no_grad():
            bias.add_(1)
    assert other.restore().step == 0
    assert torch.equal(bias, original + 2)


def test_a_stopped_runs_looks_are_taken_up(mini, tmp_path: Path, monkeypatch) -> None:
    guard = Guard(mini, None, tmp_path)
    monkeypatch.setattr(guard, "judge", lambda step: judgement(step, 0.5 + step / 100))
    for step in (0, 5, 10):
        guard.look(step)
    again = Guard(mini, None, tmp_path)
    again.resume(7)
    assert [item.step for item in again.judgements] == [0, 5]
    (tmp_path / "guard.json").write_text("{broken")
    with pytest.raises(ModelError, match="--resume"):
        again.resume(7)


def test_a_judgement_survives_json() -> None:
    item = judgement(3, None)
    assert Judgement.from_dict(json.loads(json.dumps(item.as_dict()))) == item


def test_scored_rows_are_judged_by_spearman_and_threshold(mini) -> None:
    rows = [Example((f"今天{at}", f"天气{at}" if at % 2 else f"今天{at}"), float(1 - at % 2)) for at in range(10)]
    encoder = Encoder(mini, dtype="fp32")
    task, _, measures, threshold = HeldOut(rows, Kind.SCORED_PAIR, [], symmetric=True).judge(encoder)
    left, right = (unit(encoder.encode_query([row.texts[side] for row in rows])) for side in (0, 1))
    cosines = (left * right).sum(axis=1)
    assert task == spearman(cosines, [row.label for row in rows])
    assert measures["accuracy"] == 1.0
    assert cosines[1::2].max() < threshold < cosines[::2].min() + 1e-6


def test_equal_queries_share_their_positives_and_distractors_are_searched(mini) -> None:
    rows = [Example(("猫", "猫")), Example(("猫", "狗")), Example(("花", "花"))]
    encoder = Encoder(mini, dtype="fp32")
    held_out = HeldOut(rows, Kind.PAIR, ["猫", "公园"], symmetric=True)
    task, fit, measures, threshold = held_out.judge(encoder)
    assert measures["recall_at_1"] == 1.0
    assert 0 < task <= 1
    assert fit < 0
    assert threshold is None


def test_the_general_check_gives_finite_figures(mini) -> None:
    found = general_check(Encoder(mini, dtype="fp32"))
    assert np.isfinite([found.sts, found.ndcg_at_10, found.spread]).all()
    assert found.score == (found.sts + found.ndcg_at_10) / 2


def test_only_what_trains_is_copied(mini) -> None:
    mini.requires_grad_(False)
    mini[0].model.pooler.dense.bias.requires_grad = True
    assert list(trained_weights(mini)) == ["0.model.pooler.dense.bias"]
