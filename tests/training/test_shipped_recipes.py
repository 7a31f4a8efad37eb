"""Every recipe that ships, from its base to its card, on a miniature base and miniature data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer

from m3e.files import read_json
from m3e.records import Kind, Pair, Record
from m3e.training.recipe import (
    CutStage,
    EncoderStage,
    MergeStage,
    PretrainingStage,
    Recipe,
    StaticStage,
    TokenizerStage,
    TrainedStage,
)
from m3e.training.recipe_file import read_recipe, shipped_recipes
from m3e.training.run import run_recipe
from m3e.training.run_report import RunOptions, RunReport
from tests.conftest import pair_rows
from tests.models.small_decoder import write_decoder
from tests.training.prepared import records, sentence, write_prepared
from tests.training.recipes import recipe, stage, write_data
from tests.training.recipes import run as run_made
from tests.training.small_bert import write_bert

TEXTS = ["怎么退货", "def add(a, b): return a + b"]
STEPS = 3
VOCABULARY = 7_200
DIMENSION = 32


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("shipped") / "bert", hidden=DIMENSION)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of record, code and single texts."""
    random = np.random.default_rng(5)
    faq: list[Record] = [Pair(**row) for row in pair_rows(64)]
    code: list[Record] = [Pair(f"加{n}", f"def add{n}(a):\n    return a + {n}") for n in range(40)]
    sets: dict[str, list[Record] | list[str]] = {
        "faq": faq,
        "code": code,
        "triplets": records(Kind.TRIPLET, 40, seed=1),
        "scored": records(Kind.SCORED_PAIR, 40, seed=2),
        "ranked": records(Kind.RANKED, 40, seed=3),
        "news": [f"{sentence(random)}{n}" for n in range(40)],
    }
    return write_prepared(tmp_path_factory.mktemp("shipped") / "data", sets)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of evaluation files with one small set of scored pairs."""
    folder = tmp_path_factory.mktemp("tasks")
    pairs = [(row["text"], row["text_pos"]) for row in pair_rows(12)]
    columns = {
        "sentence1": [first for first, _ in pairs],
        "sentence2": [second for _, second in pairs],
        "label": [float(number % 4) for number in range(len(pairs))],
    }
    pq.write_table(pa.table(columns), folder / "mini.dev.parquet")
    return folder


def in_miniature(name: str, base: Path, data: Path) -> list[str]:
    """Settings that swap a shipped recipe's base, data and tasks and make its stages small, and nothing else."""
    asked = read_recipe(name)
    lines = ["precision=fp32", f"data={{ folder = '{data}' }}", "evaluation={}"]
    if asked.base.model == "scratch":
        lines.append("base.shape={ layers = 1, hidden = 32, heads = 2 }")
    else:
        lines += [f"base.model={base}", "base.licence=mit", "base.commercial=yes"]
    for number, each in enumerate(asked.stages, start=1):
        lines += [f"stages.{number}.{line}" for line in _small(each, base)]
    return lines


def _small(settings: Any, base: Path) -> list[str]:
    if isinstance(settings, TokenizerStage):
        return [f"vocabulary={VOCABULARY}"]
    if isinstance(settings, MergeStage | CutStage | EncoderStage):
        return []
    lines = []
    if getattr(settings, "teacher", "") == "e5-small":
        lines += [f"teacher={base}", "licence=mit", "commercial=yes"]
    if isinstance(settings, StaticStage):
        return lines
    assert isinstance(settings, TrainedStage | PretrainingStage)
    lines += ["batch.size=8", f"schedule.steps={STEPS}"]
    if settings.watch.tasks:
        lines += ["watch.tasks=['mini.dev']", "watch.every=2"]
    else:
        lines.append("watch.every=0")
    if settings.rows.sets:
        lines.append("rows.sets=['faq', 'triplets']")
    if getattr(settings, "hold", None):
        lines.append("hold.sets=['code', 'news']")
    if getattr(settings, "matryoshka", None):
        lines.append("matryoshka={ dims = [8, 16] }")
    return lines


def run(name: str, base: Path, data: Path, out: Path, *settings: str) -> tuple[Recipe, RunReport]:
    chosen = read_recipe(name, [*in_miniature(name, base, data), *settings])
    return chosen, run_recipe(chosen, RunOptions(out, device="cpu"), say=lambda line: None)


@pytest.mark.parametrize("name", shipped_recipes())
def test_it_runs_from_base_to_card(
    name: str, base: Path, data: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M3E_DATA", str(tasks))
    chosen, report = run(name, base, data, tmp_path / "out")
    assert list(report.stages) == chosen.stage_names
    for settings, done in zip(chosen.stages, report.stages.values(), strict=True):
        if isinstance(settings, TrainedStage | PretrainingStage):
            assert done.steps == STEPS * settings.schedule.epochs
            assert np.isfinite([loss for _, loss in done.losses]).all()
    model = SentenceTransformer(str(report.model), device="cpu")
    vectors = model.encode(TEXTS)
    assert vectors.shape == (2, DIMENSION)
    assert np.isfinite(vectors).all()
    if chosen.base.max_length and chosen.stages[-1].stage != "distil":
        assert model.max_seq_length == chosen.base.max_length
    expected = ("apache-2.0" if name != "m3e-small" else "mit", "yes")
    assert (report.licence, report.commercial) == expected
    card = (report.model / "README.md").read_text(encoding="utf-8")
    assert f"# {name}\n" in card
    assert all(stage_name in card for stage_name in chosen.stage_names)
    assert (report.adapter is not None) == (name == "m3e-small")


def test_the_2023_recipe_has_one_negative_a_row_and_one_direction(base: Path, data: Path, tmp_path: Path) -> None:
    _, report = run("m3e-small-2023", base, data, tmp_path / "out")
    facts = report.stages["contrastive"].facts
    assert facts["learning rate"] == 3e-5
    assert facts["schedule"] == "cosine"
    assert set(report.stages["contrastive"].sets) == {"faq", "code", "triplets", "ranked"}


def test_a_judged_recipe_has_its_figures_and_its_peers_on_the_card(
    base: Path, data: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M3E_DATA", str(tasks))
    judged = f"evaluation={{ suite = 'local', tasks = ['mini.dev'], peers = ['{tmp_path / 'peer'}'] }}"
    from m3e import load
    from m3e.models.folder import save

    save(load(base, device="cpu", pooling="mean"), tmp_path / "peer")
    _, report = run("m3e-commercial", base, data, tmp_path / "out", judged)
    card = (report.model / "README.md").read_text(encoding="utf-8")
    assert [result["model"] for result in report.results] == ["m3e-commercial", str(tmp_path / "peer")]
    assert f"| task | metric | m3e-commercial | {tmp_path / 'peer'} |" in card
    assert "| mini.dev | " in card
    assert report.missing == {}
    saved = read_json(tmp_path / "out" / "report.json")
    assert saved["results"] == report.results


def test_a_decoder_is_tuned_by_adapters(tmp_path: Path) -> None:
    base = {"model": str(write_decoder(tmp_path / "qwen")), "pooling": "lasttoken", "licence": "apache-2.0"}
    lora = stage("contrastive", lora={"rank": 4, "alpha": 8}, batch={"size": 8, "max_length": 32})
    made = recipe("qwen", write_data(tmp_path / "data"), lora, base=base, output={"adapter_rank": 8})
    report = run_made(made, tmp_path / "out")
    model = SentenceTransformer(str(report.model), device="cpu")
    assert model[1].pooling_mode == "lasttoken"
    assert model.tokenizer.padding_side == "left"
    together, alone = model.encode(TEXTS), np.vstack([model.encode([text]) for text in TEXTS])
    assert np.allclose(together, alone, atol=1e-5)
    start = SentenceTransformer(str(tmp_path / "out" / "0-base" / "model"), device="cpu")
    assert np.abs(model.encode(TEXTS) - start.encode(TEXTS)).max() > 1e-3
    assert report.adapter is not None
    assert (report.adapter / "adapter_model.safetensors").is_file()
