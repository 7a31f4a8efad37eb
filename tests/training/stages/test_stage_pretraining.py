"""The stages mlm and retromae: they learn, resume to the same bits, keep the model's pooling, refuse what cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from m3e import load
from m3e.errors import DataError, SettingsError
from m3e.files import read_json, write_json
from m3e.records import Kind, Pair, Record
from m3e.training.recipe import MlmStage, RetroMaeStage
from m3e.training.recipe_parts import Rows, Schedule, Texts, Watch
from m3e.training.stages.stage import StageWork
from m3e.training.stages.table import run_stage
from tests.conftest import pair_rows, write_mini
from tests.training.masked_model import write_masked
from tests.training.prepared import records, write_prepared

STAGES: dict[str, Any] = {"mlm": MlmStage, "retromae": RetroMaeStage}
QUIET = Watch(every=0, log_with=())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    faq: list[Record] = [Pair(**row) for row in pair_rows(120)]
    sets = {"faq": faq, "ranked": records(Kind.RANKED, 20, seed=1), "scored": records(Kind.SCORED_PAIR, 20, seed=2)}
    return write_prepared(tmp_path_factory.mktemp("prepared"), sets, shard_rows=50)


@pytest.fixture
def start(tmp_path: Path) -> Path:
    return write_masked(tmp_path / "start", pooling="cls", prompts={"query": "问"})


def work(name: str, data: Path, folder: Path, model: Path, **options: Any) -> StageWork:
    return StageWork(name, folder, model, model, data, precision="fp32", say=lambda line: None, device="cpu", **options)


def settings(name: str, **changes: Any) -> Any:
    values = {"batch": Texts(size=32), "schedule": Schedule(epochs=8, lr=3e-3), "watch": QUIET, **changes}
    return STAGES[name](stage=name, **values)


@pytest.mark.parametrize("name", list(STAGES))
def test_it_learns_and_keeps_the_models_own_settings(name: str, data: Path, start: Path, tmp_path: Path) -> None:
    done = work(name, data, tmp_path / "stage", start)
    chosen = settings(name, batch=Texts(size=32, max_length=20))
    report = run_stage(chosen, done)
    losses = [loss for _, loss in report.losses]
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])
    before, after = load(start, device="cpu"), load(done.target, device="cpu")
    assert after.state_dict().keys() == before.state_dict().keys()
    changed = [not torch.equal(value, after.state_dict()[key]) for key, value in before.state_dict().items()]
    assert sum(changed) > 0.8 * len(changed)
    assert after.max_seq_length == 64
    assert after.prompts["query"] == "问"
    assert read_json(done.target / "1_Pooling" / "config.json")["pooling_mode_cls_token"]
    assert report.steps == len(losses)
    assert report.rows == sum(report.sets.values()) > 8 * 200
    assert set(report.sets) == {"faq", "ranked", "scored"}
    assert report.tokens > 5 * report.rows
    assert report.facts["prediction head"] == "new"
    assert report.facts["maximum length"] == 20
    assert report.facts["padding"] == 0


@pytest.mark.parametrize("name", list(STAGES))
def test_stopped_and_resumed_it_ends_in_the_same_bits(name: str, data: Path, start: Path, tmp_path: Path) -> None:
    chosen = settings(name, schedule=Schedule(epochs=2, lr=1e-3))
    whole = work(name, data, tmp_path / "whole", start)
    complete = run_stage(chosen, whole)

    def stop(step: int, total: int, loss: float | None) -> None:
        if step == 8:
            raise KeyboardInterrupt

    stopped = work(name, data, tmp_path / "stopped", start, checkpoint_steps=3, on_step=stop)
    with pytest.raises(KeyboardInterrupt):
        run_stage(chosen, stopped)
    assert (tmp_path / "stopped" / "checkpoints" / "checkpoint-6").is_dir()
    assert not stopped.target.exists()
    seen: list[int] = []
    torch.rand(50)  # whatever was drawn before must not matter
    resumed = replace(stopped, resume=True, on_step=lambda step, total, loss: seen.append(step))
    again = run_stage(chosen, resumed)
    assert seen[0] == 7
    expected, found = (load_file(each.target / "model.safetensors") for each in (whole, resumed))
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    assert again.losses == complete.losses


def test_sets_and_texts_are_chosen(data: Path, start: Path, tmp_path: Path) -> None:
    chosen = settings(
        "mlm", rows=Rows(sets=("faq", "scored")), batch=Texts(size=16, cap=40), schedule=Schedule(steps=4)
    )
    report = run_stage(chosen, work("mlm", data, tmp_path / "stage", start))
    assert report.steps == 4
    assert report.rows == 64
    left_out = settings("mlm", rows=Rows(weights={"faq": 0}), schedule=Schedule(steps=4))
    assert run_stage(left_out, work("mlm", data, tmp_path / "other", start)).sets.keys() == {"ranked", "scored"}
    with pytest.raises(SettingsError, match=r"stages\.mlm\.rows\.sets names 'x'"):
        run_stage(settings("mlm", rows=Rows(sets=("x",))), work("mlm", data, tmp_path / "third", start))


def test_looks_see_the_encoder(data: Path, start: Path, tmp_path: Path) -> None:
    watched = settings("mlm", schedule=Schedule(steps=4, lr=1e-3), watch=Watch(every=2, log_with=()))
    report = run_stage(watched, work("mlm", data, tmp_path / "stage", start))
    assert [look["step"] for look in report.looks] == [0, 2, 4]


@pytest.mark.parametrize("name", list(STAGES))
def test_models_that_cannot_be_pretrained(name: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "mini").mkdir()
    write_mini(tmp_path / "mini")
    with pytest.raises(SettingsError, match="tokenizer has no mask token"):
        run_stage(settings(name), work(name, data, tmp_path / "a", tmp_path / "mini"))
    static = tmp_path / "static"
    load("m3e-static", device="cpu").save_pretrained(str(static))
    with pytest.raises(SettingsError, match="static model has no encoder to pre-train"):
        run_stage(settings(name), work(name, data, tmp_path / "b", static))
    with pytest.raises(SettingsError, match="type gpt2 cannot be trained by masked tokens"):
        run_stage(settings(name), work(name, data, tmp_path / "c", _decoder(tmp_path)))
    assert not list(tmp_path.glob("[abc]/model"))


def _decoder(folder: Path) -> Path:
    """A decoder with the miniature's tokenizer and pooling by the last token."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    start = write_masked(folder / "tokenizer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(start))
    config = transformers.GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64)
    transformers.GPT2Model(config).save_pretrained(str(folder / "gpt2"))
    tokenizer.save_pretrained(str(folder / "gpt2"))
    model = SentenceTransformer(modules=[Transformer(str(folder / "gpt2")), Pooling(16, "lasttoken")])
    model.save_pretrained(str(folder / "decoder"))
    return folder / "decoder"


def test_no_text(start: Path, tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "empty", {"faq": [Pair("今", "天")]})
    manifest = read_json(folder / "manifest.json")
    manifest["datasets"][0]["rows_out"] = 0
    write_json(folder / "manifest.json", manifest)
    with pytest.raises(DataError, match="holds no rows to train on"):
        run_stage(settings("mlm"), work("mlm", folder, tmp_path / "stage", start))


def test_a_stage_without_a_model(data: Path, tmp_path: Path) -> None:
    nothing = replace(work("mlm", data, tmp_path, tmp_path), model=None)
    with pytest.raises(SettingsError, match="stage mlm needs a model to start from; put a tokenizer stage before it"):
        run_stage(settings("mlm"), nothing)


def test_the_tokenizer_stages_model_can_be_pretrained(data: Path, tmp_path: Path) -> None:
    from m3e.training.recipe import TokenizerStage
    from m3e.training.recipe_parts import Base, Shape

    base = Base(model="scratch", shape=Shape(layers=1, hidden=32, heads=2), max_length=64)
    first = replace(work("tokenizer", data, tmp_path / "1", tmp_path), model=None, from_scratch=base)
    run_stage(TokenizerStage(stage="tokenizer", vocabulary=7300), first)
    second = work("mlm", data, tmp_path / "2", first.target)
    run_stage(settings("mlm", schedule=Schedule(steps=2)), second)
    third = work("retromae", data, tmp_path / "3", second.target)
    run_stage(settings("retromae", schedule=Schedule(steps=2)), third)
    vectors = load(third.target, device="cpu").encode(["今天天气很好", "def f(x):\n    return x"])
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
