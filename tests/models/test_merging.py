"""Averages of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from m3e import load
from m3e.errors import ModelError
from m3e.models.merging import merge
from tests.conftest import write_mini


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    return {name: write_mini(tmp_path / name, seed=seed) for seed, name in enumerate("abc")}


def loader(folders: dict[str, Path]) -> Any:
    return lambda name: load(folders[name], device="cpu")


def test_every_weight_is_the_weighted_mean(folders: dict[str, Path]) -> None:
    merged = merge({"a": 2, "b": 1, "c": 5}, loader(folders)).state_dict()
    states = [load(folders[name], device="cpu").state_dict() for name in "abc"]
    for name, value in merged.items():
        expected = sum(share * state[name].double() for share, state in zip((2, 1, 5), states, strict=True)) / 8
        assert torch.allclose(value.double(), expected, atol=1e-6), name
    assert not torch.equal(
        states[0]["0.model.encoder.layer.0.output.dense.weight"], merged["0.model.encoder.layer.0.output.dense.weight"]
    )


def test_a_model_with_itself_is_itself_bit_for_bit(folders: dict[str, Path]) -> None:
    merged = merge({"a": 1, "again": 1.7, "once more": 0.3}, lambda name: load(folders["a"], device="cpu"))
    for name, value in load(folders["a"], device="cpu").state_dict().items():
        assert torch.equal(merged.state_dict()[name], value), name


def test_prompts_of_all_come_along_and_the_firsts_win(folders: dict[str, Path]) -> None:
    def with_prompts(name: str) -> Any:
        model = load(folders[name], device="cpu")
        model.prompts = {"query": name, f"{name}-query": "x"}
        return model

    prompts = merge({"b": 1, "a": 1}, with_prompts).prompts
    assert prompts["query"] == "b"
    assert {"a-query", "b-query"} <= prompts.keys()


def test_other_shapes_are_named(tmp_path: Path, folders: dict[str, Path]) -> None:
    folders["wide"] = write_mini(tmp_path / "wide", hidden=48)
    with pytest.raises(ModelError, match=r"a and wide.*word_embeddings\.weight is \(\d+, 32\).*\(\d+, 48\)"):
        merge({"a": 1, "wide": 1}, loader(folders))


def test_other_vocabularies_of_the_same_size_are_named(folders: dict[str, Path]) -> None:
    path = folders["b"] / "tokenizer.json"
    text = path.read_text("utf-8")
    assert '"猫"' in text
    path.write_text(text.replace('"猫"', '"鸟"'), "utf-8")
    with pytest.raises(ModelError, match=r"a and b.*token '(猫|鸟)'"):
        merge({"a": 1, "b": 1}, loader(folders))


def test_other_weights_are_named(folders: dict[str, Path]) -> None:
    def without_pooler(name: str) -> Any:
        model = load(folders[name], device="cpu")
        if name == "b":
            model[0].model.pooler = None
        return model

    with pytest.raises(ModelError, match=r"only one of them has .*pooler\.dense\.weight"):
        merge({"a": 1, "b": 1}, without_pooler)
