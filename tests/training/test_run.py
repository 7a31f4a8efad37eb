"""A recipe's run: stages in order, nothing done twice, everything that went in on the card."""

from __future__ import annotations

import errno
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer

from m3e import load
from m3e.data.bloom import TextFilter
from m3e.errors import DataError, M3EError, ModelError, SettingsError, TrainingDivergedError
from m3e.files import read_json, read_marker
from m3e.training import run as run_module
from m3e.training import watched_training
from m3e.training.stages.stage import StageReport
from tests.conftest import pair_rows
from tests.training.recipes import recipe, run, stage, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("prepared") / "data")


def same_vectors(first: Path, second: Path) -> bool:
    texts = [row["text"] for row in pair_rows(8)]
    left, right = (SentenceTransformer(str(folder), device="cpu").encode(texts) for folder in (first, second))
    return bool(np.allclose(left, right, atol=1e-6))


def test_stages_follow_one_another(mini_folder: Path, data: Path, tmp_path: Path) -> None:
    made = recipe(
        mini_folder,
        data,
        stage("contrastive", matryoshka={"dims": [16]}, false_negative_margin=0.2, preserve=0.5),
        stage("scored", loss="angle"),
        stage("scored", loss="kl", name="ranked"),
        stage("distil", teacher="base", relational=0.5),
        stage("merge", models={"previous": 3, "base": 1}),
    )
    report = run(made, tmp_path / "out")
    assert list(report.stages) == ["contrastive", "scored", "ranked", "distil", "merge"]
    first = report.stages["contrastive"]
    assert (first.steps, first.rows) == (4, 32)
    assert len(first.losses) == 4
    assert all(np.isfinite(loss) for _, loss in first.losses)
    assert sum(first.sets.values()) == 32
    assert report.stages["distil"].ingredients[0].role == "teacher"
    assert not same_vectors(mini_folder, report.model)
    assert read_marker(report.model)["m3e"] == "train"  # type: ignore[index]
    saved = read_json(tmp_path / "out" / "report.json")
    assert saved["model_dir"] == str(report.model)


def test_the_model_folder_says_what_went_in(mini_folder: Path, data: Path, tmp_path: Path) -> None:
    report = run(recipe(mini_folder, data, stage("contrastive")), tmp_path / "out")
    assert (report.licence, report.commercial) == ("apache-2.0", "yes")
    card = (report.model / "README.md").read_text(encoding="utf-8")
    for said in (
        "license: apache-2.0",
        'SentenceTransformer("FOLDER")  # this one',
        "| data sets | faq, triplets, scored, ranked | Apache-2.0 | yes |",
        "| faq | pair | 64 | 0 | ",
        "Nothing of these was drawn in this run: scored.",
        "contrastive",
        "![losses](loss.svg)",
    ):
        assert said in card
    assert "<polyline" in (report.model / "loss.svg").read_text(encoding="utf-8")
    names = [entry["dataset"] for entry in read_json(report.model / "manifest.json")["datasets"]]
    assert names == ["faq", "triplets", "scored", "ranked"]
    seen = TextFilter.load(report.model / "texts.bloom")
    assert seen.has([row["text"] for row in pair_rows(8)]).all()
    kept = read_json(report.model / "recipe.json")
    assert (kept["title"], kept["data"]["folder"]) == ("mini", "data")  # its name, not where it lies


def test_what_is_done_is_not_done_again(
    mini_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(mini_folder, data, stage("contrastive"), stage("scored"))
    run(made, tmp_path / "out")
    ran: list[str] = []
    real = run_module.run_stage

    def counted(settings: Any, work: Any) -> StageReport:
        ran.append(work.name)
        return real(settings, work)

    monkeypatch.setattr(run_module, "run_stage", counted)
    again = run(made, tmp_path / "out")
    assert (ran, again.reused) == ([], ["contrastive", "scored"])
    assert again.stages["contrastive"].steps == 4
    changed = recipe(mini_folder, data, stage("contrastive"), stage("scored", temperature=0.1))
    run(changed, tmp_path / "out")
    assert ran == ["scored"]
    ran.clear()
    run(recipe(mini_folder, data, stage("contrastive"), stage("scored", temperature=0.1), seed=9), tmp_path / "out")
    assert ran == ["contrastive", "scored"]


@pytest.mark.parametrize(
    ("before", "after", "again"),
    [
        ({"every": 0}, {"every": 2}, False),
        ({"every": 2, "keep_best": True}, {"every": 4, "keep_best": True}, True),
        ({"every": 2}, {"every": 2, "patience": 1}, True),
    ],
)
def test_looks_count_where_they_decide_the_weights(
    mini_folder: Path, data: Path, tmp_path: Path, before: dict[str, Any], after: dict[str, Any], again: bool
) -> None:
    for watch in (before, after):
        made = recipe(mini_folder, data, stage("contrastive", watch={**watch, "log_with": []}))
        report = run(made, tmp_path / "out")
    assert (report.reused == []) == again


def test_a_stage_that_fails_keeps_those_before_it(
    mini_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(mini_folder, data, stage("contrastive"), stage("scored"))
    real = run_module.run_stage

    def full(settings: Any, work: Any) -> StageReport:
        if work.name == "scored":
            raise OSError(errno.ENOSPC, "No space left on device", str(work.folder))
        return real(settings, work)

    monkeypatch.setattr(run_module, "run_stage", full)
    with pytest.raises(M3EError, match=r"stage scored, in .*scored: No space left.*finished stages are kept"):
        run(made, tmp_path / "out")
    monkeypatch.setattr(run_module, "run_stage", real)
    assert run(made, tmp_path / "out").reused == ["contrastive"]


def test_a_checkpoint_that_does_not_fit(
    mini_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's own words for a failed write are a RuntimeError about a stream."""
    monkeypatch.setattr(watched_training, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    made = recipe(mini_folder, data, stage("contrastive"))
    weights = (mini_folder / "model.safetensors").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (weights * 3 // 2, limits[1]))  # the optimizer's state is twice as large
    try:
        with pytest.raises(M3EError, match=r"stage contrastive, in .*: not written .*run again"):
            run(made, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(run(made, tmp_path / "out").stages) == ["contrastive"]


def test_a_loss_that_is_no_number_names_stage_and_rows(mini_folder: Path, data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    endless = stage("contrastive", schedule={"steps": 40, "epochs": 9, "lr": 1e30, "max_grad_norm": 1e30})
    made = recipe(mini_folder, data, {**endless, "watch": {"every": 0, "log_with": [], "most_skipped": 1}})
    with pytest.raises(TrainingDivergedError, match=r"stage contrastive: .* batch \d+ \(\w+, rows .*schedule\.lr"):
        run(made, tmp_path / "out", lines)
    assert any("the step is skipped" in line for line in lines)
    assert any("back to the last sound weights" in line for line in lines)


def test_a_data_set_that_is_not_there(mini_folder: Path, data: Path, tmp_path: Path) -> None:
    made = recipe(mini_folder, data, stage("contrastive", rows={"sets": ["lost"]}))
    with pytest.raises(SettingsError, match=r"stages\.contrastive\.rows\.sets names 'lost'.*it has: faq"):
        run(made, tmp_path / "out")
    made = recipe(mini_folder, data, stage("contrastive", rows={"sets": ["scored"]}))
    with pytest.raises(SettingsError, match="holds scored_pair records; the stage takes pair, triplet, ranked"):
        run(made, tmp_path / "out")
    with pytest.raises(DataError, match=r"data\.folder: there is no folder"):
        run(recipe(mini_folder, tmp_path / "nowhere", stage("contrastive")), tmp_path / "other")


def test_sets_that_hold_keep_the_model_near_its_start(mini_folder: Path, data: Path, tmp_path: Path) -> None:
    texts = [row["text_pos"] for row in pair_rows(16)]
    before = SentenceTransformer(str(mini_folder), device="cpu").encode(texts)
    moved = {}
    for name, hold in (("free", None), ("held", {"sets": ["faq"], "cosine": 300.0, "relational": 30.0})):
        asked = {"sets": ["triplets", "faq"]} if hold else {"sets": ["triplets"]}
        settings = {"rows": asked, "schedule": {"epochs": 4, "lr": 2e-3}, **({"hold": hold} if hold else {})}
        report = run(recipe(mini_folder, data, stage("contrastive", **settings)), tmp_path / name)
        after = SentenceTransformer(str(report.model), device="cpu").encode(texts)
        moved[name] = 1 - float((before * after).sum(axis=1).mean())
    assert moved["held"] < moved["free"] / 2


def test_short_training_leaves_the_length(mini_folder: Path, data: Path, tmp_path: Path) -> None:
    report = run(recipe(mini_folder, data, stage("contrastive", batch={"size": 8, "max_length": 8})), tmp_path / "out")
    assert report.stages["contrastive"].facts["maximum length"] == 8
    assert load(report.model).max_seq_length == load(mini_folder).max_seq_length


def test_a_task_that_is_not_there_is_found_before_training(
    mini_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = stage("contrastive", watch={"every": 1, "tasks": ["lcqmc.dv"], "log_with": []})
    monkeypatch.delenv("M3E_DATA", raising=False)
    with pytest.raises(SettingsError, match=r"stages\.contrastive\.watch\.tasks names lcqmc\.dv, .* set M3E_DATA"):
        run(recipe(mini_folder, data, watched), tmp_path / "out")
    (tmp_path / "tasks").mkdir()
    pq.write_table(
        pa.table({"sentence1": ["a"], "sentence2": ["b"], "label": [1]}), tmp_path / "tasks" / "lcqmc.dev.parquet"
    )
    monkeypatch.setenv("M3E_DATA", str(tmp_path / "tasks"))
    with pytest.raises(SettingsError, match=r"names 'lcqmc\.dv', which .* has not; did you mean lcqmc\.dev\?"):
        run(recipe(mini_folder, data, watched), tmp_path / "out")
    local = {"suite": "local", "tasks": ["afqmc.dev"]}
    with pytest.raises(SettingsError, match=r"evaluation\.tasks names 'afqmc\.dev'"):
        run(recipe(mini_folder, data, stage("contrastive"), evaluation=local), tmp_path / "out")
    with pytest.raises(SettingsError, match=r"evaluation: there is no suite 'm3e'"):
        run(recipe(mini_folder, data, stage("contrastive"), evaluation={"suite": "m3e"}), tmp_path / "out")
    assert not (tmp_path / "out" / "0-base").exists()


def test_a_base_that_is_not_there(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"base\.model"):
        run(recipe(tmp_path / "nowhere", data, stage("contrastive")), tmp_path / "out")


def test_an_adapter_of_the_run(mini_folder: Path, data: Path, tmp_path: Path) -> None:
    made = recipe(mini_folder, data, stage("contrastive", lora={"rank": 4, "alpha": 8}), output={"adapter_rank": 4})
    report = run(made, tmp_path / "out")
    assert report.adapter is not None
    texts = [row["text"] for row in pair_rows(8)]
    whole, adapted = load(report.model, device="cpu"), load(report.adapter, device="cpu")
    assert np.allclose(whole.encode(texts), adapted.encode(texts), atol=2e-3)


def test_the_best_look_is_kept(mini_folder: Path, data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    watched = {"every": 2, "log_with": [], "keep_best": True}
    ruinous = stage("contrastive", schedule={"steps": 6, "lr": 0.5, "warmup": 0.0}, watch=watched)
    report = run(recipe(mini_folder, data, ruinous), tmp_path / "out", lines)
    looks = report.stages["contrastive"].looks
    assert [look["step"] for look in looks] == [0, 2, 4, 6]
    best = max(looks, key=lambda look: look["score"])
    assert report.stages["contrastive"].facts.get("kept step", 6) == best["step"]
    if best["step"] == 0:
        assert same_vectors(mini_folder, report.model)


def test_patience_ends_a_stage(mini_folder: Path, data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    watched = {"every": 1, "log_with": [], "keep_best": True, "patience": 1}
    ruinous = stage("contrastive", schedule={"steps": 8, "lr": 0.5, "warmup": 0.0}, watch=watched)
    report = run(recipe(mini_folder, data, ruinous), tmp_path / "out", lines)
    assert report.stages["contrastive"].steps < 8
    assert any("stopped at step" in line for line in lines)


def test_prompts_of_data_sets_are_trained_and_saved(mini_folder: Path, data: Path, tmp_path: Path) -> None:
    asked = {"faq": {"query": "问：", "document": "答："}}
    made = recipe(mini_folder, data, stage("contrastive", rows={"sets": ["faq"]}, prompts=asked))
    report = run(made, tmp_path / "out")
    prompts = load(report.model, device="cpu").prompts
    assert prompts["faq-query"] == "问："
    assert prompts["faq-document"] == "答："
    with pytest.raises(SettingsError, match=r"stages\.contrastive\.prompts names 'fak'"):
        run(recipe(mini_folder, data, stage("contrastive", prompts={"fak": {"query": "x"}})), tmp_path / "two")


def test_from_scratch(data: Path, mini_folder: Path, tmp_path: Path) -> None:
    base = {"model": "scratch", "preset": "tiny", "max_length": 64}
    made = recipe(
        "scratch",
        data,
        stage("tokenizer", vocabulary=7600),
        stage("static", teacher=str(mini_folder), tokenizer="previous", dim=16),
        stage("distil", teacher=str(mini_folder)),
        base=base,
    )
    report = run(made, tmp_path / "out")
    vectors = SentenceTransformer(str(report.model), device="cpu").encode(["怎么退款", "如何改密码"])
    assert vectors.shape == (2, 16)
    assert np.isfinite(vectors).all()


def test_layers_over_a_static_model(data: Path, mini_folder: Path, tmp_path: Path) -> None:
    made = recipe(
        "scratch",
        data,
        stage("tokenizer", vocabulary=7600),
        stage("static", teacher=str(mini_folder), tokenizer="previous"),
        stage("encoder"),
        stage("distil", teacher=str(mini_folder)),
        base={"model": "scratch", "shape": {"layers": 2, "hidden": 32, "heads": 2}, "max_length": 64},
    )
    report = run(made, tmp_path / "out")
    static, encoder = (load(tmp_path / "out" / name / "model", device="cpu") for name in ("2-static", "3-encoder"))
    bert = encoder[0].model
    texts = ["怎么退款", "如何改密码", "A cat sat on the mat."]
    same = (static.encode(texts, normalize_embeddings=True) * encoder.encode(texts, normalize_embeddings=True)).sum(1)
    assert same.min() > 0.9
    alike = ["怎么退款 改密码", "怎么退款\n改密码", "怎么退款\r\n\t改密码"]
    for model in (static, encoder):
        vectors = model.encode(alike, normalize_embeddings=True)
        assert (vectors[1:] @ vectors[0]).min() > 0.9999
    assert (encoder.max_seq_length, len(bert.encoder.layer)) == (64, 2)
    assert report.stages["encoder"].facts["vocabulary"] == static[0].embedding.num_embeddings
    assert (report.model / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([stage("tokenizer", vocabulary=7600), stage("encoder")], "stage encoder starts from a static model"),
        (
            [
                stage("tokenizer", vocabulary=7600),
                stage("static", teacher="TEACHER", tokenizer="previous", dim=16),
                stage("encoder"),
            ],
            r"stage encoder: the rows to start from are .* of 16 numbers, .* of 32; choose base\.shape\.hidden",
        ),
    ],
)
def test_what_layers_cannot_stand_on(
    stages: list[dict[str, Any]], said: str, data: Path, mini_folder: Path, tmp_path: Path
) -> None:
    stages = [{**each, **({"teacher": str(mini_folder)} if "teacher" in each else {})} for each in stages]
    base = {"model": "scratch", "shape": {"layers": 1, "hidden": 32, "heads": 2}}
    with pytest.raises(SettingsError, match=said):
        run(recipe("scratch", data, *stages, base=base), tmp_path / "out")


def test_another_folder_is_refused(mini_folder: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(M3EError, match="already holds files"):
        run(recipe(mini_folder, data, stage("contrastive")), tmp_path / "out")


def test_batches_that_are_not_there_are_said(mini_folder: Path, data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    rows = {"sets": ["faq"]}
    run(recipe(mini_folder, data, stage("contrastive", rows=rows, schedule={"steps": 50})), tmp_path / "run", lines)
    assert any("8 batches of 8 rows" in line for line in lines)
    assert any("fewer than schedule.steps = 50; schedule.epochs draws them again" in line for line in lines)
