from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from m3e.files import read_marker
from m3e.models.folder import save
from tests.conftest import OLD_POOLING_KEYS

TEXTS = ["今天天气很好", "退货怎么办", "a cat"]


def read(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def test_a_saved_folder_has_the_old_names_and_the_same_vectors(mini, tmp_path: Path) -> None:
    folder = save(mini, tmp_path / "model", card="# card\n", step="finetune", base="mini")
    types = [module["type"] for module in read(folder / "modules.json")]
    assert types == [f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Normalize")]
    assert set(read(folder / "1_Pooling" / "config.json")) == OLD_POOLING_KEYS
    assert read(folder / "sentence_bert_config.json") == {"max_seq_length": 64, "do_lower_case": False}
    tokenizer = read(folder / "tokenizer_config.json")
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "backend" not in tokenizer
    assert (folder / "README.md").read_text() == "# card\n"
    assert read_marker(folder) == {"m3e": "finetune", "base": "mini"}
    assert read(folder / "config_sentence_transformers.json")["prompts"] == {"query": "问", "document": "答"}
    again = SentenceTransformer(str(folder), device="cpu")
    assert again.similarity_fn_name == "cosine"
    for name in (None, "query"):
        assert np.abs(again.encode(TEXTS, prompt_name=name) - mini.encode(TEXTS, prompt_name=name)).max() < 1e-5


@pytest.mark.parametrize("mode", ["cls", "max", "weightedmean", "lasttoken", ("max", "mean")])
def test_every_pooling_survives(mini_folder: Path, tmp_path: Path, mode: str | tuple[str, ...]) -> None:
    transformer = Transformer(str(mini_folder), max_seq_length=16)
    pooling = Pooling(32, mode, include_prompt=False)
    model = SentenceTransformer(modules=[transformer, pooling, Normalize()], prompts={"query": "问"}, device="cpu")
    folder = save(model, tmp_path / "model")
    config = read(folder / "1_Pooling" / "config.json")
    later = {"weightedmean": "pooling_mode_weightedmean_tokens", "lasttoken": "pooling_mode_lasttoken"}
    assert set(config) == OLD_POOLING_KEYS | ({later[mode]} if mode in later else set())
    again = SentenceTransformer(str(folder), device="cpu")
    assert again.max_seq_length == 16
    assert np.abs(again.encode(TEXTS, prompt_name="query") - model.encode(TEXTS, prompt_name="query")).max() < 1e-6


def test_saving_twice_replaces_and_keeps_other_files(mini, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save(mini, folder)
    (folder / "notes.txt").write_text("keep")
    save(mini, folder)
    assert (folder / "notes.txt").read_text() == "keep"
    assert not list(tmp_path.glob(".*"))


def test_poolings_joined_in_an_order_that_old_readers_lack_keep_their_vectors(
    mini_folder: Path, tmp_path: Path
) -> None:
    modules = [Transformer(str(mini_folder)), Pooling(32, ("mean", "max")), Normalize()]
    model = SentenceTransformer(modules=modules, device="cpu")
    again = SentenceTransformer(str(save(model, tmp_path / "model")), device="cpu")
    assert np.abs(again.encode(TEXTS) - model.encode(TEXTS)).max() < 1e-6
