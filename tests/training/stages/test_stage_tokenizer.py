"""The stage that trains a tokenizer and makes a new model for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from m3e import load
from m3e.errors import SettingsError
from m3e.files import read_json
from m3e.models.loading import unknown_rate
from m3e.models.scratch import PRESETS
from m3e.records import Kind, Pair
from m3e.training.corpus import sample_texts
from m3e.training.recipe import TokenizerStage
from m3e.training.recipe_file import parse_recipe
from m3e.training.recipe_parts import Base, Rows
from m3e.training.recipe_parts import Shape as RecipeShape
from m3e.training.sources import read_sources, shard_rows
from m3e.training.stages.stage import StageWork
from m3e.training.stages.tokenizer import run, shape_of
from tests.conftest import OLD_POOLING_KEYS
from tests.training.prepared import records, write_prepared

MINI = Base(model="scratch", shape=RecipeShape(layers=2, hidden=32, heads=2), pooling="cls", max_length=64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    sets = {name: records(kind, 90, seed=at) for at, (name, kind) in enumerate(zip("abcd", Kind, strict=True))}
    return write_prepared(folder, sets, shard_rows=25)


def work(data: Path, folder: Path, **options: Any) -> StageWork:
    return StageWork("tokenizer", folder, None, None, data, say=lambda line: None, **options)


def test_a_new_model_of_the_bases_shape(data: Path, tmp_path: Path) -> None:
    done = work(data, tmp_path, from_scratch=MINI)
    report = run(TokenizerStage(stage="tokenizer", vocabulary=7300), done)
    model = load(done.target, device="cpu")
    encoder = model[0].model
    assert (encoder.config.num_hidden_layers, encoder.config.hidden_size) == (2, 32)
    assert encoder.config.vocab_size == len(model.tokenizer) == report.facts["vocabulary"]
    assert model.max_seq_length == 64
    assert model[1].pooling_mode in ("cls", ("cls",), ["cls"])
    assert model.tokenizer.mask_token_id is not None
    assert unknown_rate(model, "今天天气很好，我们去公园。def f(x):\n    return x 😀") == 0
    assert report.facts["unknown_share"] == 0
    assert report.facts["weights"] == sum(value.numel() for value in encoder.parameters())
    assert sum(report.sets.values()) == report.facts["texts"] + report.facts["held_out_texts"]
    assert sorted(report.sets) == list("abcd")
    pooling = read_json(done.target / "1_Pooling" / "config.json")
    assert set(pooling) == OLD_POOLING_KEYS
    assert read_json(done.target / "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_the_seed_decides_weights_and_pieces(data: Path, tmp_path: Path) -> None:
    models = []
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        done = work(data, tmp_path / name, from_scratch=MINI, seed=seed)
        run(TokenizerStage(stage="tokenizer", kind="wordpiece", vocabulary=7300, texts=200), done)
        models.append(load(done.target, device="cpu"))
    weights = [model[0].model.embeddings.position_embeddings.weight for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    vocabularies = [model.tokenizer.get_vocab() for model in models]
    assert vocabularies[0] == vocabularies[1]


def test_a_vocabulary_that_is_too_small(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="vocabulary of 1,000 has no room"):
        run(TokenizerStage(stage="tokenizer", vocabulary=1000), work(data, tmp_path, from_scratch=MINI))
    assert not (tmp_path / "model").exists()


def test_presets_are_known_sizes() -> None:
    assert shape_of(Base(model="scratch")) == PRESETS["tiny"]
    tiny = read_json(Path(__file__).parents[3] / "src/m3e/assets/m3e-tiny/config.json")
    shape = PRESETS["tiny"]
    assert (shape.layers, shape.hidden, shape.heads) == (
        tiny["num_hidden_layers"],
        tiny["hidden_size"],
        tiny["num_attention_heads"],
    )
    with pytest.raises(SettingsError, match="3 heads cannot share a hidden size of 32"):
        shape_of(Base(model="scratch", shape=RecipeShape(layers=1, hidden=32, heads=3)))


def test_a_recipe_with_a_wrong_preset_or_pooling(data: Path, tmp_path: Path) -> None:
    values = {
        "title": "x",
        "base": {"model": "scratch", "preset": "huge"},
        "data": {"folder": "x"},
        "stages": [{"stage": "tokenizer"}],
    }
    with pytest.raises(SettingsError, match=r"r\.toml: base\.preset: Input should be 'tiny', 'small' or 'base'"):
        parse_recipe(values, "r.toml")
    odd = MINI.model_copy(update={"pooling": "sum"})
    with pytest.raises(SettingsError, match=r"base\.pooling is 'sum'"):
        run(TokenizerStage(stage="tokenizer", vocabulary=7300), work(data, tmp_path, from_scratch=odd))


def test_samples_are_different_texts_in_an_order_that_the_seed_decides(data: Path) -> None:
    sources = read_sources(data)
    texts, sets = sample_texts(sources, 10_000, seed=1)
    assert len(texts) == len(set(texts)) == sum(sets.values())
    rows = {
        text
        for each in sources
        for shard in each.shards
        for part in shard_rows(shard, each.kind)
        for text in part.texts
    }
    assert set(texts) == rows
    again, _ = sample_texts(sources, 10_000, seed=1)
    other, _ = sample_texts(sources, 10_000, seed=2)
    assert texts == again
    assert texts != other
    assert sorted(texts) == sorted(other)
    some, parts = sample_texts(sources, 100, seed=1)
    assert len(some) == 100
    assert set(some) <= rows
    shares = {name: count / sum(sets.values()) for name, count in sets.items()}
    assert all(abs(parts[name] - 100 * share) <= 1 for name, share in shares.items())


def test_weights_decide_how_many_texts_a_set_gives(data: Path) -> None:
    sources = read_sources(data)[:2]
    _, even = sample_texts(sources, 100, seed=1)
    _, heavy = sample_texts([replace(sources[0], weight=3.0), sources[1]], 100, seed=1)
    _, without = sample_texts([replace(sources[0], weight=0.0), sources[1]], 100, seed=1)
    assert without == {"b": 100}
    assert heavy["a"] / heavy["b"] == pytest.approx(3 * even["a"] / even["b"], rel=0.15)


def test_a_text_of_two_sets_is_drawn_once(tmp_path: Path) -> None:
    shared = [Pair(f"问题{index}", f"回答{index}") for index in range(20)]
    folder = write_prepared(tmp_path, {"first": shared, "second": [*shared, Pair("另问", "另答")]})
    texts, sets = sample_texts(read_sources(folder), 1000, seed=0)
    assert len(texts) == 42
    assert sets == {"first": 40, "second": 2}


def test_sets_are_chosen_by_the_stages_rows(data: Path, tmp_path: Path) -> None:
    done = work(data, tmp_path, from_scratch=MINI)
    chosen = TokenizerStage(stage="tokenizer", kind="wordpiece", vocabulary=7300, rows=Rows(sets=("a", "c")))
    assert set(run(chosen, done).sets) == {"a", "c"}
    wrong = TokenizerStage(stage="tokenizer", rows=Rows(without=("x",)))
    with pytest.raises(SettingsError, match=r"stages\.tokenizer\.rows\.without names 'x', .* it has: a, b, c, d"):
        run(wrong, done)
