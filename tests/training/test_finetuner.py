"""Fine-tuning end to end on the miniature model: kinds, guard, output folders, resume, strategies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, IterableDataset
from sentence_transformers import SentenceTransformer

from m3e import FineTuner, load
from m3e.errors import DataError, OutputExistsError, SettingsError, TrainingDivergedError
from m3e.files import read_marker
from m3e.training import BitFitTraining, LoraTraining, PrefixTraining
from m3e.training.loop import is_time_to_look, newest_checkpoint
from tests.conftest import pair_rows

TEXTS = ["今天天气很好", "退货怎么办", "猫狗", "a cat"]
QUICK: dict[str, Any] = {"say": lambda line: None, "precision": "fp32", "epochs": 2, "batch_size": 16, "evaluations": 1}


def triplet_rows(count: int) -> list[dict[str, str]]:
    return [{**row, "text_neg": f"番茄{index}黄"} for index, row in enumerate(pair_rows(count))]


def scored_rows(count: int) -> list[dict[str, Any]]:
    rows = pair_rows(count)
    return [
        {"sentence1": row["text"], "sentence2": rows[(at * 3) % count]["text_pos"], "label": float(at % 5)}
        for at, row in enumerate(rows)
    ]


def ranked_rows(count: int) -> list[dict[str, Any]]:
    return [
        {"query": row["text"], "pos": [row["text_pos"]], "neg": ["番茄黄", f"阳台{at}"][: at % 3]}
        for at, row in enumerate(pair_rows(count))
    ]


@pytest.mark.parametrize(
    ("rows", "kind", "metric"),
    [
        (pair_rows(40), "pair", "ndcg_at_10"),
        (triplet_rows(40), "triplet", "ndcg_at_10"),
        (scored_rows(40), "scored_pair", "spearman"),
        (ranked_rows(40), "ranked", "ndcg_at_10"),
    ],
    ids=["pair", "triplet", "scored", "ranked"],
)
def test_every_kind_trains_and_says_what_it_did(
    mini, tmp_path: Path, rows: list[dict[str, Any]], kind: str, metric: str
) -> None:
    tuner = FineTuner(mini, rows)
    model = tuner.run(tmp_path / "out", **QUICK)
    result = tuner.report.as_dict()
    assert result["kind"] == kind
    assert result["rows"] == 40
    assert result["metric"] == metric
    assert result["after"] >= result["before"]
    assert all(np.isfinite(value) and value > 0 for value in result["loss"].values())
    again = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert np.abs(again.encode(TEXTS) - model.encode(TEXTS)).max() < 1e-5
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_training_on_learnable_pairs_gets_better(mini, tmp_path: Path) -> None:
    tuner = FineTuner(mini, pair_rows(200))
    tuner.run(tmp_path / "out", **{**QUICK, "epochs": 6, "lr": 3e-3})
    assert tuner.report.after.step > 0
    assert tuner.report.saved.task > tuner.report.before.task + 0.05
    assert "Better at the task" in tuner.report.advice[0]


def test_the_start_comes_back_where_no_step_was_better(mini, tmp_path: Path) -> None:
    before = mini.encode(TEXTS)
    easy = [{"text": row["text"], "text_pos": row["text"] + "的"} for row in pair_rows(20)]
    tuner = FineTuner(mini, pair_rows(12), validation=easy)
    model = tuner.run(tmp_path / "out", **{**QUICK, "lr": 10.0, "epochs": 5})
    assert tuner.report.before.task > 0.75, "a rate of ten leaves nothing of the model, and chance is a fifth"
    assert tuner.report.after.step == 0
    assert tuner.report.saved.task == tuner.report.before.task
    assert np.abs(model.encode(TEXTS) - before).max() < 1e-6


def test_a_loss_that_is_not_a_number_names_rate_and_step(mini, tmp_path: Path) -> None:
    with torch.no_grad():
        mini[0].model.embeddings.word_embeddings.weight[7:] = float("nan")
    with pytest.raises(TrainingDivergedError, match=r"at step 1 with learning rate 0\.001"):
        FineTuner(mini, pair_rows(12)).run(tmp_path / "out", **{**QUICK, "lr": 1e-3})
    assert not (tmp_path / "out").exists()


def test_a_foreign_folder_is_refused_before_the_work(mini, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep")
    tuner = FineTuner(mini, pair_rows(12))
    with pytest.raises(OutputExistsError, match="--overwrite"):
        tuner.run(tmp_path, **QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    tuner.run(tmp_path, overwrite=True, **QUICK)
    assert (tmp_path / "notes.txt").read_text() == "keep"
    assert load(tmp_path).encode(TEXTS).shape == (4, 32)


def test_our_own_folder_is_replaced(mini, tmp_path: Path) -> None:
    tuner = FineTuner(mini, pair_rows(12))
    tuner.run(tmp_path / "out", **QUICK)
    tuner.run(tmp_path / "out", **QUICK)
    assert read_marker(tmp_path / "out")["m3e"] == "finetune"


def test_a_failed_run_leaves_the_model_that_was_there(mini, tmp_path: Path) -> None:
    tuner = FineTuner(mini, pair_rows(12))
    model = tuner.run(tmp_path / "out", **QUICK)
    expected = model.encode(TEXTS)
    with torch.no_grad():
        model[0].model.embeddings.word_embeddings.weight[7:] = float("nan")
    with pytest.raises(TrainingDivergedError):
        tuner.run(tmp_path / "out", **QUICK)
    assert np.abs(load(tmp_path / "out").encode(TEXTS) - expected).max() < 1e-6
    assert read_marker(tmp_path / "out")["m3e"] == "finetune"


class KilledError(Exception):
    """Stands for a kill: the run stops between two steps and cleans nothing up."""


@pytest.mark.parametrize("strategy", ["full", "lora"])
@pytest.mark.parametrize("rows", [pair_rows(60), scored_rows(60)], ids=["pair", "scored"])
def test_a_resumed_run_ends_in_the_weights_of_an_uninterrupted_one(
    mini_folder: Path, tmp_path: Path, rows: list[dict[str, Any]], strategy: str
) -> None:
    settings = {**QUICK, "epochs": 4, "evaluations": 2, "checkpoint_steps": 3, "lr": 1e-3, "keep_checkpoints": 2}
    if strategy == "lora":
        settings["strategy"] = LoraTraining(rank=4, dropout=0.1)

    def stop(step: int, total: int, loss: float | None) -> None:
        if step == 8:
            raise KilledError

    whole = FineTuner(str(mini_folder), rows, device="cpu").run(tmp_path / "whole", **settings)
    with pytest.raises(KilledError):
        FineTuner(str(mini_folder), rows, device="cpu").run(tmp_path / "stopped", on_step=stop, **settings)
    assert newest_checkpoint(tmp_path / "stopped" / "checkpoints").name == "checkpoint-6"
    tuner = FineTuner(str(mini_folder), rows, device="cpu")
    resumed = tuner.run(tmp_path / "stopped", resume=True, **settings)
    for (name, left), (_, right) in zip(whole.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(left, right), name
    assert len(tuner.report.as_dict()["loss"]) == 2


def test_a_run_with_other_data_is_not_resumed(mini_folder: Path, tmp_path: Path) -> None:
    def stop(step: int, total: int, loss: float | None) -> None:
        if step == 3:
            raise KilledError

    settings = {**QUICK, "checkpoint_steps": 2}
    with pytest.raises(KilledError):
        FineTuner(str(mini_folder), pair_rows(40)).run(tmp_path / "out", on_step=stop, **settings)
    with pytest.raises(SettingsError, match="--resume"):
        FineTuner(str(mini_folder), pair_rows(41)).run(tmp_path / "out", resume=True, **settings)
    with pytest.raises(SettingsError, match="--resume"):
        FineTuner(str(mini_folder), pair_rows(40)).run(tmp_path / "out", resume=True, **{**settings, "lr": 0.1})


def test_an_unreadable_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step, text in ((2, '{"global_step": 2}'), (4, '{"global_st'), (6, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if text:
            (folder / "trainer_state.json").write_text(text)
    assert newest_checkpoint(tmp_path).name == "checkpoint-2"
    assert newest_checkpoint(tmp_path / "absent") is None


def test_merging_averages_with_the_start(mini_folder: Path, tmp_path: Path) -> None:
    settings = {**QUICK, "epochs": 6, "lr": 3e-3}
    start = dict(load(mini_folder).named_parameters())
    tuned = dict(FineTuner(str(mini_folder), pair_rows(200)).run(tmp_path / "tuned", **settings).named_parameters())
    tuner = FineTuner(str(mini_folder), pair_rows(200))
    merged = tuner.run(tmp_path / "merged", merge=0.5, **settings)
    assert tuner.report.merged is not None
    for name, value in merged.named_parameters():
        assert torch.allclose(value, (start[name] + tuned[name]) / 2, atol=1e-6), name
    assert "merged" in (tmp_path / "merged" / "README.md").read_text()


def test_bitfit_changes_biases_only(mini_folder: Path, tmp_path: Path) -> None:
    start = dict(load(mini_folder).named_parameters())
    tuned = FineTuner(str(mini_folder), pair_rows(100)).run(
        tmp_path / "out", **{**QUICK, "strategy": BitFitTraining(), "lr": 0.01, "epochs": 5}
    )
    changed = {name for name, value in tuned.named_parameters() if not torch.equal(value, start[name])}
    assert changed
    assert all("bias" in name for name in changed)
    assert all(parameter.requires_grad for parameter in tuned.parameters())


def test_bitfit_without_a_match_is_refused(mini, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="adapter"):
        FineTuner(mini, pair_rows(12)).run(tmp_path / "out", **QUICK, strategy=BitFitTraining("adapter"))
    assert not (tmp_path / "out").exists()


def test_lora_leaves_a_plain_model(mini_folder: Path, tmp_path: Path) -> None:
    start = load(mini_folder)
    tuned = FineTuner(str(mini_folder), pair_rows(100)).run(
        tmp_path / "out", **{**QUICK, "strategy": LoraTraining(rank=4), "lr": 0.02, "epochs": 5}
    )
    assert [name for name, _ in tuned.named_parameters()] == [name for name, _ in start.named_parameters()]
    assert not list((tmp_path / "out").glob("adapter*"))
    assert np.abs(tuned.encode(TEXTS) - start.encode(TEXTS)).max() > 1e-4


def test_prefix_tokens_alone_train_and_become_the_query_prompt(mini_folder: Path, tmp_path: Path) -> None:
    start = load(mini_folder)
    rows = pair_rows(100)
    strategy = PrefixTraining(["[faq]", "[zh]"])
    tuned = FineTuner(str(mini_folder), rows).run(
        tmp_path / "out", **{**QUICK, "strategy": strategy, "lr": 0.05, "epochs": 5}
    )
    old = start[0].model.embeddings.word_embeddings.weight
    new = tuned[0].model.embeddings.word_embeddings.weight
    assert len(new) == len(old) + 2
    assert torch.equal(new[: len(old)], old)
    again = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert again.prompts["query"] == "[faq][zh]问"
    assert "[faq]" in again.tokenizer.tokenize("[faq][zh]今天")
    others = {name for name, value in tuned.named_parameters() if "word_embeddings" not in name}
    before = dict(start.named_parameters())
    assert all(torch.equal(dict(tuned.named_parameters())[name], before[name]) for name in others)
    assert rows == pair_rows(100), "the user's rows must stay as they were"


def test_gradient_caching_gives_the_same_weights(mini_folder: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    settings = {**QUICK, "epochs": 2, "lr": 1e-3}
    models = []
    for name, size in (("plain", None), ("cached", 4)):
        model = load(mini_folder, device="cpu")
        model[0].model.config.hidden_dropout_prob = 0
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        models.append(FineTuner(model, pair_rows(60)).run(tmp_path / name, **settings, mini_batch_size=size))
    plain, cached = (model.encode(TEXTS) for model in models)
    assert np.abs(plain - cached).max() < 1e-4


@pytest.mark.parametrize(
    "make",
    [
        Dataset.from_list,
        lambda rows: DatasetDict({"train": Dataset.from_list(rows), "validation": Dataset.from_list(rows[:10])}),
        lambda rows: IterableDataset.from_generator(lambda: iter(rows)),
        lambda rows: {"train": rows, "dev": rows[:10]},
        iter,
    ],
    ids=["dataset", "dataset dict", "iterable dataset", "dict", "iterator"],
)
def test_data_sets_of_every_form(mini, tmp_path: Path, make: Any) -> None:
    tuner = FineTuner(mini, make(pair_rows(40)))
    tuner.run(tmp_path / "out", **QUICK)
    assert tuner.report.rows == 40


def test_validation_rows_of_another_kind_are_refused(mini, tmp_path: Path) -> None:
    tuner = FineTuner(mini, pair_rows(20), validation=scored_rows(10))
    with pytest.raises(DataError, match="scored_pair"):
        tuner.run(tmp_path / "out", **QUICK)


def test_the_wanted_kind_is_checked(mini) -> None:
    with pytest.raises(DataError, match="triplet"):
        FineTuner(mini, pair_rows(20), record_type="triplet")


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ({"batch_size": 1}, "batch size 1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": -1.0}, "learning rate"),
        ({"merge": 2.0}, "merge is 2"),
        ({"schedule": "step"}, "linear or cosine"),
        ({"precision": "fp8"}, "fp8"),
        ({"precision": "fp16"}, "GPU"),
        ({"max_length": 100_000}, "64 positions"),
        ({"temperature": 0}, "temperature"),
        ({"warmup": -0.5}, "warmup"),
    ],
)
def test_settings_out_of_range_are_refused(mini, tmp_path: Path, setting: dict[str, Any], part: str) -> None:
    with pytest.raises(SettingsError, match=part):
        FineTuner(mini, pair_rows(20)).run(tmp_path / "out", **{**QUICK, **setting})
    assert not (tmp_path / "out").exists()


def test_long_texts_are_cut_and_counted(mini, tmp_path: Path) -> None:
    rows = [*pair_rows(20), {"text": "猫" * 100, "text_pos": "狗" * 7}]
    tuner = FineTuner(mini, rows)
    tuner.run(tmp_path / "out", **QUICK, max_length=8)
    assert tuner.report.cut == 20 + 2  # each answer has more than six characters
    assert json.loads((tmp_path / "out" / "sentence_bert_config.json").read_text())["max_seq_length"] == 8


def test_the_card_says_what_went_in(mini_folder: Path, tmp_path: Path) -> None:
    tuner = FineTuner(str(mini_folder), scored_rows(40))
    tuner.run(tmp_path / "out", **QUICK)
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "40 scored pair records" in card
    assert "| held-out spearman |" in card
    assert f"{tuner.report.saved.threshold:.4f}" in card
    assert "CoSENT" in card


@pytest.mark.parametrize(("total", "evaluations", "steps"), [(3, 5, [3]), (60, 2, [20, 40, 60]), (25, 9, [10, 20, 25])])
def test_when_the_guard_looks(total: int, evaluations: int, steps: list[int]) -> None:
    assert [step for step in range(1, total + 1) if is_time_to_look(step, total, evaluations)] == steps
